"""A whole conversion is the same whatever computes it: back ends, threads, and slices at once.

In mean mode to the bit, however many slices are made at once. Not by other threads: the decoder's SiLU and group
normalisation are PyTorch's, which round by each thread's share. What is left is the rounding of float32, here held
under a thousandth of one unit of an image of 1000. Triton's interpreter is too slow for a conversion: its kernels are
held to float64 in ``Testing/ops``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from Testing.heads import rendered

_RANGE, _ROUNDING = 1000.0, 1e-3


@pytest.fixture(scope="module")
def demo() -> Iterator[DiffMaPipeline]:
    threads = torch.get_num_threads()
    yield DiffMaPipeline.from_pretrained("demo")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def expected(demo: DiffMaPipeline) -> np.ndarray:
    """The mean by Numba, three slices at once, on one thread."""
    return _made(demo, "mean")


@cache
def _ct() -> sitk.Image:
    return rendered(3).ct_image()


def _made(pipe: DiffMaPipeline, mode: str, backend: str = "numba", threads: int = 1, batch: int = 3) -> np.ndarray:
    torch.set_num_threads(threads)
    pipe.set_device("cpu", backend)
    made = pipe(_ct(), mode=mode, num_inference_steps=2, seed=1, slices=(6, 9), batch_size=batch)
    return sitk.GetArrayFromImage(made.mr)


def psnr(image: np.ndarray, other: np.ndarray, span: float = _RANGE) -> float:
    """In dB."""
    return float(10 * np.log10(span**2 / max(np.mean((image.astype(float) - other) ** 2), 1e-20)))


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_the_reference_scan_and_numba_make_one_image(demo: DiffMaPipeline, mode: str) -> None:
    exact, fast = _made(demo, mode, "torch"), _made(demo, mode)
    assert np.ptp(exact) > 0.5 * _RANGE and psnr(exact, fast) > 100


@pytest.mark.parametrize("batch", [1, 2])
def test_slices_at_once_change_no_bit_of_the_expected_image(
    demo: DiffMaPipeline, expected: np.ndarray, batch: int
) -> None:
    assert np.array_equal(_made(demo, "mean", batch=batch), expected)


@pytest.mark.parametrize(("threads", "batch"), [(2, 3), (7, 3), (7, 1)])
def test_threads_change_no_more_than_rounding(
    demo: DiffMaPipeline, expected: np.ndarray, threads: int, batch: int
) -> None:
    assert np.abs(_made(demo, "mean", threads=threads, batch=batch) - expected).max() < _ROUNDING


def test_the_same_run_twice_gives_the_same_bits(demo: DiffMaPipeline, expected: np.ndarray) -> None:
    assert np.array_equal(_made(demo, "mean"), expected)
    assert np.array_equal(_made(demo, "sample"), _made(demo, "sample"))
