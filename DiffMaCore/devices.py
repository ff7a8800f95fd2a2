"""A device's name in, the device, its memory, and how many slices fit at once out."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from DiffMaCore.errors import BackendError, OutOfMemory

MAX_BATCH_CPU = 4  # more at once are no faster, and the first ones would be seen later
MAX_BATCH_GPU = 64
MEMORY_SHARE = 0.5  # of what is free; the rest is for the volume itself and for other programs


def choose_device(name: str = "auto") -> torch.device:
    """The device called "auto", "cpu", "cuda", "cuda:1" or "mps".

    Of several processes that were launched together on one machine, each has a GPU of its own by "auto".

    Raises:
        BackendError: the named device is not there; "auto" never fails.
    """
    if name == "auto":
        if torch.cuda.is_available():
            here = os.environ.get("LOCAL_RANK", "")
            several = here.isdigit() and torch.cuda.device_count() > 1
            return torch.device("cuda", int(here) % torch.cuda.device_count()) if several else torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackendError(f"no device is called {name!r}; use auto, cpu, cuda, cuda:1 or mps") from None
    reason = _why_not(device)
    if reason:
        raise BackendError(f"the device {name} cannot be used: {reason}; use --device cpu, which always works")
    return device


def _why_not(device: torch.device) -> str | None:
    if device.type == "cpu":
        return None
    if device.type == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return "this torch was built without CUDA"
        if not torch.cuda.is_available():
            return "no NVIDIA GPU or driver was found"
        count = torch.cuda.device_count()
        return None if (device.index or 0) < count else f"this machine has {count} GPU(s), numbered from 0"
    if device.type == "mps":
        return None if torch.backends.mps.is_available() else "Apple's Metal (MPS) is not available here"
    return "DiffMa runs on cpu, cuda and mps only"


def describe_devices() -> list[dict[str, Any]]:
    """One entry a device: name, title, available, reason if not, total and free memory in bytes; the CPU's threads."""
    total, free = host_memory()
    threads = torch.get_num_threads()
    entries = [_entry("cpu", f"{processor_name()} ({threads} threads)", None, total, free) | {"threads": threads}]
    for index in range(torch.cuda.device_count()):
        gpu_free, gpu_total = torch.cuda.mem_get_info(index)
        entries.append(_entry(f"cuda:{index}", torch.cuda.get_device_name(index), None, gpu_total, gpu_free))
    if not torch.cuda.device_count():
        entries.append(_entry("cuda", "NVIDIA GPU", _why_not(torch.device("cuda")), None, None))
    entries.append(_entry("mps", "Apple GPU", _why_not(torch.device("mps")), total, free))
    return entries


def _entry(name: str, title: str, reason: str | None, total: int | None, free: int | None) -> dict[str, Any]:
    memory = {"total_bytes": total, "free_bytes": free} if reason is None else {}
    return {"name": name, "title": title, "available": reason is None, "reason": reason, **memory}


def processor_name() -> str:
    """Model name of the CPU."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def host_memory() -> tuple[int, int]:
    """Total and free bytes of the machine's memory, or of what this process's control group has of it."""
    memory = psutil.virtual_memory()
    limit, room = _group_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return int(min(memory.total, limit)), int(min(memory.available, room))


def _group_memory(root: Path, membership: Path) -> tuple[float, float]:
    """Limit and free bytes of this process's Linux control group, as containers and clusters' jobs have them."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf, math.inf
    own = next((line[len("0::/") :] for line in lines if line.startswith("0::/")), "")
    limit, room = math.inf, math.inf
    for folder in (root / own, *(root / own).parents):
        try:
            most = int((folder / "memory.max").read_text(encoding="utf-8"))  # "max" where there is no limit
            used = int((folder / "memory.current").read_text(encoding="utf-8"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError):
            continue
        # pages of files count as used and are given up when memory is needed
        limit, room = min(limit, most), min(room, most - used + int(stat.get("inactive_file", 0)))
    return limit, max(0, room)


def free_memory(device: torch.device) -> int:
    """Free bytes on the device for this process, of several launched on it its share."""
    if device.type == "cuda":
        # what torch keeps for reuse is free too
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + cached) // -(-_neighbours() // torch.cuda.device_count())
    return host_memory()[1] // _neighbours()


def _neighbours() -> int:
    """Processes that were launched together on this machine."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(count) if count.isdigit() and int(count) else 1


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most bytes that this process has used so far, and on a GPU the most it has used there."""
    peak = {"peak_memory_bytes": _host_peak()}
    if device.type == "cuda":
        peak["peak_device_bytes"] = torch.cuda.max_memory_reserved(device)
    return peak


def _host_peak() -> int:
    try:
        # not getrusage: on Linux it begins with the memory of the process that started this one
        with Path("/proc/self/status").open(encoding="utf-8") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return psutil.Process().memory_info().peak_wset  # Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of giving it back at once; whether the C library could be set so.

    By default glibc returns every large tensor to the kernel when it is freed, and the next one of that size is
    mapped and cleared page by page anew: a third of a denoising step on a CPU. Other C libraries are left alone.
    """
    import ctypes

    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28))
    return all(mallopt(option, value) == 1 for option, value in settings)


def choose_batch(device: torch.device, bytes_per_slice: int, wanted: int | None = None) -> int:
    """Slices to work on at once: as many as fit in half of the free memory, within the device's useful range.

    Args:
        wanted: as many as these, or as many of them as fit in all that is free.

    Raises:
        OutOfMemory: not even one fits.
    """
    most = MAX_BATCH_CPU if device.type == "cpu" else MAX_BATCH_GPU
    free = free_memory(device)
    room = free // max(1, bytes_per_slice)
    if room < 1:
        raise OutOfMemory(f"one slice needs {gib(bytes_per_slice)} on {device} and {gib(free)} are free")
    return max(1, min(wanted, room) if wanted else min(most, int(room * MEMORY_SHARE)))


def gib(count: int) -> str:
    """Bytes, as one reads them."""
    return f"{count / 2**30:.2f} GiB" if count < 10 * 2**30 else f"{count / 2**30:.0f} GiB"
