"""The environment in, the user folder of installed bundles out; ``DIFFMA_HOME`` puts it elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from DiffMaCore.errors import OutputError

CATALOGUE = "catalogue.json"
"""Of an institution's own models, in the user's folder."""
_RESERVE = 16 << 20
_FRESH = 60  # seconds


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
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder inside of ``parent`` (the store), so that what is made there can be moved into place in one step.

    What a process that was killed has left of its own goes first. Raises OutputError where nothing can be written.
    """
    from filelock import FileLock  # not where an interpreter lacks packages and is asked which

    parent = parent or models_folder()
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(".incoming-*/.lock"):
            _remove_if_left(left)
        folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=parent))
        lock = FileLock(folder / ".lock")
        lock.acquire()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(lock: Path) -> None:
    """Remove the folder of a lock that nobody holds; a fresh one may be about to be locked."""
    from filelock import FileLock, Timeout

    with suppress(OSError, Timeout):
        if time.time() - lock.parent.stat().st_mtime > _FRESH:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.parent, ignore_errors=True)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Within the block no other process is in a block of this name; whatever ends a process ends its block.

    The file is removed with the lock, so a third process may slip in with one that waited for it: this spares two
    processes the same work, and nothing must be lost where it does not.
    """
    from filelock import FileLock

    path = models_folder() / f".{name}.lock"
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            path.unlink()
        lock.release()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell what the file system refuses within the block as an OutputError that names ``folder``."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}): check its rights and free some room, or set"
            " DIFFMA_HOME to another folder of yours."
        ) from None


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder ``new`` in the place of ``target``, if that is there; :func:`restore` mends a loss in between."""
    restore(target)
    if target.exists():
        target.rename(_saved(target))
    try:
        new.rename(target)
    finally:
        restore(target)


def restore(target: Path) -> None:
    """Finish what a process began that was killed in :func:`replace_folder`: the new folder, or the old one."""
    if not (saved := _saved(target)).is_dir():
        return
    if target.exists():
        shutil.rmtree(saved, ignore_errors=True)
    else:
        saved.rename(target)


def _saved(target: Path) -> Path:
    return target.with_name(f".replaced-{target.name}")


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
