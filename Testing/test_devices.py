"""Devices and memory."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from DiffMaCore.devices import _group_memory, choose_batch, choose_device, describe_devices, host_memory, peak_memory
from DiffMaCore.errors import BackendError, OutOfMemory


def test_auto_is_a_device_that_is_there_and_cpu_always_is() -> None:
    names = {device["name"] for device in describe_devices() if device["available"]}
    assert choose_device("auto").type in {name.split(":")[0] for name in names}
    assert choose_device("cpu").type == "cpu"


def test_an_unknown_device_is_one_sentence() -> None:
    with pytest.raises(BackendError, match="auto, cpu, cuda"):
        choose_device("gpu0")


def test_the_batch_follows_from_the_free_memory() -> None:
    cpu = torch.device("cpu")
    assert choose_batch(cpu, 1) == 4
    free = host_memory()[1]
    assert free and choose_batch(cpu, int(free * 0.7)) == 1
    with pytest.raises(OutOfMemory, match="one slice needs"):
        choose_batch(cpu, 10**15)


def test_memory_is_told_on_every_system() -> None:
    total, free = host_memory()
    assert 0 < free <= total
    (cpu,) = (device for device in describe_devices() if device["name"] == "cpu")
    assert cpu["total_bytes"] == total and cpu["free_bytes"] > 0


def test_free_memory_is_told_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows, whose own calls psutil makes."""
    opened = Path.open

    def without_proc(self: Path, *args: Any, **options: Any) -> Any:
        if self.is_relative_to("/proc"):
            raise FileNotFoundError(self)
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", without_proc)
    total, free = host_memory()
    assert total and free and 0 < free <= total
    assert choose_batch(torch.device("mps"), int(free * 0.2)) == 2  # half of what is free
    assert peak_memory(torch.device("cpu"))["peak_memory_bytes"] > 10**7


def test_the_limit_of_a_container_or_a_clusters_job_counts(tmp_path: Path) -> None:
    job = tmp_path / "cgroup" / "slurm" / "job_7"
    job.mkdir(parents=True)
    membership = tmp_path / "membership"
    membership.write_text("1:cpu:/\n0::/slurm/job_7\n")
    assert _group_memory(tmp_path / "cgroup", membership) == (math.inf, math.inf)
    for folder, most in ((job, "max"), (job.parent, "8000")):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("5000\n")
        (folder / "memory.stat").write_text("anon 3000\ninactive_file 1500\n")
    assert _group_memory(tmp_path / "cgroup", membership) == (8000, 4500)
    assert _group_memory(tmp_path / "cgroup", tmp_path / "absent") == (math.inf, math.inf)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    code = """
import resource, torch
from DiffMaCore.devices import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
mapped = faults()
assert keep_freed_memory()
faults(), faults()  # until what is kept is large enough
assert faults() < 0.7 * mapped
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
