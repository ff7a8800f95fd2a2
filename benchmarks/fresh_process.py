"""A function in, what it returns in a fresh process out; and the memory used there, whose peak begins anew with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from DiffMaCore.devices import peak_memory


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` of a module returns in a process of its own, on as many threads as this one has."""
    methods = multiprocessing.get_all_start_methods()
    fresh = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    # imported once for all, and used by none of them before it begins
    fresh.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(_on_threads, torch.get_num_threads(), function, *arguments).result()


def _on_threads(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    torch.set_num_threads(threads)
    return function(*arguments)


def forget_peak(device: str) -> None:
    """Let the peak of memory begin anew, where the operating system can: building a model takes more for a moment."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): VmHWM becomes what is used now


def used_memory(device: str) -> int | None:
    """Most bytes used since the peak was forgotten: on a GPU there, else by the process; None where it is not known."""
    kind = torch.device(device)
    return torch.cuda.max_memory_allocated(kind) if kind.type == "cuda" else peak_memory(kind)["peak_memory_bytes"]
