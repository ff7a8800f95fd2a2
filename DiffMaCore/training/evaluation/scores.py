"""How good one predicted volume is: figures inside the mask and over the whole slice, and how calm its slices are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.imaging import metrics

SCORING = 1
"""Version of the definitions: figures of another one are taken anew."""

DATA_RANGE = 1.0
FIGURES = ("ssim", "psnr", "mse", "mae", "mse_8bit")
REGIONS = ("mask", "slice")
EIGHT_BIT = 255.0**2
"""What an MSE of images in [0, 1] is multiplied by to stand beside the paper's, which is of grey values 0 to 255."""

DEFINITIONS = (
    "Inside the mask: both images are set to 0 outside the body and only voxels of the body count."
    " Whole slice: every pixel counts; the prediction is 0 outside the body, as a user gets it, and the truth stays as"
    " it was acquired. SSIM is taken slice by slice with a Gaussian window of 1.5 pixels (11 across) and averaged over"
    " the volume; MSE and MAE are taken over all voxels of the volume at once, and PSNR from that MSE."
    " Everything is computed in float64 per volume; means, deviations and intervals are over patients."
)


@dataclass(frozen=True)
class VolumeScores:
    """One volume's figures; ``mask`` and ``slice`` hold those named in FIGURES, PSNR in dB and SSIM from -1 to 1.

    ``psnr`` is infinite for equal images. ``consistency`` is None where the volume has no neighbouring slices.
    """

    mask: dict[str, float]
    slice: dict[str, float]
    consistency: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an infinite PSNR becomes None."""
        values = asdict(self)
        for region in REGIONS:
            values[region] = {key: value if math.isfinite(value) else None for key, value in values[region].items()}
        return values


def score_volume(
    prediction: NDArray,
    truth: NDArray,
    body: NDArray[np.bool_],
    slice_index: NDArray | None = None,
    data_range: float = DATA_RANGE,
    on_slice: Callable[[int], None] | None = None,
) -> VolumeScores:
    """Figures of a predicted volume (N, H, W) against the true one.

    Args:
        prediction, truth: from 0 to ``data_range``, of any numeric type: 8-bit images with a range of 255 give the
            same figures as the same images in float with a range of 1.
        body: where the patient is; the prediction counts as 0 elsewhere.
        slice_index: where the slices stood in the volume, for those that were left out between; None: side by side.
        data_range: white minus black.
        on_slice: called twice a slice, once a region.

    Raises:
        InputError: the arrays differ in size, or the mask is empty.
    """
    made = np.where(body, prediction, 0)
    inside = metrics.quality_of_slices(made, np.where(body, truth, 0), data_range, body, on_slice)
    whole = metrics.quality_of_slices(made, truth, data_range, None, on_slice)
    return VolumeScores(
        _figures(inside, data_range), _figures(whole, data_range), consistency(made, truth, body, slice_index)
    )


def _figures(quality: metrics.Quality, data_range: float) -> dict[str, float]:
    mse = quality.mse / data_range**2
    values = (quality.ssim, quality.psnr, mse, quality.mae / data_range, mse * EIGHT_BIT)
    return dict(zip(FIGURES, values, strict=True))


def consistency(
    prediction: NDArray, truth: NDArray, body: NDArray[np.bool_], slice_index: NDArray | None = None
) -> float | None:
    """How much the prediction changes from slice to slice, as a multiple of the truth's own change.

    The change is the mean absolute difference of neighbouring slices where both show the body. 1 is right; above 1
    the volume flickers, below 1 it is smoother across slices than the patient is. None without two neighbours (or
    with a truth that does not change).
    """
    index = np.arange(len(truth)) if slice_index is None else np.asarray(slice_index)
    steps = np.abs(np.diff(index))
    if not len(steps):
        return None
    sums = np.zeros(2)
    for place in np.flatnonzero(steps == steps.min()):
        both = body[place] & body[place + 1]
        for k, volume in enumerate((prediction, truth)):
            here, there = (volume[i][both].astype(np.float64) for i in (place, place + 1))
            sums[k] += np.abs(there - here).sum()
    return float(sums[0] / sums[1]) if sums[1] > 0 else None
