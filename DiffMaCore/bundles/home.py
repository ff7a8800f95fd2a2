"""The user folder that holds installed bundles; ``DIFFMA_HOME`` puts it elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from DiffMaCore.errors import OutputError

_RESERVE = 16 << 20


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
def temporary_folder() -> Iterator[Path]:
    """A folder inside of the store, so that what is made there can be moved into place in one step."""
    parent = models_folder()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=parent))
    except OSError as error:
        raise OutputError(
            f"{parent} cannot be written ({error.strerror}): set DIFFMA_HOME to a folder of yours."
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_room(needed: int, folder: Path | None = None) -> None:
    """Raise OutputError when the disk of ``folder`` (the store) lacks ``needed`` bytes and a small reserve."""
    folder = folder or models_folder()
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + _RESERVE:
        raise OutputError(
            f"{folder} has {free / 1e6:.0f} MB free where {needed / 1e6:.0f} MB are needed: free"
            " some room or set DIFFMA_HOME to a folder on another disk."
        )
