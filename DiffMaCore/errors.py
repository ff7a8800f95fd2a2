"""A cause and a remedy in, an error of one sentence out; any exception in, a sentence and a kind for programs out."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_OUT_OF_MEMORY = re.compile(
    r"out of memory|(can't|cannot|failed to) allocate memory|not enough memory|paging file is too small|bad[ _]alloc"
    r"|STATUS_ALLOC_FAILED",
    re.I,
)

_PIP_NAMES = {
    "PIL": "pillow",
    "open_clip": "open_clip_torch",
    "yaml": "PyYAML",
    "skimage": "scikit-image",
    "mamba_ssm": "mamba-ssm",
    "causal_conv1d": "causal-conv1d",
}

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a full disk or lost rights say, wherever that is noticed."""


class DiffMaError(Exception):
    """Base of every error shown to a user without a traceback."""


class InputError(DiffMaError):
    """The given volume, mask, slice range or argument cannot be used."""


class ModelError(DiffMaError):
    """A model bundle or weights file is unknown, incomplete, damaged or does not fit."""


class BackendError(DiffMaError):
    """A named device or selective-scan back end cannot run on this machine."""


class OutputError(DiffMaError):
    """The result cannot be written where it was asked for."""


class TrainingError(DiffMaError):
    """A training run cannot go on: a loss or gradient is not finite."""


class OutOfMemory(BackendError):
    """The machine or the device ran out of memory."""

    def __init__(
        self,
        cause: str = "the device ran out of memory",
        remedy: str = "try --batch-size 1, --slices A:B, or --device cpu",
    ) -> None:
        super().__init__(f"{cause}; {remedy}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device ran out of memory, whichever library noticed."""
    if isinstance(error, (MemoryError, OutOfMemory)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Within the block ``what`` is loaded; too little memory becomes OutOfMemory, whatever a library made of it.

    Raises:
        OutOfMemory: in place of any error that began with a lack of memory.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if is_out_of_memory(cause):
                raise OutOfMemory(
                    f"the memory was not enough to load {what}", "close other programs, or take a smaller model"
                ) from error
            cause = cause.__cause__ or cause.__context__
        raise


@dataclass(frozen=True)
class Failure:
    """An error as a user or a program reads it."""

    message: str  # one sentence with cause and remedy
    kind: str  # the class of a DiffMaError, or OutOfMemory, MissingPackage, Cancelled or Unexpected
    package: str | None = None  # with MissingPackage, what pip calls it
    trace: str = ""  # the traceback, where it tells something that the message does not


def explain(error: BaseException) -> Failure:
    """The kind of any error, and its sentence."""
    if isinstance(error, KeyboardInterrupt):
        return Failure(str(error) or "cancelled; nothing half-written was left behind", "Cancelled")
    if is_out_of_memory(error):
        return Failure(str(error if isinstance(error, OutOfMemory) else OutOfMemory()), "OutOfMemory")
    if isinstance(error, DiffMaError):
        return Failure(str(error), type(error).__name__)
    missing = _missing_package(error)
    if missing is not None:
        return missing
    if isinstance(error, OSError) and error.errno in _REFUSED:
        what = error.filename or "a file"
        remedy = "free some room on its drive, or choose a place that you may read and write"
        return Failure(f"{what} cannot be used ({error.strerror}); {remedy}", "OutputError")
    message = f"something unexpected went wrong ({_reason(error)}); the log tells where"
    return Failure(message, "Unexpected", trace=_trace(error))


def _missing_package(error: BaseException) -> Failure | None:
    """A package that is not installed, or whose own code cannot be imported (a broken or unfit installation)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name and not _is_ours(cause.name):
            package = pip_name(cause.name)
            remedy = f"install it with `python -m pip install {package}`"
            return Failure(f"the package {package} is not installed; {remedy}", "MissingPackage", package)
        cause = cause.__cause__
    broken = _imported_when(error)
    if broken is None:
        return None
    package = pip_name(broken)
    remedy = f"install it again with `python -m pip install --force-reinstall {package}`"
    message = f"the package {package} cannot be imported ({_reason(error)}); {remedy}"
    return Failure(message, "MissingPackage", package, _trace(error))


def _imported_when(error: BaseException) -> str | None:
    """The package of others that was being imported, by one of ours, when the error was raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if _is_ours(_module(frame)):
            break
        if frame.f_code.co_name == "<module>":
            return _module(frame)
    name = error.name if isinstance(error, ImportError) else None  # a name that an older version lacks
    return name if name and not _is_ours(name) else None


def pip_name(module: str) -> str:
    """What pip calls the package of a module."""
    top = module.partition(".")[0]
    return _PIP_NAMES.get(top, top)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "DiffMaCore"


def _reason(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
