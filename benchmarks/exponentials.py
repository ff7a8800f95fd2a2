"""How many exponentials a second this machine takes: the scan kernels' own, on registers that never leave the first
cache, on as many threads as torch uses."""

# mypy: ignore-errors
# (The kernels are typed by Numba, whose intrinsics take fewer arguments than their definitions.)

from __future__ import annotations

import numpy as np
import torch

from DiffMaCore.ops.scan import numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_forward import PLANE
from DiffMaCore.ops.scan.numba_lanes import exp2, load, pointers, steps, store, width_of
from DiffMaCore.ops.scan.threads import run_tasks

PASSES = 512  # over a task's plane: a task is then a million exponentials, and its start costs nothing
PER_TASK = PASSES * PLANE


def take_exponentials(count: int) -> int:
    """Take at least ``count`` float32 exponentials; returns how many it were."""
    tasks = -(-count // PER_TASK)

    def work(first: int, last: int) -> None:
        planes = torch.full((2 * PLANE,), -0.5)  # a decay's exponent; the time does not depend on it
        size = planes.element_size() * PLANE
        _exponentials((last - first) * PASSES, np.float32(0), (planes.data_ptr(), planes.data_ptr() + size))

    run_tasks(tasks, work)
    return tasks * PER_TASK


@compiled
def _exponentials(passes, like, addresses, sources=source_digest(numba_lanes)):  # noqa: B008
    given, made = pointers(like, addresses)
    lanes = width_of(given)
    for _ in range(passes):
        for at in range(0, PLANE, 4 * lanes):
            four = steps(at, lanes)
            store(made, four, exp2(load(given, four)))
