"""Kernels on tensors, and one lasting pool of threads for all of them, as many as torch uses."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_THREADS = 256
# What kernels are told of numbers in memory.
_KINDS = {torch.float32: np.float32(0), torch.float64: np.float64(0), torch.bfloat16: np.uint16(0)}


def run_kernel(
    kernel: Callable[..., Any],
    tasks: int,
    tensors: Sequence[Tensor | None],
    *options: Any,
    scratch: int = 0,
    turns: int = 4,
) -> None:
    """Run a kernel's tasks on contiguous tensors; None leads nowhere.

    Each call also gets ``scratch`` numbers of memory, in the first tensor's type, float32 for bfloat16; all tensors are
    of one type, or float32 and bfloat16.
    """
    addresses = tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
    dtypes = [torch.float32 if tensor is None else tensor.dtype for tensor in tensors]
    dtype = torch.float64 if dtypes[0] == torch.float64 else torch.float32
    kinds: Any = _KINDS[dtype]
    if torch.bfloat16 in dtypes:
        kinds = tuple(_KINDS[each] for each in (*dtypes, dtype))

    def work(first: int, last: int) -> None:
        own = torch.empty(scratch, dtype=dtype)
        kernel(first, last, kinds, (*addresses, own.data_ptr()), *options)

    run_tasks(tasks, work, turns)


def run_tasks(tasks: int, work: Callable[[int, int], None], turns: int = 4) -> None:
    """Call ``work(first, last)`` until all tasks are done; each thread takes the next few as it becomes free.

    ``work`` must release the interpreter lock, as Numba kernels with ``nogil`` do. A thread has about ``turns`` turns:
    one is the cheapest, several even out threads that are held up.
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        work(0, tasks)
        return
    step = -(-tasks // (threads * turns))
    firsts = iter(range(0, tasks, step))

    def take() -> None:
        for first in firsts:
            work(first, min(first + step, tasks))

    helpers = [_pool().submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        wait(helpers)  # they work on the caller's memory, which is gone once this returns or raises
    for helper in helpers:
        helper.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """One for all, which starts a thread when none is idle."""
    return ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="selective-scan")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
