"""Small programs that stand in for an interpreter, and a look at what still runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.jobs.job import Job

ROOT = Path(__file__).resolve().parents[2]

posix_only = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the interpreter")


def script(folder: Path, text: str, name: str = "python") -> Interpreter:
    """An interpreter that is in fact a shell script: it ignores its arguments and does what ``text`` says."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Interpreter(str(path), dict(os.environ), str(folder))


def real_interpreter(folder: Path, **environment: str) -> Interpreter:
    """This Python with DiffMaCore; private folders are made in ``folder``."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    return Interpreter(sys.executable, variables, str(folder))


def finish(job: Job, seconds: float = 240.0) -> Job:
    """Poll ``job`` until it is over."""
    job.start()
    end = time.monotonic() + seconds
    while not job.finished:
        job.poll()
        assert time.monotonic() < end, f"not over after {seconds} s, in stage {job.stage!r}"
        time.sleep(0.005)
    return job


def goes(is_there: Callable[[], object], seconds: float = 240.0) -> bool:
    """Wait until something is gone; whether it goes at all."""
    end = time.monotonic() + seconds
    while is_there():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def poll_until(job: Job, condition, seconds: float = 240.0) -> None:
    """Poll ``job`` until ``condition()`` holds."""
    job.start()
    end = time.monotonic() + seconds
    while not condition():
        job.poll()
        assert not job.finished, f"over too early: {job.error}"
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process does anything still; one that is dead but not waited for does not."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


class Command(ChildJob):
    """Runs one command of the child and gives its result."""

    def __init__(self, interpreter: Interpreter, *arguments: str) -> None:
        super().__init__("a test", interpreter)
        self._words = list(arguments)
        self.used: list[Path] = []

    def work(self):
        self.used.append(self.folder)
        return (yield from self.child(self._words))
