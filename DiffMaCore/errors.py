"""Errors a user can cause or mend: each message is one sentence that names the cause and the remedy."""

from __future__ import annotations


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
