"""A step's batch: its rows, how they are spread over processes, how they are read, and the random numbers of each.

All of it is a function of the seed and the step alone: a run that goes on from step n needs no stored generator, and
several processes see what one would have seen.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import TrainConfig

Batch = dict[str, Tensor]

_WORKERS_WITH_A_GPU = 2
_AHEAD = 2  # batches for each worker


class Rows(Protocol):
    """What is trained on: ``cache.SliceDataset``, or anything like it.

    One with a true ``in_order`` is read row after row, and never again from the start (``fresh.FreshSlices``).
    """

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int]) -> Batch:
        """Several rows, stacked (B, ...); float16 may stay what it is."""
        ...

    def where(self, row: int) -> str:
        """What a row is called in an error: "case brain_03, slice 41"."""
        ...


@dataclass(frozen=True)
class Spread:
    """A batch of ``micro_batch`` x ``processes`` x ``accumulation`` rows."""

    micro_batch: int
    processes: int
    accumulation: int

    def first(self, part: int, process: int) -> int:
        """Where the ``part``-th micro batch of a process begins among the batch's rows."""
        return (part * self.processes + process) * self.micro_batch


def spread_batch(config: TrainConfig, processes: int, whole_batch: bool = False) -> Spread:
    """Spread ``config.batch_size`` evenly. Raises InputError naming the batch sizes that fit.

    ``whole_batch``: the loss compares all rows with each other, so that they cannot come one part after the other.
    """
    size, given = config.batch_size, config.micro_batch
    micro = size // processes if given is None else given
    unit = processes if given is None else max(micro, 1) * processes
    if micro < 1 or size % unit:
        below = size // unit * unit
        fits = f"{below} or {below + unit}" if below else f"{unit}"
        with_micro, remedy = "", ""
        if given is not None:
            with_micro, remedy = f" with a micro_batch of {micro}", ", or leave micro_batch out"
        raise InputError(
            f"a batch_size of {size} cannot be spread over {processes} {'process' if processes == 1 else 'processes'}"
            f"{with_micro}; a batch_size of {fits} would fit{remedy}"
        )
    if whole_batch and micro * processes != size:
        raise InputError(
            f"this training contrasts all {size} slices of a batch with each other, so they cannot be accumulated"
            f" from micro batches of {micro}; leave micro_batch out"
        )
    return Spread(micro, processes, size // (micro * processes))


class Order:
    """Which rows each step trains on: a new permutation in every epoch, a function of (seed, epoch) alone; or with no
    number of rows one row after the other, for data that is drawn as it is made.

    An epoch ends when what is left of it does not fill a batch; a data set smaller than a batch goes on into its
    next permutation instead.
    """

    def __init__(self, rows: int | None, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch: tuple[int, list[int]] = (-1, [])

    def batch(self, step: int) -> list[int]:
        """The rows of a step's whole batch."""
        rows, places = self.rows, range(step * self.batch_size, (step + 1) * self.batch_size)
        if rows is None:
            return list(places)
        if rows >= self.batch_size:
            epoch, place = divmod(step, rows // self.batch_size)
            return self._permutation(epoch, rows)[place * self.batch_size : (place + 1) * self.batch_size]
        return [self._permutation(place // rows, rows)[place % rows] for place in places]

    def _permutation(self, epoch: int, rows: int) -> list[int]:
        if self._epoch[0] != epoch:
            order = torch.randperm(rows, generator=stream(self.seed, "epoch", epoch))
            self._epoch = (epoch, order.tolist())
        return self._epoch[1]


def micro_batches(order: Order, spread: Spread, process: int, first_step: int, steps: int) -> Iterator[list[int]]:
    """The rows of one process's micro batches, of every step from ``first_step`` to below ``steps``."""
    for step in range(first_step, steps):
        rows = order.batch(step)
        for part in range(spread.accumulation):
            first = spread.first(part, process)
            yield rows[first : first + spread.micro_batch]


def feed(
    rows: Rows, parts: Iterable[Sequence[int]], device: torch.device, workers: int | None = None
) -> Iterator[Batch]:
    """Batches of the rows that ``parts`` names, in its order, as they are stored; for a GPU in pinned memory.

    ``workers`` threads read ahead; None is two with a GPU and none else, where they would take the processor from
    the training. Threads, since reading is copying: processes copy twice and clear new memory each time.
    """

    def read(part: Sequence[int]) -> Batch:
        batch = rows.batch(part)
        return {name: value.pin_memory() for name, value in batch.items()} if device.type == "cuda" else batch

    if workers is None:
        workers = _WORKERS_WITH_A_GPU if device.type == "cuda" else 0
    if workers == 0:
        yield from map(read, parts)
        return
    pool = ThreadPoolExecutor(workers, "reads-ahead")
    waiting: deque[Future[Batch]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(read, part))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device, its halves as float32: converted there, so that half as much has to be carried."""
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in moved.items()}


def stream(*words: object) -> torch.Generator:
    """A CPU generator that depends on ``words`` alone, such as a seed, a step and a name."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@dataclass(frozen=True)
class ShardedRNG:
    """Rows ``first`` to ``first + count`` of the ``total`` rows of a step's batch: their random numbers, each a
    function of (seed, step, name, global row), and the other processes' rows."""

    seed: int
    step: int
    first: int
    count: int
    total: int
    device: torch.device

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers (count, *shape); another ``name`` gives other numbers."""
        return self._part(torch.randn(self.total, *shape, generator=stream(self.seed, self.step, name)))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers from 0 to below 1 (count, *shape)."""
        return self._part(torch.rand(self.total, *shape, generator=stream(self.seed, self.step, name)))

    def mean_over(self, values: Tensor, count: int) -> Tensor:
        """What the values (n,) of these rows add to their mean over the ``count`` rows of the batch that have one; the
        average over all parts of the batch is that mean. 0 of no rows."""
        return values.sum() * self.total / (self.count * max(count, 1))

    def gather(self, part: Tensor) -> Tensor:
        """The whole batch (total, ...) out of every process's ``part`` (count, ...), in order; gradients flow back.

        Every process then computes the same loss, and the average of their gradients is the gradient of that loss.
        """
        if self.count == self.total:
            return part
        from torch.distributed.nn.functional import all_reduce

        after = self.total - self.first - self.count
        return all_reduce(F.pad(part, (0, 0) * (part.dim() - 1) + (self.first, after)))

    def _part(self, whole: Tensor) -> Tensor:
        return whole[self.first : self.first + self.count].to(self.device, non_blocking=True)
