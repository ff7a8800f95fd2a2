"""Why a child failed, in words with a remedy."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

CHOOSE_INTERPRETER = _('Choose another Python under "Advanced", or Slicer\'s own.')
INSTALL = _('Press "Install packages..." under "Advanced", or choose another Python there, or Slicer\'s own.')
LESS_MEMORY = _("Choose fewer slices or a region, a smaller model, or close other programs.")
REPORT = _("Copy the log and report it.")

_REMEDIES = {"MissingPackage": INSTALL, "OutOfMemory": LESS_MEMORY, "Unexpected": REPORT}
_CRASHES = {0xC0000005: _("a forbidden memory access"), 0xC0000135: _("a missing library")}
_SAYS_MEMORY = re.compile(
    r"MemoryError|out of memory|(cannot|can't|failed to) allocate|bad_alloc|failed to map segment", re.I
)
_SAYS_MISSING = re.compile(r"No module named '?([\w.]+)'?")
_NO_MEMORY = _("the program that runs the model ran out of memory")
_STATUS = 1 << 31


@dataclass(frozen=True)
class Failure:
    """One sentence on the cause, what kind it is, and one sentence on what to do; the last may be empty."""

    message: str
    kind: str
    remedy: str = ""


def reported(message: str, kind: str) -> Failure:
    """What the child itself reported; its own sentences name the remedy already, but for some kinds."""
    if kind != "OutOfMemory" and _SAYS_MEMORY.search(message):
        # a library said so in its own words, such as ITK's std::bad_alloc while it reads
        message, kind = _NO_MEMORY, "OutOfMemory"
    if kind == "MissingPackage":
        message = message.partition("; install it")[0]  # by a button, not in a shell
    message = message or _("the model's program failed without a reason")
    return Failure(message, kind or "Unexpected", _REMEDIES.get(kind, ""))


def not_started(path: str, error: OSError) -> Failure:
    """The interpreter itself could not be started."""
    if isinstance(error, FileNotFoundError):
        cause = _("the Python interpreter {path} does not exist").format(path=path)
    elif isinstance(error, PermissionError):
        cause = _("the Python interpreter {path} is not executable").format(path=path)
    else:
        cause = _("the Python interpreter {path} cannot be started ({reason})")
        cause = cause.format(path=path, reason=error.strerror or error)
    return Failure(cause, "Interpreter", CHOOSE_INTERPRETER)


def silent(path: str, seconds: float) -> Failure:
    """It runs and says nothing."""
    cause = _("{path} did not answer within {seconds:.0f} s").format(path=path, seconds=seconds)
    return Failure(cause, "Interpreter", _('Choose another Python under "Advanced", or Slicer\'s own, and try again.'))


def ended(exit_code: int, error_tail: Sequence[str], answered: bool, path: str) -> Failure:
    """It ended without a result and without saying why.

    Args:
        exit_code: below 0 where a signal ended it.
        error_tail: the last lines of its standard error.
        answered: whether it had said hello.
        path: of the interpreter.
    """
    text = "\n".join(error_tail)
    words = " / ".join(error_tail[-3:])
    last = " " + _("Its last words: {words}").format(words=words) if words else ""
    missing = _SAYS_MISSING.search(text)
    if exit_code == -getattr(signal, "SIGKILL", 9):
        cause = _("the system ended the program that runs the model, most often because memory ran out")
        return Failure(cause, "Killed", LESS_MEMORY)
    if _SAYS_MEMORY.search(text) or exit_code & 0xFFFFFFFF == 0xC0000017:
        return Failure(_NO_MEMORY, "OutOfMemory", LESS_MEMORY)
    if missing:
        cause = _("the package {name} is missing in {path}").format(name=missing.group(1), path=path)
        return Failure(cause, "MissingPackage", INSTALL)
    if exit_code < 0 or exit_code >= _STATUS:
        how = _CRASHES.get(exit_code & 0xFFFFFFFF) or _("signal {number}").format(number=-exit_code)
        cause = _("the program that runs the model crashed ({how}).").format(how=how)
        return Failure(cause + last, "Crashed", _('Try the device cpu, or another Python under "Advanced".'))
    if not answered:
        cause = _("{path} could not run the model's program (exit status {status}).")
        return Failure(cause.format(path=path, status=exit_code) + last, "Interpreter", CHOOSE_INTERPRETER)
    cause = _("the model's program ended without a result (exit status {status}).").format(status=exit_code)
    return Failure(cause + last, "NoResult", REPORT)
