"""From the rows of a data set to batches on the device: how training is fed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from DiffMaCore.training.task import Rows

Batch = dict[str, Tensor]

_WORKERS_BESIDE_A_GPU = 2
_AHEAD = 2  # batches for each worker


def feed(
    rows: Rows, parts: Iterable[Sequence[int]], device: torch.device, workers: int | None = None
) -> Iterator[Batch]:
    """Batches of the rows that ``parts`` names, in its order, as they are stored; for :func:`to_device`.

    Args:
        rows: the data set; with workers, several of its batches are read at once.
        parts: the rows of one batch after the other.
        device: where they will be used; for a GPU they lie in pinned memory.
        workers: threads that read ahead; None is two beside a GPU and none else, where they would take the processor
            from the training. Threads, since reading is copying: processes copy twice and clear new memory each time.
    """

    def read(part: Sequence[int]) -> Batch:
        batch = rows.batch(part)
        return {name: value.pin_memory() for name, value in batch.items()} if device.type == "cuda" else batch

    if workers is None:
        workers = _WORKERS_BESIDE_A_GPU if device.type == "cuda" else 0
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
