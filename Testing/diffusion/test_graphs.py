"""The CUDA graph of the denoiser, and conversions on a GPU; without one, that no graph is no obstacle and is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.diffusion.graphs import DenoiserGraphs
from DiffMaCore.errors import ModelError
from Testing.images import head_like_ct

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="it needs an NVIDIA GPU, and none is here")
with_bfloat16 = pytest.mark.skipif(
    not (torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)),
    reason="no NVIDIA GPU that computes in bfloat16 is here",
)


@pytest.fixture
def pipe(tiny_bundle: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(tiny_bundle)


def slices(count: int) -> torch.Tensor:
    return torch.randn(count, 32, 32, generator=torch.Generator().manual_seed(count)) * 300


def voxels(pipe: DiffMaPipeline) -> np.ndarray:
    out = pipe(head_like_ct(), num_inference_steps=4, samples=2, batch_size=4)
    assert out.uncertainty is not None
    return np.stack([sitk.GetArrayFromImage(image) for image in (out.mr, out.uncertainty)])


def test_a_graph_that_cannot_be_captured_is_told_once_and_changes_no_result(
    pipe: DiffMaPipeline,
) -> None:
    conditions = pipe.conditions(slices(2))
    expected = pipe.denoise(conditions, 2)
    pipe._graphs = DenoiserGraphs(pipe.denoiser)  # as on CUDA, but the networks are on the CPU
    assert pipe.will_capture(2)
    said: list[str] = []
    for _ in range(2):
        assert torch.equal(pipe.denoise(conditions, 2, warn=said.append), expected)
    assert len(said) == 1 and "could not be captured as a CUDA graph" in said[0]
    assert "Error: " in said[0]
    assert not pipe.will_capture(2)


def test_on_a_cpu_nothing_is_captured(pipe: DiffMaPipeline) -> None:
    pipe.set_device("cpu")
    assert not pipe.will_capture(1)


@on_a_gpu
def test_a_graph_gives_what_the_plain_evaluation_gives_for_every_batch_shape(pipe: DiffMaPipeline) -> None:
    pipe.set_device("cuda", precision="float32")
    said: list[str] = []
    for count in (3, 2, 3, 1, 3):  # one more shape than graphs are kept, and one that comes back
        conditions = pipe.conditions(slices(count))
        for scheduler in ("dpm++", "ddim"):
            pipe.capture = True
            captured = pipe.denoise(conditions, 4, scheduler, warn=said.append)
            assert not pipe.will_capture(count)
            pipe.capture = False
            torch.testing.assert_close(captured, pipe.denoise(conditions, 4, scheduler), rtol=1e-4, atol=1e-4)
    assert not said
    pipe.capture = True
    pipe.release_memory()
    assert pipe.will_capture(3)


@on_a_gpu
def test_what_is_decoded_beside_the_next_batch_on_a_gpu_is_the_same(pipe: DiffMaPipeline) -> None:
    pipe.set_device("cuda", precision="float32")
    assert pipe.overlap
    beside = voxels(pipe)
    pipe.overlap = False
    assert np.abs(beside - voxels(pipe)).max() < 0.1  # of 1000


@on_a_gpu
def test_every_step_is_told_once_it_is_done_on_a_gpu(pipe: DiffMaPipeline) -> None:
    pipe.set_device("cuda", precision="float32")
    told: list[int] = []
    pipe.denoise(pipe.conditions(slices(2)), 5, on_step=lambda: told.append(1))
    assert len(told) == 5


@on_a_gpu
def test_an_evaluation_never_waits_for_the_gpu(pipe: DiffMaPipeline) -> None:
    pipe.set_device("cuda", precision="float32")
    pipe.capture = False
    x, t = torch.randn(2, *pipe.latent_shape, device="cuda"), torch.zeros(2, dtype=torch.int64, device="cuda")
    with torch.inference_mode():
        evaluate = pipe._evaluation(x, t, pipe.conditions(slices(2)), print)
        expected = evaluate(x, t)  # kernels are compiled
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = evaluate(x, t)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found, expected)


@on_a_gpu
def test_numbers_that_are_not_finite_are_a_models_error_on_a_gpu_too(pipe: DiffMaPipeline) -> None:
    pipe.denoiser.final.linear.bias.data.fill_(float("nan"))
    pipe.set_device("cuda")
    with pytest.raises(ModelError, match="not finite"):
        pipe(head_like_ct(), num_inference_steps=1, batch_size=2)


@with_bfloat16
def test_a_gpu_converts_in_bfloat16_as_a_cpu_does_in_float32(pipe: DiffMaPipeline) -> None:
    pipe.set_device("cpu")
    expected = voxels(pipe)
    pipe.set_device("cuda")
    assert pipe.precision == "bfloat16"
    found = voxels(pipe)
    assert np.linalg.norm(found[0] - expected[0]) < 0.05 * np.linalg.norm(expected[0])
    assert pipe(head_like_ct(), num_inference_steps=1).metadata["precision"] == "bfloat16"
