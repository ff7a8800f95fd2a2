"""How conversion scales over processes: several of one core each that share a folder, against one of one core.

Every process is the real ``diffma convert``, and makes as many volumes as the single one does. Rounds take turns, so
that a busy machine slows both alike; how much of its core each process got is told as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.imaging.phantom import head_phantom
from DiffMaCore.imaging.writing import write_volume
from DiffMaCore.inference.benchmark import machine, spread
from DiffMaCore.progress import Reporter

SPACING, SHAPE = (4.0, 4.0, 8.0), (48, 48, 24)  # mm and voxels of a phantom
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_LOADING = "loading model"


def benchmark_processes(
    processes: int = 2,
    volumes: int = 4,
    rounds: int = 3,
    model: str = "demo",
    steps: int = 10,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Convert ``volumes`` phantoms by one process, and as many for each of ``processes``, in turns.

    ``share`` is the share of linear: "working" the volumes per second that a process had after its model was loaded
    (until the last of all volumes was done, waiting included), over the single process's; "whole" the same of the
    wall clock from the first start to the last end; "cpu" the single process's CPU seconds per volume over the
    others', of the whole and of the work. ``core`` is how much of its core a process got while it worked.

    Returns a dictionary for JSON.

    Raises:
        InputError: numbers below 1, or more processes than there are cores.
        DiffMaError: a conversion failed; its own words follow.
    """
    if min(processes, volumes, rounds) < 1:
        raise InputError("a benchmark needs at least one process, one volume and one round; leave them out for 2, 4, 3")
    cores = available_cores()
    if len(cores) < processes:
        raise InputError(f"{processes} processes of one core each need as many cores and there are {len(cores)}")
    reporter = reporter or Reporter()
    with tempfile.TemporaryDirectory(prefix="diffma-benchmark-") as root:
        bench = _Bench(Path(root), model, steps, cores)
        reporter.stage("making phantoms", volumes)
        bench.make_volumes(volumes, processes, reporter.advance)
        reporter.stage("one against several processes", 2 * rounds + 1)
        bench.run(1, volumes)  # not counted: files come into memory, kernels are compiled
        reporter.advance()
        turns: list[dict[int, list[Worker]]] = []
        for k in range(rounds):
            turn = {}
            for count in (1, processes) if k % 2 == 0 else (processes, 1):
                turn[count] = bench.run(count, volumes)
                reporter.advance()
            turns.append(turn)
    told = [_round(turn[1], turn[processes]) for turn in turns]
    return {
        "benchmark": "processes",
        "machine": machine() | {"threads": 1},
        "shape": {"processes": processes, "volumes of each": volumes, "model": model, "steps": steps},
        "pinned": _CAN_PIN,
        "rounds": rounds,
        "share": {name: _spread([one["share"][name] for one in told]) for name in told[0]["share"]},
        "core": {name: _spread([one["core"][name] for one in told]) for name in told[0]["core"]},
        "results": told,
    }


_CAN_PIN = hasattr(os, "sched_setaffinity")


def available_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if _CAN_PIN:
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass
class Worker:
    """One process, and when it did what: seconds since the first of its round was started, CPU seconds (None where
    the system does not tell)."""

    began: float
    working: float = 0.0  # the model is loaded
    last: float = 0.0  # its last volume is done
    ended: float = 0.0
    volumes: int = 0
    cpu: float | None = None
    cpu_before_work: float | None = None
    lines: list[str] = field(default_factory=list)


