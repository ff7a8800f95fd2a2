"""Work shared by processes that see one folder: each piece is claimed by one, and taken over when that one is lost.

Nothing but files is needed, so the processes may be of one launch or of many, on one machine or on several, and none
waits for one that has died. A process shows that it lives by changing its own file; clocks are not compared.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from DiffMaCore.errors import OutputError

BEAT = 5.0
"""Seconds between two signs of life."""
PATIENCE = 90.0
"""Seconds without one until a process counts as lost; file systems of clusters may show old content for 60."""
_TRIES = 100  # to enter; each one fails only if another process removes the folder at that very moment


class Claims:
    """The claims in ``folder``, which is made when it is entered and removed by the last process that leaves.

    Args:
        folder: on a file system that all processes share.
        beat, patience: seconds, see BEAT and PATIENCE.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.folder, self.beat, self.patience = folder, beat, patience
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._seen: dict[str, tuple[str, float]] = {}
        self._own: set[Path] = set()
        self._leave = threading.Event()
        self._heart = threading.Thread(target=self._live, name="signs-of-life", daemon=True)

    def __enter__(self) -> Claims:
        try:
            self._come()
            for left in self.folder.glob("*.settled"):  # of an earlier start, or found out again in no time
                left.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write into {self.folder.parent} ({error.strerror}); choose a folder that you may write to"
            ) from error
        self._heart.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.set()
        self._heart.join()
        for path in [*self._own, self._worker(self.name)]:
            path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # another one that left has cleared away
            self._clear_away(list(self.folder.iterdir()))

    def _come(self) -> None:
        """Show this process in the folder, which others that leave may be removing: from then on they cannot."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._show(0)
                return
        self._show(0)

    def _clear_away(self, found: list[Path]) -> None:
        """Remove what was found, if all others are lost, and the folder, if nobody has come since."""
        others = [path.name.removeprefix("worker-") for path in found if path.name.startswith("worker-")]
        if all(self._lost(other) for other in others):
            for path in found:
                with suppress(OSError):
                    path.unlink()
            with suppress(OSError):  # a folder that holds something stays
                self.folder.rmdir()

    def claim(self, piece: str) -> bool:
        """Whether the piece is this process's now: nobody has claimed it, or the one that did is lost."""
        taken = sorted(self._claims(piece))
        if taken and not self._lost(_read(self._claim(piece, taken[-1])), where=f"{piece}.{taken[-1]}"):
            return False
        path = self._claim(piece, taken[-1] + 1 if taken else 0)
        try:
            # of several that find the same claim lost, one makes the next
            with path.open("x", encoding="utf-8") as stream:
                stream.write(self.name)
        except FileExistsError:
            return False
        self._own.add(path)
        if self.settled(piece) is None:
            return True
        self._release(piece)
        return False

    def settle(self, piece: str, facts: dict[str, Any]) -> None:
        """The piece needs no more work; ``facts`` (as JSON holds them) are for the other processes."""
        target = self._path(piece, "settled")
        temporary = target.with_name(f"{self.name}.part")
        temporary.write_text(json.dumps(facts), encoding="utf-8")
        temporary.replace(target)
        self._release(piece)

    def settled(self, piece: str) -> dict[str, Any] | None:
        """The facts of a settled piece, None for one that is not."""
        text = _read(self._path(piece, "settled"))
        return json.loads(text) if text else None

    def _release(self, piece: str) -> None:
        for number in self._claims(piece):
            path = self._claim(piece, number)
            path.unlink(missing_ok=True)
            self._own.discard(path)

    def _claims(self, piece: str) -> list[int]:
        names = [path.name for path in self.folder.glob(f"{_quoted(piece)}.claim-*")]
        return [int(name.rpartition("-")[2]) for name in names]

    def _claim(self, piece: str, number: int) -> Path:
        return self._path(piece, f"claim-{number}")

    def _path(self, piece: str, kind: str) -> Path:
        return self.folder / f"{_quoted(piece)}.{kind}"

    def _worker(self, name: str) -> Path:
        return self.folder / f"worker-{name}"

    def _live(self) -> None:
        count = 0
        while not self._leave.wait(self.beat):
            count += 1
            try:
                self._show(count)
            except OSError:  # a full disk or a lost connection: the next one may come through
                continue

    def _show(self, count: int) -> None:
        # replaced, not written into: what is opened anew is fresh on every file system
        temporary = self.folder / f"{self.name}.life"
        temporary.write_text(f"{_machine()} {os.getpid()} {count}", encoding="utf-8")
        temporary.replace(self._worker(self.name))

    def _lost(self, worker: str, where: str = "") -> bool:
        """Whether a process is gone: it has left, its machine knows that it died, or it shows no life any more.

        A claim that is still without a name (made, and not yet written) is judged by its place ``where``.
        """
        life = _read(self._worker(worker)) if worker else where
        if not life:
            return True
        machine, *rest = life.split()
        if worker and machine == _machine() and not _runs(int(rest[0])):
            return True
        now = time.monotonic()
        known, since = self._seen.get(worker or where, ("", now))
        if known != life:
            self._seen[worker or where] = (life, now)
            return False
        return now - since > self.patience


def _quoted(piece: str) -> str:
    return quote(piece, safe="")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _machine() -> str:
    """Where process ids mean the same as here: this machine since it was started, and this container on it."""
    parts = [platform.node() or "unnamed", _read(Path("/proc/sys/kernel/random/boot_id")).strip()]
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return quote("/".join(parts), safe="")


def _runs(pid: int) -> bool:
    if os.name != "posix":
        return True  # Windows has no signal 0; the signs of life tell it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
