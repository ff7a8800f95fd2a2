"""How fast the prepared data feeds training: slices a second, and how short a training step may be not to wait.

The data is as ``diffma prepare`` leaves it, of random numbers: what the denoiser reads at 224 px is 14 kB a slice. It
is read through the trainer's own data set, order and loader. The step is a wait of its length, as for a GPU that works
while the processor is free to read.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cache import random_cache
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import machine, spread
from DiffMaCore.presets import preset
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import Order, feed, micro_batches, spread_batch, to_device
from DiffMaCore.training.cache import SliceDataset
from DiffMaCore.training.experiment import DataConfig, TrainConfig
from DiffMaCore.training.tasks.denoiser import KEYS

WORKERS = (0, 1, 2)
STEPS_MS = (20, 50, 100, 200)
BUSY = 0.9
"""The share of the time that a GPU is to work."""

_CASES = 8
_AHEAD = 8  # batches that are not counted: files come into memory, threads start


def benchmark_input(
    workers: Sequence[int] = WORKERS,
    steps_ms: Sequence[int] = STEPS_MS,
    batch: int = 64,
    image_size: int = 224,
    name: str = "B/2",
    device: str | torch.device = "cpu",
    rounds: int = 3,
    batches: int = 24,
    slices: int = 512,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Slices a second for each number of reading threads, and the share of the time that a GPU would work.

    All numbers of threads take turns in every round. For each there are

    - ``rate``: slices a second where nothing else is done between two batches;
    - ``handover_s``: what a step waits for its batch, though it lies ready (without threads: reading it);
    - ``busy``: for every step of ``steps_ms`` the "measured" share of the time that a step of this length filled, the
      "reckoned" one, ``step / max(step + handover, batch / rate)``, and the "needed" slices a second;
    - ``fastest_step_s``: the shortest step for which the reckoned share is BUSY.

    On a GPU the copy to it, its end included, counts as handover; elsewhere there is none. Returns a dictionary for
    JSON.

    Raises InputError for numbers below 1 (``workers``: 0); ValueError for an unknown size or sizes that do not divide.
    """
    if min(batch, rounds, batches, slices, *steps_ms) < 1 or min(workers) < 0:
        raise InputError("a benchmark of the input needs sizes, steps and rounds of at least 1, and 0 or more workers")
    size = preset(name, image_size)
    reporter = reporter or Reporter()
    kind = torch.device(device)
    with tempfile.TemporaryDirectory(prefix="diffma-benchmark-") as folder:
        reporter.stage("rendering slices")
        torch.manual_seed(0)
        cache = random_cache(Path(folder), DataConfig("none", image_size), size, -(-slices // _CASES), _CASES)
        source = _Source(SliceDataset(cache, cache.ids("train"), KEYS), batch, kind)
        item_bytes = sum(value.nbytes for value in source.rows.batch([0]).values())
        reporter.stage("reading", rounds * len(workers) * (2 + len(steps_ms)))
        turns: list[dict[int, dict[str, Any]]] = []
        for k in range(rounds):
            order = [*workers[k % len(workers) :], *workers[: k % len(workers)]]
            turns.append({count: _turn(source, count, batches, steps_ms, reporter) for count in order})
    return {
        "benchmark": "input",
        "machine": machine(kind),
        "shape": {"size": name, "image_size": image_size, "batch": batch, "slices": len(source.rows)},
        "bytes_per_slice": item_bytes,
        "rounds": rounds,
        "busy_share": BUSY,
        "results": [_result(count, [turn[count] for turn in turns], steps_ms, batch) for count in workers],
    }


class _Source:
    """The trainer's way to a batch on the device."""

    def __init__(self, rows: SliceDataset, batch: int, device: torch.device) -> None:
        self.rows, self.batch, self.device = rows, batch, device
        self._spread = spread_batch(TrainConfig(batch_size=batch), 1)
        self._order = Order(len(rows), batch, 0)

    def open(self, workers: int, batches: int) -> Iterator[Any]:
        """So many batches after those that are not counted."""
        parts = micro_batches(self._order, self._spread, 0, 0, _AHEAD + batches)
        found = feed(self.rows, parts, self.device, workers)
        for _ in range(_AHEAD):
            next(found)
        return found

    def take(self, found: Iterator[Any]) -> None:
        """The next batch, ready to be computed with."""
        got = next(found)
        if self.device.type == "cuda":
            to_device(got, self.device)
            torch.cuda.synchronize(self.device)


def _turn(source: _Source, workers: int, batches: int, steps_ms: Sequence[int], reporter: Reporter) -> dict[str, Any]:
    """One number of threads in one round."""
    found = source.open(workers, batches)
    began = time.perf_counter()
    for _ in range(batches):
        source.take(found)
    period = (time.perf_counter() - began) / batches
    reporter.advance()
    handover = period if workers == 0 else statistics.median(_waits(source, workers, batches, 2 * period))
    reporter.advance()
    busy = {}
    for step in steps_ms:
        waits = _waits(source, workers, batches, step / 1e3)
        busy[step] = step / (step + 1e3 * statistics.mean(waits))
        reporter.advance()
    return {"period": period, "handover": handover, "busy": busy}


def _waits(source: _Source, workers: int, batches: int, step: float) -> list[float]:
    """Seconds for which each of the steps of so many seconds waits for its batch."""
    found = source.open(workers, batches)
    waits = []
    for _ in range(batches):
        time.sleep(step)
        began = time.perf_counter()
        source.take(found)
        waits.append(time.perf_counter() - began)
    return waits


def _result(workers: int, turns: Sequence[dict[str, Any]], steps_ms: Sequence[int], batch: int) -> dict[str, Any]:
    period = statistics.median(turn["period"] for turn in turns)
    handover = statistics.median(turn["handover"] for turn in turns)
    steps = {step: step / 1e3 for step in steps_ms}
    return {
        "workers": workers,
        "rate": spread([batch / turn["period"] for turn in turns]),
        "handover_s": spread([turn["handover"] for turn in turns]),
        "busy": [
            {
                "step_ms": step,
                "needed": batch / seconds,
                "measured": spread([turn["busy"][step] for turn in turns]),
                "reckoned": seconds / max(seconds + handover, period),
            }
            for step, seconds in steps.items()
        ],
        "fastest_step_s": fastest_step(period, handover),
    }


def fastest_step(period: float, handover: float, share: float = BUSY) -> float:
    """Seconds of the shortest step for which ``step / max(step + handover, period)`` is ``share``."""
    return max(share * period, share / (1 - share) * handover)
