"""A cause and a remedy in, an error of one sentence out: those that a user can cause or mend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_OUT_OF_MEMORY = re.compile(
    r"out of memory|(can't|cannot|failed to) allocate memory|not enough memory|paging file is too small|bad[ _]alloc"
    r"|STATUS_ALLOC_FAILED",
    re.I,
)


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
