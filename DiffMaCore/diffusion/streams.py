"""Work in, its results out in order: in a thread and on a CUDA stream of its own, at a pace that the GPU keeps."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import torch

from DiffMaCore.errors import is_out_of_memory

QUEUED_STEPS = 2  # enough that the GPU never waits for the next one


@functools.cache
def side_stream(device: torch.device, use: str) -> torch.cuda.Stream:
    """This process's stream for one use: the memory that torch keeps for a stream serves no other."""
    return torch.cuda.Stream(device)


class Pace:
    """Tells of steps when they are done: on CUDA not when they are queued, of which there are two at most."""

    def __init__(self, device: torch.device, on_step: Callable[[], None] | None) -> None:
        self._device, self._on_step = device, on_step or (lambda: None)
        self._queued: deque[torch.cuda.Event] = deque()

    def step(self) -> None:
        if self._device.type != "cuda":
            self._on_step()
            return
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        self._queued.append(event)
        self._wait(QUEUED_STEPS)

    def finish(self) -> None:
        self._wait(0)

    def _wait(self, left: int) -> None:
        while len(self._queued) > left:
            self._queued.popleft().synchronize()
            self._on_step()


class AsyncDecoder:
    """One task at a time, in a thread and on a CUDA stream apart from its owner's; or at once, in the owner's.

    Args:
        device: that the tasks use.
        apart: whether tasks run in parallel with their owner.
    """

    def __init__(self, device: torch.device, apart: bool) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(1, "decoding") if apart else None
        self._stream = side_stream(device, "tasks") if apart and device.type == "cuda" else None
        self._task: Future[None] | None = None

    def __enter__(self) -> AsyncDecoder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def start(self, task: Callable[[], None]) -> None:
        """Start a task, after the one before has ended; it sees what was queued on the device until now.

        Raises whatever the task before raised; the new one is not started then.
        """
        self.wait()
        if self._thread is None:
            task()
            return
        ready = None
        if self._stream is not None:
            ready = torch.cuda.Event()
            ready.record(torch.cuda.current_stream(self._device))
        self._task = self._thread.submit(self._run, task, ready)

    def _run(self, task: Callable[[], None], ready: torch.cuda.Event | None) -> None:
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            if self._stream is not None and ready is not None:
                self._stream.wait_event(ready)
            try:
                task()
            finally:  # the task's tensors are given back now: nothing may be using them still
                if self._stream is not None:
                    self._stream.synchronize()

    def wait(self) -> None:
        """Wait for the task that runs, if there is one; raises whatever it raised."""
        task, self._task = self._task, None
        try:
            if task is not None:
                task.result()
        finally:
            del task  # its error would keep this frame alive, and so itself and its tensors

    def settle(self) -> None:
        """As ``wait``, but a task that was short of memory is no error."""
        try:
            self.wait()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
