"""Why a child failed, in words with a remedy."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

CHOOSE_INTERPRETER = 'choose another Python under "Advanced", or Slicer\'s own'
INSTALL = 'press "Install packages..." under "Advanced", or ' + CHOOSE_INTERPRETER
LESS_MEMORY = "choose fewer slices or a region, a smaller model, or close other programs"

_REMEDIES = {
    "MissingPackage": INSTALL,
    "OutOfMemory": LESS_MEMORY,
    "Unexpected": "copy the log and report it",
}
_CRASHES = {0xC0000005: "a forbidden memory access", 0xC0000017: "too little memory", 0xC0000135: "a missing library"}
_SAYS_MEMORY = re.compile(
    r"MemoryError|out of memory|(cannot|can't|failed to) allocate|bad_alloc|failed to map segment", re.I
)
_SAYS_MISSING = re.compile(r"No module named '?([\w.]+)'?")
_NO_MEMORY = "the program that runs the model ran out of memory"
_STATUS = 1 << 31


@dataclass(frozen=True)
class Failure:
    """One sentence on the cause, what kind it is, and one sentence on what to do; the last may be empty."""

    message: str
    kind: str
    remedy: str = ""


def told(message: str, kind: str) -> Failure:
    """What the child itself said was wrong; its own sentences name the remedy already, but for some kinds."""
    if kind != "OutOfMemory" and _SAYS_MEMORY.search(message):
        # a library said so in its own words, such as ITK's std::bad_alloc while it reads
        message, kind = _NO_MEMORY, "OutOfMemory"
    remedy = _REMEDIES.get(kind, "")
    if kind == "MissingPackage":
        message = message.partition("; install it")[0]  # by a button, not in a shell
    return Failure(message or "the model's program failed without a reason", kind or "Unexpected", _sentence(remedy))


def not_started(path: str, error: OSError) -> Failure:
    """The interpreter itself could not be started."""
    if isinstance(error, FileNotFoundError):
        cause = f"the Python interpreter {path} does not exist"
    elif isinstance(error, PermissionError):
        cause = f"the Python interpreter {path} is not executable"
    else:
        cause = f"the Python interpreter {path} cannot be started ({error.strerror or error})"
    return Failure(cause, "Interpreter", _sentence(CHOOSE_INTERPRETER))


def silent(path: str, seconds: float) -> Failure:
    """It runs and says nothing."""
    cause = f"{path} did not answer within {seconds:.0f} s"
    return Failure(cause, "Interpreter", _sentence(CHOOSE_INTERPRETER + " and try once more"))


def ended(exit_code: int, error_tail: Sequence[str], answered: bool, path: str) -> Failure:
    """It ended without a result and without saying why.

    Args:
        exit_code: below 0 where a signal ended it.
        error_tail: the last lines of its standard error.
        answered: whether it had said hello.
        path: of the interpreter.
    """
    text = "\n".join(error_tail)
    last = f" Its last words: {' / '.join(error_tail[-3:])}" if error_tail else ""
    missing = _SAYS_MISSING.search(text)
    if exit_code == -getattr(signal, "SIGKILL", 9):
        cause = "the system ended the program that runs the model, most often because memory ran out"
        return Failure(cause, "Killed", _sentence(LESS_MEMORY))
    if _SAYS_MEMORY.search(text) or exit_code & 0xFFFFFFFF == 0xC0000017:
        return Failure(_NO_MEMORY, "OutOfMemory", _sentence(LESS_MEMORY))
    if missing:
        cause = f"the package {missing.group(1)} is missing in {path}"
        return Failure(cause, "MissingPackage", _sentence(INSTALL))
    if exit_code < 0 or exit_code >= _STATUS:
        how = _CRASHES.get(exit_code & 0xFFFFFFFF) or f"signal {-exit_code}"
        cause = f"the program that runs the model crashed ({how}).{last}"
        return Failure(cause, "Crashed", _sentence("try the device cpu, or " + CHOOSE_INTERPRETER))
    if not answered:
        cause = f"{path} could not run the model's program (exit status {exit_code}).{last}"
        return Failure(cause, "Interpreter", _sentence(CHOOSE_INTERPRETER))
    cause = f"the model's program ended without a result (exit status {exit_code}).{last}"
    return Failure(cause, "NoResult", _sentence("copy the log and report it"))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""
