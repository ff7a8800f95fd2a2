"""A task in a fork of this warm process, to which something happens at any moment of it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TELLING = ("open", "os.", "shutil.", "tempfile.")
_LIMIT = 1800.0  # seconds: much longer than the slowest task on a busy machine, and not for ever


@dataclass(frozen=True)
class Ended:
    """Exit status (-9: killed), steps that the audit hook told of, seconds, and what was said."""

    status: int
    steps: int
    seconds: float
    said: str


def die() -> None:
    """What ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(
    task: Callable[[], object],
    at: int | None = None,
    act: Callable[[], object] = die,
    kill_after: float | None = None,
    victim: Callable[[int], int | None] = lambda child: child,
) -> Ended:
    """Run ``task`` in a fork; whatever it has started must end with it.

    Args:
        task: an ``int`` that it returns is the exit status.
        at: a step before which ``act`` is called. A step is what Python's audit hooks tell of: a file opened, renamed
            or removed, a folder made or listed, so it does not depend on how fast the machine is.
        act: what happens then.
        kill_after: seconds after which it is killed from outside, in the middle of native code as well.
        victim: of its process id, that of the process to kill; None: there is none yet.

    Raises:
        TimeoutError: it does not end, or processes that it started do not.
    """
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        began = time.monotonic()
        child = os.fork()
        if not child:
            _run(task, at, act, told.fileno(), said.fileno())
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            seconds = time.monotonic() - began
            if kill_after is not None and seconds > kill_after and (found := victim(child)) is not None:
                os.kill(found, signal.SIGKILL)
                kill_after = None
            elif seconds > _LIMIT:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.005)
        seconds = time.monotonic() - began
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        _wait_for_others(child)
        told.seek(0)
        said.seek(0)
        if seconds > _LIMIT:
            raise TimeoutError("it does not end")
        return Ended(status, int(told.read() or 0), seconds, said.read().decode(errors="replace"))


def _run(task: Callable[[], object], at: int | None, act: Callable[[], object], told: int, said: int) -> None:
    status, steps, acting = 1, 0, False

    def hook(event: str, _: object) -> None:
        nonlocal steps, acting
        if event.startswith(_TELLING) and not acting:
            steps += 1
            if steps == at:
                acting = True
                act()
                acting = False

    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.addaudithook(hook)
        result = task()
        status = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(told, str(steps).encode())
    os._exit(status)


def _wait_for_others(group: int) -> None:
    """Wait for what a task has started: it must notice that its parent is gone."""
    end = time.monotonic() + 300
    while _is_there(group):
        if time.monotonic() > end:
            os.killpg(group, signal.SIGKILL)
            raise TimeoutError("a process that it had started outlives it")
        time.sleep(0.02)


def _is_there(group: int) -> bool:
    """Whether a process of the group still runs; one that nobody has waited for yet does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False
