"""How conversion scales over workers: several of one core each on one machine, against one of one core.

Each is the real ``diffma convert --cluster local``, and makes as many volumes a worker. Rounds take turns, so that a
busy machine slows both alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.imaging.phantom import head_phantom
from DiffMaCore.imaging.writing import write_volume
from DiffMaCore.inference.benchmark import machine, spread
from DiffMaCore.progress import Reporter

SPACING, SHAPE = (4.0, 4.0, 8.0), (48, 48, 24)  # mm and voxels of a phantom
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def benchmark_processes(
    processes: int = 2,
    volumes: int = 4,
    rounds: int = 3,
    model: str = "demo",
    steps: int = 10,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Convert ``volumes`` phantoms by one worker, and as many for each of ``processes``, in turns.

    ``share`` is the share of linear, the single worker's seconds over the others': "working" of the seconds that a
    volume took once the model was loaded, "whole" of the wall clock from the start to the end of the command.

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
    rounds_done = []
    with tempfile.TemporaryDirectory(prefix="diffma-benchmark-") as root:
        reporter.stage("rendering phantoms", volumes)
        _make_volumes(Path(root), volumes, processes, reporter.advance)

        def run(count: int) -> dict[str, float]:
            seconds = _run(Path(root), count, volumes, ["--model", model, "--steps", str(steps)], cores[:count])
            reporter.advance()
            return seconds

        reporter.stage("one against several workers", 2 * rounds + 1)
        run(1)  # not counted: files come into memory, kernels are compiled
        for k in range(rounds):
            sides = {count: run(count) for count in ((1, processes) if k % 2 == 0 else (processes, 1))}
            share = {name: sides[1][name] / sides[processes][name] for name in ("working", "whole")}
            load = psutil.getloadavg()[0]
            rounds_done.append({"share": share, "one": sides[1], "several": sides[processes], "load_average": load})
    return {
        "benchmark": "processes",
        "machine": machine() | {"threads": 1},
        "shape": {"processes": processes, "volumes of each": volumes, "model": model, "steps": steps},
        "rounds": rounds,
        "share": {name: spread([one["share"][name] for one in rounds_done]) for name in ("working", "whole")},
        "results": rounds_done,
    }


def available_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    process = psutil.Process()
    return process.cpu_affinity() if hasattr(process, "cpu_affinity") else list(range(os.cpu_count() or 1))


def _make_volumes(root: Path, volumes: int, processes: int, done: Callable[[], None]) -> None:
    """``1/`` holds them once and, for so many processes, ``N/`` as many copies, so that the work is alike."""
    for seed in range(volumes):
        image = head_phantom(seed, SPACING, SHAPE, artefacts=False).ct_image()
        for count in {1, processes}:
            (root / f"{count}").mkdir(exist_ok=True)
            for copy in range(count):
                write_volume(image, root / f"{count}" / f"head_{seed}_{copy}.nii.gz", like=image, metadata={})
        done()


def _run(root: Path, count: int, volumes: int, options: list[str], cores: list[int]) -> dict[str, float]:
    """Seconds a volume of each worker, of the work and of the whole command; all volumes are made anew."""
    with tempfile.TemporaryDirectory(dir=root) as out:
        words = [sys.executable, "-m", "DiffMaCore", "convert", str(root / f"{count}"), out, "--format", "nii.gz"]
        words += [*options, "--device", "cpu", "--progress", "json", "--cluster", "local", "--workers", str(count)]
        began = time.monotonic()
        command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **_ONE_THREAD})
        if hasattr(psutil.Process, "cpu_affinity"):
            psutil.Process(command.pid).cpu_affinity(cores)  # it has no threads yet, and all that come are bound as it
        events = [json.loads(line) for line in command.communicate()[0].splitlines()]
        whole = time.monotonic() - began
    made = [event["seconds"] for event in events if event["event"] == "result"]
    if command.returncode or len(made) != count * volumes:
        last = next((event["message"] for event in events[::-1] if event["event"] == "error"), "it gave no reason")
        raise DiffMaError(f"a conversion ended with status {command.returncode}: {last}")
    return {"working": sum(each["total"] - each["loading"] for each in made) / len(made), "whole": whole / volumes}