class _Bench:
    """Phantoms in a folder, and the command that converts them."""

    def __init__(self, root: Path, model: str, steps: int, cores: list[int]) -> None:
        self.root, self.model, self.steps, self.cores = root, model, steps, cores

    def make_volumes(self, volumes: int, processes: int, done: Callable[[], None]) -> None:
        """``1/`` holds them once and, for so many processes, ``N/`` as many copies, so that the work is alike."""
        for seed in range(volumes):
            image = head_phantom(seed, SPACING, SHAPE, artefacts=False).ct_image()
            for count in {1, processes}:
                for copy in range(count):
                    folder = self.root / f"{count}"
                    folder.mkdir(exist_ok=True)
                    write_volume(image, folder / f"head_{seed}_{copy}.nii.gz", like=image, metadata={})
            done()

    def run(self, count: int, volumes: int) -> list[Worker]:
        """All volumes for so many processes, made anew; the processes in the order of their start."""
        out = self.root / "out"
        shutil.rmtree(out, ignore_errors=True)
        first = time.monotonic()
        started = [self._start(core, out, count) for core in self.cores[:count]]
        workers = [Worker(time.monotonic() - first) for _ in started]
        threads = [
            threading.Thread(target=_follow, args=(process, worker, first))
            for process, worker in zip(started, workers, strict=True)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for process in started:
                if process.returncode is None:
                    process.kill()
        self._check(started, workers, count * volumes)
        return workers

    def _start(self, core: int, out: Path, count: int) -> subprocess.Popen[str]:
        words: list[object] = [sys.executable, "-m", "DiffMaCore", "convert", self.root / f"{count}", out]
        words += ["--format", "nii.gz", "--model", self.model, "--steps", self.steps, "--device", "cpu"]
        words += ["--progress", "json", "--previews", self.root / "previews" / f"{core}"]
        alone = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK")}
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**alone, **_ONE_THREAD},
        )
        if _CAN_PIN:
            os.sched_setaffinity(process.pid, {core})  # it has no threads yet, and all that come are bound as it is
        return process

    def _check(self, started: Sequence[subprocess.Popen[str]], workers: Sequence[Worker], expected: int) -> None:
        for process, worker in zip(started, workers, strict=True):
            if process.returncode:
                last = next((line for line in reversed(worker.lines) if line.strip()), "it said nothing")
                raise DiffMaError(f"a conversion ended with status {process.returncode}: {last.strip()}")
        made = sum(worker.volumes for worker in workers)
        if made != expected:
            raise DiffMaError(f"{made} volumes were made where {expected} were due; run the benchmark again")


def _follow(process: subprocess.Popen[str], worker: Worker, first: float) -> None:
    """Read a process's events to its end."""
    assert process.stdout is not None
    for line in process.stdout:
        now = time.monotonic() - first
        worker.lines.append(line)
        event = _event(line)
        # what follows the model is the first volume, or waiting where others have taken all
        if event.get("event") == "stage" and event["stage"] != _LOADING and not worker.working:
            worker.working, worker.cpu_before_work = now, _cpu_so_far(process.pid)
        if event.get("event") == "result" and not event.get("kept"):  # one that comes late finds all made
            worker.last = now
            worker.volumes += 1
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        worker.cpu = usage.ru_utime + usage.ru_stime
    else:
        process.wait()
    worker.ended = time.monotonic() - first


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:  # a warning of some library
        return {}
    return event if isinstance(event, dict) else {}


def _cpu_so_far(pid: int) -> float | None:
    """User and system seconds of a process that runs, where the system has /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime and stime


def _round(one: Sequence[Worker], many: Sequence[Worker]) -> dict[str, Any]:
    """Shares of linear of one round."""
    sides = {"one": _side(one), "several": _side(many)}
    alone, together = sides["one"], sides["several"]
    share = {
        "working": alone["working_s"] / together["working_s"],
        "whole": alone["whole_s"] / together["whole_s"],
        "cpu, working": _over(alone["working_cpu_s"], together["working_cpu_s"]),
        "cpu, whole": _over(alone["whole_cpu_s"], together["whole_cpu_s"]),
    }
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"share": share, "core": {key: side["core"] for key, side in sides.items()}, "load_average": load, **sides}


def _side(workers: Sequence[Worker]) -> dict[str, Any]:
    """Seconds a volume of each process, and CPU seconds a volume."""
    volumes = sum(worker.volumes for worker in workers)
    finish = max(worker.last for worker in workers)
    working = sum(max(0.0, finish - worker.working) for worker in workers)  # one may come when all is done
    before, cpu = [worker.cpu_before_work for worker in workers], [worker.cpu for worker in workers]
    all_cpu = None if None in cpu else sum(filter(None, cpu))
    working_cpu = None if all_cpu is None or None in before else all_cpu - sum(filter(None, before))
    return {
        "working_s": working / volumes,
        "whole_s": len(workers) * max(worker.ended for worker in workers) / volumes,
        "working_cpu_s": _over(working_cpu, volumes),
        "whole_cpu_s": _over(all_cpu, volumes),
        "core": _over(working_cpu, working),
        "volumes": [worker.volumes for worker in workers],
    }


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    told = [value for value in values if value is not None]
    return spread(told) if told else None
