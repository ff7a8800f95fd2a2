"""Errors a user can cause or mend: each message is one sentence that names the cause and the remedy."""

from __future__ import annotations

import re

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|failed to allocate memory|bad[ _]alloc|STATUS_ALLOC_FAILED", re.I
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

    def __init__(self, cause: str = "the device ran out of memory") -> None:
        super().__init__(f"{cause}; try --batch-size 1, --slices A:B, or --device cpu")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device ran out of memory, whichever library noticed."""
    if isinstance(error, (MemoryError, OutOfMemory)):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))
