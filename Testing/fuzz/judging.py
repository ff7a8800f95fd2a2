"""What ``diffma check`` makes of one damaged file, and a worker process that may die of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import SimpleITK as sitk
from header_places import moved_by

GOOD = ("accepted", "noted", "refused")
"""Outcomes that may be; the others are traceback, noise, silent, moved, crash and hang."""
T = TypeVar("T")
_SECONDS = 10.0  # of computing: a busy machine is no fault of the file
_LONGEST_SENTENCE = 600


@dataclass(frozen=True)
class Outcome:
    """What became of one file: its kind, and the sentence or trace that was given."""

    kind: str
    said: str
    voxels: np.ndarray | None = None


def check(path: Path, expected: np.ndarray | None = None) -> Outcome:
    """Run ``diffma check`` on ``path`` in this process.

    ``expected``: the only voxels that may be read of it without a note.
    """
    from DiffMaCore.cli.main import main

    try:
        status, out, error = captured(lambda: main(["check", str(path), "--progress", "json"]))
    except BaseException:
        return Outcome("traceback", traceback.format_exc())
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if error.strip():
        return Outcome("traceback" if "Traceback" in error else "noise", error)
    last = events[-1] if events else {}
    if status > 1 or last.get("event") == "error":  # 1: read, and no CT
        said = last.get("message", "")
        plain = bool(said) and "\n" not in said and len(said) < _LONGEST_SENTENCE and "unexpected" not in said
        return Outcome("refused" if plain else "traceback", said or out)
    if not last.get("looks_like_ct"):
        return Outcome("refused", str(last.get("problem")))
    notes = " ".join(last["notes"])
    return _judged(path, expected, notes)


def _judged(path: Path, expected: np.ndarray | None, notes: str) -> Outcome:
    """An accepted file: were its voxels what they may be, and where the header puts them?"""
    from DiffMaCore.imaging.reading import read_volume

    image = read_volume(path).image
    voxels = sitk.GetArrayFromImage(image)
    try:
        shift = moved_by(path, image)
    except Exception as error:
        return Outcome("moved", f"its header gives no place ({error!r}), yet it was accepted")
    if shift > 0.5:
        return Outcome("moved", f"{shift:g} voxels")
    if expected is not None and not notes and not np.array_equal(voxels, expected):
        return Outcome("silent", "other voxels than were written, and no note")
    return Outcome("noted" if notes else "accepted", notes, voxels)


def captured(run: Callable[[], T]) -> tuple[T, str, str]:
    """What ``run`` returned and wrote, native code included."""
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(error.fileno(), 2)
            status = run()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            for target, old in enumerate(kept, start=1):
                os.dup2(old, target)
                os.close(old)
        texts = []
        for stream in (out, error):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    return status, texts[0], texts[1]


class Worker:
    """A process that works through cases; its death or standstill is the outcome of the case it had."""

    def __init__(self, work: Callable[[object], object]) -> None:
        self._work = work
        self._process: Any = None

    def __call__(self, job: object) -> object:
        """What ``work`` returned of ``job``, or an :class:`Outcome` of kind crash or hang."""
        if self._process is None:
            self._start()
        self._pipe.send(job)
        watched = psutil.Process(self._process.pid)
        computed, began = _computed(watched), time.monotonic()
        while not self._pipe.poll(0.5):
            if not self._process.is_alive() and not self._pipe.poll(0):
                break
            if _computed(watched) - computed > _SECONDS or time.monotonic() - began > 12 * _SECONDS:
                self.end()
                return Outcome("hang", "")
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            code, self._process = self._process.exitcode, None
            return Outcome("crash", f"exit status {code}")

    def _start(self) -> None:
        context = get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=False)
        self._process.start()
        theirs.close()

    def end(self) -> None:
        """End the process and what it has started."""
        if self._process is not None:
            for child in psutil.Process(self._process.pid).children(recursive=True):
                child.kill()
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe, work: Callable[[object], object]) -> None:
    from DiffMaCore.cli import main

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    main.build_parser()
    main.COMMANDS = {"check": main.COMMANDS["check"]}  # the other thirty parsers take half the time of a case
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            os._exit(0)
        pipe.send(work(job))


def _computed(process: psutil.Process) -> float:
    """Seconds of computing by a process and its children."""
    try:
        times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return sum(t.user + t.system for t in times)
