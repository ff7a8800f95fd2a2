"""Files that appear whole or not at all, room on the disk for them, what differs in settings, and Markdown reports."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from DiffMaCore.errors import OutputError
from DiffMaCore.progress import Reporter

_RESERVE = 16 << 20  # bytes left for everything small
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_WORDS = re.compile(r"os error (28|112|122)\b")  # as safetensors tells of it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write under; what was written becomes ``path`` when the block ends, and vanishes when it fails.

    The folder is made. Raises OutputError when the disk is full or the folder cannot be written to.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())  # a file of the new name must not be empty after a power cut
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if is_full(error):
            raise OutputError(f"the disk of {path.parent} is full; free some room and start again") from error
        if isinstance(error, PermissionError):
            raise OutputError(f"cannot write {path}; choose a folder that you may write to with --out") from error
        raise


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; it takes the place of ``folder`` when the block ends, and vanishes when it
    fails."""
    part, old = (folder.with_name(folder.name + ending) for ending in (".part", ".old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)  # emptied in its place, a kill would leave half of it
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def alone_in(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Within the block no other process is in one for ``folder``: it is waited for, which is noted.

    Whatever ends a process ends its block.
    """
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


def is_full(error: BaseException) -> bool:
    """Whether a disk has no room left, whichever library noticed."""
    return (isinstance(error, OSError) and error.errno in _FULL) or bool(_FULL_IN_WORDS.search(str(error)))


def write_text(path: Path, text: str) -> None:
    """``text`` with its own line ends, atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise OutputError when the disk of ``folder`` (which need not exist yet) lacks ``needed`` bytes for ``what``."""
    place = next(existing for existing in (folder, *folder.absolute().parents) if existing.exists())
    free = shutil.disk_usage(place).free
    if free < needed + _RESERVE:
        raise OutputError(
            f"{what} need {(needed + _RESERVE) / 1e6:.0f} MB and the disk of {folder} has {free / 1e6:.0f} MB free;"
            " free some room or choose another folder with --out"
        )


def first_change(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, lists and tuples being the same: its dotted name, what it was and what it is."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = {key: f"{name}.{key}" if name else str(key) for key in (*now, *before)}
        found = (first_change(before.get(key), now.get(key), dotted) for key, dotted in names.items())
        return next((change for change in found if change), None)
    return None if json.loads(json.dumps([before])) == json.loads(json.dumps([now])) else (name, before, now)


def rows_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
