"""The environment in, the user folder of installed bundles out; ``DIFFMA_HOME`` puts it elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from DiffMaCore.files import refused

CATALOGUE = "catalogue.json"
"""Of an institution's own models, in the user's folder."""
IN_STORE = " with DIFFMA_HOME"
"""How another place is chosen for the store, in sentences of :mod:`DiffMaCore.files`."""


def home() -> Path:
    """The user's folder: ``DIFFMA_HOME`` if set, else where this platform keeps users' data."""
    if chosen := os.environ.get("DIFFMA_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "DiffMa"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "DiffMa"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "diffma"


def models_folder() -> Path:
    """Where bundles are installed (it may not exist yet)."""
    return home() / "models"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Within the block no other process is in a block of this name; whatever ends a process ends its block.

    The file is removed with the lock, so a third process may slip in with one that waited for it: this spares two
    processes the same work, and nothing must be lost where it does not.
    """
    from filelock import FileLock

    path = models_folder() / f".{name}.lock"
    with refused(path.parent, IN_STORE):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            path.unlink()
        lock.release()
