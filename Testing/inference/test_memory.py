"""A conversion takes no more memory than there is, says what it chose, and goes on with less where it was too much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline, devices
from DiffMaCore.errors import OutOfMemory
from DiffMaCore.progress import Reporter
from Testing.images import head_like_ct


class Listener(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.slices_seen: list[int] = []

    def note(self, message: str) -> None:
        self.said.append(message)

    warning = note

    def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
        self.slices_seen.append(index)


@pytest.fixture
def pipe(tiny_bundle: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(tiny_bundle)


def _limit(pipe: DiffMaPipeline, at_once: int, where: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let ``where`` of the pipeline run out of memory, half-way, with more than so many slices; the batches it saw."""
    seen = []
    real = getattr(pipe, where)

    def limited(first: Any, *rest: Any, **options: Any) -> Any:
        count = len(first.soft_mask) if hasattr(first, "soft_mask") else len(first)
        seen.append(count)
        result = real(first, *rest, **options)
        if count > at_once:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return result

    monkeypatch.setattr(pipe, where, limited)
    return seen


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("where", ["conditions", "denoise", "decode_with_error"])
def test_out_of_memory_halves_the_batch_says_so_and_changes_no_voxel(
    pipe: DiffMaPipeline, where: str, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where work overlaps, that of the decoder shows only when the next batch has been denoised."""
    ct = head_like_ct()
    pipe.overlap = overlap
    options = {"num_inference_steps": 2, "samples": 2, "batch_size": 6, "start_slice": 1}
    expected = pipe(ct, **options)
    listener = Listener()
    seen = _limit(pipe, 1, where, monkeypatch)
    out = pipe(ct, reporter=listener, **options)
    assert seen[0] == 6 and 3 in seen and seen[-1] == 1
    assert [line for line in listener.said if "going on with 3" in line or "going on with 1" in line]
    for name in ("mr", "uncertainty", "soft_mask"):
        one, other = (sitk.GetArrayFromImage(getattr(result, name)) for result in (out, expected))
        assert np.abs(one - other).max() < (1.0 if name != "soft_mask" else 1e-3)
    assert tuple(listener.slices_seen) == out.slices == expected.slices
    assert listener.done == listener.total
    assert out.metadata["batch_size"] == 1


def test_one_slice_that_does_not_fit_is_an_error(pipe: DiffMaPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    _limit(pipe, 0, "denoise", monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        pipe(head_like_ct(), num_inference_steps=1)


def test_other_errors_of_a_batch_are_not_tried_again(pipe: DiffMaPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(pipe, "conditions", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        pipe(head_like_ct(), num_inference_steps=1, batch_size=4)


def test_the_batch_is_what_is_free_and_is_told(pipe: DiffMaPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    each = pipe.bytes_per_slice()
    monkeypatch.setattr(devices, "host_memory", lambda: (10**12, int(4.5 * each)))
    assert pipe.batch_size() == 2  # half of what is free
    listener = Listener()
    out = pipe(head_like_ct(), num_inference_steps=1, batch_size=6, reporter=listener)
    assert out.metadata["batch_size"] == 4
    assert any("4 instead of 6" in line for line in listener.said)
    assert any(line.startswith("4 slices at once, about ") for line in listener.said)


def test_what_cannot_fit_is_refused_before_any_work(pipe: DiffMaPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "host_memory", lambda: (10**12, 10**5))
    with pytest.raises(OutOfMemory, match="images of this volume need"):
        pipe(head_like_ct(), num_inference_steps=1)
    monkeypatch.setattr(devices, "host_memory", lambda: (10**12, pipe.bytes_per_slice() - 1))
    with pytest.raises(OutOfMemory, match=r"one slice needs .* are free; try"):
        pipe.batch_size()


def test_processes_of_one_launch_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "host_memory", lambda: (1000, 800))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert devices.free_memory(torch.device("cpu")) == 200
