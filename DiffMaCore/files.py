"""Files and folders that appear whole or not at all, room on the disk for them, and what is said where it refuses."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from DiffMaCore.errors import DiffMaError, OutputError
from DiffMaCore.progress import Reporter

HIDDEN = ".diffma-"
"""How the names of all begin that is still being written."""


def _where_processes_are_numbered() -> str:
    """The machine, and on Linux the container: its processes are not seen from another one that shares a folder."""
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  pathlib wants a path behind it
    except OSError:
        return platform.node()


_HOST = f"{zlib.crc32(_where_processes_are_numbered().encode()):08x}"
_START = os.urandom(4).hex()  # an earlier process may have had this one's number
_NAME = re.compile(r"\.diffma-([0-9a-f]{8})-(\d{1,9})-([0-9a-f]{8})\.(part|old)\..*")
_DAY = 86400  # seconds
_RESERVE = 16 << 20  # bytes left for everything small
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_WORDS = re.compile(r"os error (28|112|122)\b")  # as safetensors tells of it
_MORE_ROOM = "free some room or choose another folder"


class Together:
    """Files and folders that are written one after the other, and appear when all are: in this order, or none of them.

    Each is written under a hidden name of this process's own next to it.
    """

    def __init__(self) -> None:
        self._written: list[tuple[Path, Path]] = []

    def __enter__(self) -> Together:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for part, path in self._written if kind is None else ():
                with refused(path):
                    _put(part, path)
        finally:
            for part, _path in self._written:
                _remove(part)

    @contextmanager
    def writing(self, path: Path, extension: str = "") -> Iterator[Path]:
        """The name, which ends in ``extension``, to write ``path`` under; its folder is made.

        OutputError tells why it cannot be written.
        """
        part = _hidden(path, "part", extension)
        self._written.append((part, path))
        with refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_left(path.parent)
            yield part


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write under; what was written becomes ``path`` when the block ends, and vanishes when it fails."""
    with Together() as files, files.writing(path) as part:
        yield part


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; it takes the place of ``folder`` when the block ends, and vanishes when it
    fails."""
    with replacing(folder) as part:
        part.mkdir()
        yield part


@contextmanager
def temporary_folder(parent: Path, how: str = "") -> Iterator[Path]:
    """An empty folder inside of ``parent``, so that what is made there can be moved into place in one step."""
    with refused(parent, how):
        parent.mkdir(parents=True, exist_ok=True)
        clear_left(parent)
        folder = Path(tempfile.mkdtemp(prefix=_hidden(parent / "folder", "part", ".").name, dir=parent))
    try:
        yield folder
    finally:
        _remove(folder)


def clear_left(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder; a folder that one had put aside comes back."""
    for left in folder.glob(f"{HIDDEN}*"):
        with suppress(OSError):  # what cannot be renamed cannot be written either, which is reported there
            if _is_left(left):
                for old in left.iterdir() if ".old." in left.name else ():
                    if not (place := left.with_name(old.name)).exists():
                        old.rename(place)
                _remove(left)


def _is_left(path: Path) -> bool:
    """Whether the process that a hidden name belongs to has ended; of one on another machine a day must have passed."""
    import psutil  # not where an interpreter lacks packages and is asked which

    if not (parts := _NAME.fullmatch(path.name)):
        return False
    host, process, start = parts[1], int(parts[2]), parts[3]
    if host != _HOST:
        return time.time() - path.lstat().st_ctime > _DAY
    return start != _START if process == os.getpid() else not psutil.pid_exists(process)


def _hidden(path: Path, kind: str, extension: str = "") -> Path:
    """A name of this process's own next to ``path``, never longer than names may be."""
    name = f"{zlib.crc32(os.fsencode(path.name)):08x}{extension}"
    return path.absolute().with_name(f"{HIDDEN}{_HOST}-{os.getpid()}-{_START}.{kind}.{name}")


def _put(part: Path, path: Path) -> None:
    """Rename; an earlier folder is put aside, as emptied in its place a kill would leave half of it."""
    old = _hidden(path, "old")
    aside = part.is_dir() and path.is_dir()
    if part.is_file():
        with part.open("rb+") as written:
            os.fsync(written.fileno())  # a file of the new name must not be empty after a power cut
    try:
        if aside:
            old.mkdir()
            path.rename(old / path.name)
        part.replace(path)
    except BaseException:
        if aside and not path.exists():
            (old / path.name).rename(path)
        _remove(old)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def refused(path: Path, how: str = "") -> Iterator[None]:
    """What the file system refuses within the block becomes an OutputError, as :func:`refusal` makes it."""
    try:
        yield
    except Exception as error:
        if str(error) and (isinstance(error, OSError) or is_full(error)):
            raise refusal(path, error, how) from error
        raise


def refusal(path: Path, error: BaseException, how: str = "") -> OutputError:
    """The sentence that ``path`` cannot be written; ``how`` another folder is chosen, such as " with --out"."""
    reason = getattr(error, "strerror", None) or (str(error).strip() or repr(error)).splitlines()[-1]
    full = "its disk is full: " if is_full(error) else ""
    return OutputError(f"cannot write {path} ({full}{reason}); check its rights, {_MORE_ROOM}{how}")


def is_full(error: BaseException) -> bool:
    """Whether a disk has no room left, whichever library noticed."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return not isinstance(error, DiffMaError) and bool(_FULL_IN_WORDS.search(str(error)))


def require_room(folder: Path, needed: int, what: str, how: str = "") -> None:
    """Raise OutputError when the disk of ``folder`` (which need not exist yet) lacks ``needed`` bytes for ``what``,
    and a small reserve; ``how`` is as in :func:`refusal`."""
    place = next(existing for existing in (folder, *folder.absolute().parents) if existing.exists())
    free = shutil.disk_usage(place).free
    if free < needed + _RESERVE:
        raise OutputError(
            f"not enough room in {folder}: {what} need {(needed + _RESERVE) / 1e6:.0f} MB and its disk has"
            f" {free / 1e6:.0f} MB free; {_MORE_ROOM}{how}"
        )


def write_text(path: Path, text: str) -> None:
    """``text`` with its own line ends; never in place, so that a hard-linked copy keeps its content."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


@contextmanager
def alone_in(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Within the block no other process is in one for ``folder``: it is waited for, which is noted.

    Whatever ends a process ends its block.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    with suppress(OSError, NotImplementedError):  # no locks there; where nothing can be written, the work will tell
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            reporter.note(f"another process is at work in {folder}; waiting until it has ended")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
