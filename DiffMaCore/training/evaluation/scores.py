"""How good predicted volumes are: metrics inside the mask and over the whole slice, how calm the slices are, and from
patients to a cohort: mean, standard deviation and bootstrap interval, and the same of paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.imaging import metrics

SCORING = 1
"""Version of the definitions: metrics of another one are taken anew."""

DATA_RANGE = 1.0
METRICS = ("ssim", "psnr", "mse", "mae", "mse_8bit")
REGIONS = ("mask", "slice")
EIGHT_BIT = 255.0**2
"""What an MSE of images in [0, 1] is multiplied by to compare with the paper's, which is of grey values 0 to 255."""

DEFINITIONS = (
    "Inside the mask: both images are set to 0 outside the body and only voxels of the body count."
    " Whole slice: every pixel counts; the prediction is 0 outside the body, as a user gets it, and the truth stays as"
    " it was acquired. SSIM is taken slice by slice with a Gaussian window of 1.5 pixels (11 across) and averaged over"
    " the volume; MSE and MAE are taken over all voxels of the volume at once, and PSNR from that MSE."
    " Everything is computed in float64 per volume; means, deviations and intervals are over patients."
)
LEVEL = 95  # % of an interval
FEW = 3  # patients, below which an interval means little

Cases = Mapping[str, Mapping[str, Any]]
"""Per case what ``VolumeScores.to_dict`` gives."""


@dataclass(frozen=True)
class VolumeScores:
    """One volume's metrics; ``mask`` and ``slice`` hold those named in METRICS, PSNR in dB and SSIM from -1 to 1.

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
            same metrics as the same images in float with a range of 1.
        body: where the patient is; the prediction counts as 0 elsewhere.
        slice_index: where the slices stood in the volume, for those that were left out between; None: side by side.
        on_slice: called twice a slice, once a region.

    Raises InputError where the arrays differ in size, or the mask is empty.
    """
    made = np.where(body, prediction, 0)
    inside = metrics.quality_of_slices(made, np.where(body, truth, 0), data_range, body, on_slice)
    whole = metrics.quality_of_slices(made, truth, data_range, None, on_slice)

    def values_of(quality: metrics.Quality) -> dict[str, float]:
        mse = quality.mse / data_range**2
        values = (quality.ssim, quality.psnr, mse, quality.mae / data_range, mse * EIGHT_BIT)
        return dict(zip(METRICS, values, strict=True))

    return VolumeScores(values_of(inside), values_of(whole), consistency(made, truth, body, slice_index))


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


def interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean (Efron 1979); None for fewer than two values.

    Patients are drawn with replacement. The same seed draws the same patients whatever is measured, so that the
    intervals of two models rest on the same cohorts.
    """
    if len(values) < 2:
        return None
    sample = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))
    low, high = np.percentile(sample[drawn].mean(axis=1), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def summary(values: Sequence[float | None], resamples: int, seed: int) -> dict[str, Any]:
    """Mean, sample standard deviation, interval and number of the values that are there.

    A None (the infinite PSNR of a perfect volume, a consistency that does not exist) is left out of all of them, and
    ``n`` is smaller for it.
    """
    there = [value for value in values if value is not None and math.isfinite(value)]
    return {
        "mean": float(np.mean(there)) if there else None,
        "sd": float(np.std(there, ddof=1)) if len(there) > 1 else None,
        "ci95": interval(there, resamples, seed),
        "n": len(there),
    }


def cohort(cases: Cases, resamples: int, seed: int) -> dict[str, Any]:
    """The summary of every metric in every region, and of the consistency, over patients."""
    return _of_metrics(lambda *keys: summary([_reach(case, *keys) for case in cases.values()], resamples, seed))


def paired(cases: Cases, reference: Cases, resamples: int, seed: int) -> dict[str, Any]:
    """As :func:`cohort`, of one model minus ``reference``, patient by patient."""

    def difference(name: str, *keys: str) -> float | None:
        a, b = _reach(cases[name], *keys), _reach(reference[name], *keys)
        return None if a is None or b is None else a - b

    both = [name for name in cases if name in reference]
    return _of_metrics(lambda *keys: summary([difference(name, *keys) for name in both], resamples, seed))


def _of_metrics(make: Callable[..., Any]) -> dict[str, Any]:
    """What ``make`` gives of every region and figure, and of the consistency, laid out as a case's scores are."""
    regions: dict[str, Any] = {region: {key: make(region, key) for key in METRICS} for region in REGIONS}
    return {**regions, "consistency": make("consistency")}


def _reach(case: Mapping[str, Any], *keys: str) -> float | None:
    return case[keys[0]][keys[1]] if len(keys) > 1 else case[keys[0]]
