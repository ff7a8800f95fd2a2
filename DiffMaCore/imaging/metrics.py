"""Image quality inside a mask, in float64, with a stated data range.

MR has no units, so state how the images were normalised with every value. A value counts only where the
mask is set; images of any numeric type give the metrics of the same values in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError

_SSIM_SIGMA = 1.5  # voxels; Wang et al. 2004, as an 11-voxel window
_SSIM_TRUNCATE = 3.5
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class Quality:
    """Mean absolute and squared error, PSNR in dB and SSIM of one volume inside its mask."""

    mae: float
    mse: float
    psnr: float
    ssim: float


def _prepare(
    image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    a, b = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    return a, b, _inside(a, b, mask)


def _inside(a: NDArray, b: NDArray, mask: ArrayLike | None) -> NDArray[np.bool_]:
    """Where values count; raises InputError where the sizes differ or nothing counts."""
    inside = np.ones(b.shape, bool) if mask is None else np.asarray(mask) > 0
    if a.shape != b.shape or inside.shape != b.shape:
        raise InputError(
            f"image {a.shape}, reference {b.shape} and mask {inside.shape} differ in size; resample them to one grid"
        )
    if not inside.any():
        raise InputError("the mask is empty, so nothing can be measured; give a mask that holds the body")
    return inside


def mae(image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean absolute error inside the mask, in the images' own units."""
    a, b, inside = _prepare(image, reference, mask)
    return float(np.abs(a - b)[inside].mean())


def mse(image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean squared error inside the mask."""
    a, b, inside = _prepare(image, reference, mask)
    return float(((a - b) ** 2)[inside].mean())


def psnr(image: ArrayLike, reference: ArrayLike, data_range: float, mask: ArrayLike | None = None) -> float:
    """Peak signal-to-noise ratio in dB: ``10 log10(data_range^2 / mse)``; infinite for equal images."""
    return _psnr(mse(image, reference, mask), data_range)


def _psnr(error: float, data_range: float) -> float:
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim_map(
    image: ArrayLike, reference: ArrayLike, data_range: float, axes: tuple[int, ...] | None = None
) -> NDArray[np.float64]:
    """SSIM of every voxel (Wang et al. 2004, Gaussian window of 1.5 voxels, unbiased covariances).

    ``axes`` are those the window covers: None for all, ``(-2, -1)`` for slices one by one.
    """
    a, b, _ = _prepare(image, reference, None)
    covered = range(a.ndim) if axes is None else [axis % a.ndim for axis in axes]
    sigma = [_SSIM_SIGMA if axis in covered else 0.0 for axis in range(a.ndim)]

    def blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, sigma, truncate=_SSIM_TRUNCATE)

    window = 2 * int(_SSIM_TRUNCATE * _SSIM_SIGMA + 0.5) + 1
    count = window ** len(list(covered))
    unbiased = count / (count - 1)
    mean_a, mean_b = blur(a), blur(b)
    var_a = unbiased * (blur(a * a) - mean_a**2)
    var_b = unbiased * (blur(b * b) - mean_b**2)
    both = unbiased * (blur(a * b) - mean_a * mean_b)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def ssim(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float,
    mask: ArrayLike | None = None,
    axes: tuple[int, ...] | None = None,
) -> float:
    """Mean of :func:`ssim_map` inside the mask."""
    a, b, inside = _prepare(image, reference, mask)
    return float(ssim_map(a, b, data_range, axes)[inside].mean())


def quality(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float,
    mask: ArrayLike | None = None,
    axes: tuple[int, ...] | None = None,
) -> Quality:
    """All metrics of one volume.

    Raises InputError when the arrays differ in size or the mask is empty.
    """
    return Quality(
        mae=mae(image, reference, mask),
        mse=mse(image, reference, mask),
        psnr=psnr(image, reference, data_range, mask),
        ssim=ssim(image, reference, data_range, mask, axes),
    )


def quality_of_slices(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float,
    mask: ArrayLike | None = None,
    on_slice: Callable[[int], None] | None = None,
) -> Quality:
    """As :func:`quality` with ``axes=(-2, -1)`` of (N, H, W), slice after slice, so that a volume needs little memory.

    ``on_slice`` is called with the index of every slice that is done.
    """
    a, b = np.asarray(image), np.asarray(reference)
    inside = _inside(a, b, mask)
    sums = np.zeros(3)
    for index, where in enumerate(inside):
        if where.any():
            x, y = a[index].astype(np.float64), b[index].astype(np.float64)
            error = (x - y)[where]
            sums += np.abs(error).sum(), (error**2).sum(), ssim_map(x, y, data_range)[where].sum()
        if on_slice:
            on_slice(index)
    mean_absolute, mean_squared, similarity = (float(value) for value in sums / inside.sum())
    return Quality(mae=mean_absolute, mse=mean_squared, psnr=_psnr(mean_squared, data_range), ssim=similarity)
