"""How a batch is spread over processes and micro batches, and which rows each part of it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import TrainConfig
from DiffMaCore.training.sharded_rng import stream


@dataclass(frozen=True)
class Spread:
    """A batch of ``micro_batch`` x ``processes`` x ``accumulation`` rows."""

    micro_batch: int
    processes: int
    accumulation: int

    @property
    def batch_size(self) -> int:
        """Rows of one optimiser step."""
        return self.micro_batch * self.processes * self.accumulation

    def first(self, part: int, process: int) -> int:
        """Where the ``part``-th micro batch of a process begins among the batch's rows."""
        return (part * self.processes + process) * self.micro_batch


def spread_batch(config: TrainConfig, processes: int, whole_batch: bool = False) -> Spread:
    """Spread ``config.batch_size`` evenly. Raises InputError naming the batch sizes that fit.

    ``whole_batch``: the loss compares all rows with each other, so that they cannot come one part after the other.
    """
    size, micro = config.batch_size, config.micro_batch
    if micro is None:
        if size % processes:
            fits = _around(size, processes)
            raise InputError(f"a batch_size of {size} cannot be spread over {processes} processes; {fits} would fit")
        micro = size // processes
    if micro < 1 or size % (micro * processes):
        fits = _around(size, max(micro, 1) * processes)
        raise InputError(
            f"a batch_size of {size} cannot be spread over {processes} {_processes(processes)} with a micro_batch of"
            f" {micro}; a batch_size of {fits} would fit, or leave micro_batch out"
        )
    if whole_batch and micro * processes != size:
        raise InputError(
            f"this training contrasts all {size} slices of a batch with each other, so they cannot be accumulated"
            f" from micro batches of {micro}; leave micro_batch out"
        )
    return Spread(micro, processes, size // (micro * processes))


def _around(size: int, unit: int) -> str:
    below = size // unit * unit
    return f"{below} or {below + unit}" if below else f"{unit}"


def _processes(count: int) -> str:
    return "process" if count == 1 else "processes"


class Order:
    """Which rows each step trains on: a new permutation in every epoch, a function of (seed, epoch) alone.

    An epoch ends when what is left of it does not fill a batch; a data set smaller than a batch goes on into its
    next permutation instead.
    """

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch: tuple[int, list[int]] = (-1, [])

    def batch(self, step: int) -> list[int]:
        """The rows of a step's whole batch."""
        if self.rows >= self.batch_size:
            epoch, place = divmod(step, self.rows // self.batch_size)
            return self._permutation(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self._permutation(place // self.rows)[place % self.rows] for place in places]

    def _permutation(self, epoch: int) -> list[int]:
        if self._epoch[0] != epoch:
            order = torch.randperm(self.rows, generator=stream(self.seed, "epoch", epoch))
            self._epoch = (epoch, order.tolist())
        return self._epoch[1]


class InOrder:
    """Rows one after the other, for data that is drawn as it is made."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def batch(self, step: int) -> list[int]:
        """The rows of a step's whole batch."""
        return list(range(step * self.batch_size, (step + 1) * self.batch_size))


class Parts:
    """Batch sampler of one process: its micro batches of every step from ``first_step`` to ``steps``."""

    def __init__(self, order: Order | InOrder, spread: Spread, process: int, first_step: int, steps: int) -> None:
        self.order, self.spread, self.process = order, spread, process
        self.first_step, self.steps = first_step, steps

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.spread.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            rows = self.order.batch(step)
            for part in range(self.spread.accumulation):
                first = self.spread.first(part, self.process)
                yield rows[first : first + self.spread.micro_batch]
