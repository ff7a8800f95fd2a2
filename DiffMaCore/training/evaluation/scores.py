"""Predicted and true volumes in, metrics out: of a patient inside the mask and over the whole slice, of a cohort with
intervals, and of a head also grey against white matter and the uncertainty. Arrays are (slices, rows, columns)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from DiffMaCore.errors import InputError
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

CONFIDENCE = 0.9
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Intervals whose cover is counted, of a normal distribution."""
_PERCENTILES = (0.5, 99.5)  # of the truth inside the mask: black and white of SSIM and PSNR of heads
_LEAST_VOXELS = 50

Bools = NDArray[np.bool_]
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
        regions = {region: getattr(self, region).items() for region in REGIONS}
        finite = {region: {key: v if math.isfinite(v) else None for key, v in each} for region, each in regions.items()}
        return {**finite, "consistency": self.consistency}


def score_volume(
    prediction: NDArray,
    truth: NDArray,
    body: Bools,
    slice_index: NDArray | None = None,
    data_range: float = DATA_RANGE,
    on_slice: Callable[[int], None] | None = None,
) -> VolumeScores:
    """Figures of a predicted volume (N, H, W) against the true one.

    Both are of any numeric type, from 0 to ``data_range``; outside ``body`` the prediction counts as 0. ``slice_index``
    is where the slices stood in the volume, for those that were left out between; None: side by side. ``on_slice`` is
    called twice a slice, once a region. Raises InputError where the arrays differ in size, or the mask is empty.
    """
    made = np.where(body, prediction, 0)
    inside = metrics.quality_of_slices(made, np.where(body, truth, 0), data_range, body, on_slice)
    whole = metrics.quality_of_slices(made, truth, data_range, None, on_slice)

    def values_of(quality: metrics.Quality) -> dict[str, float]:
        mse = quality.mse / data_range**2
        values = (quality.ssim, quality.psnr, mse, quality.mae / data_range, mse * EIGHT_BIT)
        return dict(zip(METRICS, values, strict=True))

    return VolumeScores(values_of(inside), values_of(whole), consistency(made, truth, body, slice_index))


def consistency(prediction: NDArray, truth: NDArray, body: Bools, slice_index: NDArray | None = None) -> float | None:
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

    The same seed draws the same patients whatever is measured: intervals of two models rest on the same cohorts.
    """
    if len(values) < 2:
        return None
    sample = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))
    low, high = np.percentile(sample[drawn].mean(axis=1), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def summary(values: Sequence[float | None], resamples: int, seed: int) -> dict[str, Any]:
    """Mean, sample standard deviation, interval and number ``n`` of the values that are there: an infinite PSNR or a
    consistency that does not exist is None."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return {
        "mean": float(np.mean(there)) if there else None,
        "sd": float(np.std(there, ddof=1)) if len(there) > 1 else None,
        "ci95": interval(there, resamples, seed),
        "n": len(there),
    }


def cohort(cases: Cases, resamples: int, seed: int) -> dict[str, Any]:
    """The summary of every metric in every region, and of the consistency, over patients."""

    def over(values: Sequence[Any]) -> dict[str, Any]:
        if isinstance(values[0], Mapping):
            return {key: over([value[key] for value in values]) for key in values[0]}
        return summary(values, resamples, seed)

    return over(list(cases.values()))


def paired(cases: Cases, reference: Cases, resamples: int, seed: int) -> dict[str, Any]:
    """As :func:`cohort`, of one model minus ``reference``, patient by patient."""

    def minus(a: Any, b: Any) -> Any:
        if isinstance(a, Mapping):
            return {key: minus(a[key], b[key]) for key in a}
        return None if a is None or b is None else a - b

    both = {name: minus(case, reference[name]) for name, case in cases.items() if name in reference}
    return cohort(both, resamples, seed)


@dataclass(frozen=True)
class Likeness:
    """Pearson's correlation, SSIM (slice by slice) and PSNR in dB (infinite for equal images) inside a mask."""

    correlation: float | None
    ssim: float
    psnr: float


def fitted(image: NDArray, truth: NDArray, inside: Bools) -> NDArray[np.float64]:
    """``a * image + b`` that is nearest to the truth inside the mask (least squares); ``a`` may be negative."""
    x, y = image[inside].astype(np.float64), truth[inside].astype(np.float64)
    if not x.size:
        raise InputError("the mask is empty, so nothing can be measured; give a mask that holds the brain")
    slope = stats.linregress(x, y).slope if np.ptp(x) > 0 else 0.0
    return slope * (image.astype(np.float64) - x.mean()) + y.mean()


def likeness(
    image: NDArray, truth: NDArray, inside: Bools, fit: bool = True, data_range: float | None = None
) -> Likeness:
    """How like the truth an image is inside a mask; outside both are black when SSIM is taken.

    ``fit`` brings the image to the truth's units first. ``data_range`` is white minus black, black being 0; None: they
    are the truth's 0.5 and 99.5 percentiles in the mask, and values beyond are not clipped. Raises InputError where the
    mask is empty, or the truth has one value in it.
    """
    low, high = np.percentile(truth[inside], _PERCENTILES) if inside.any() else (0.0, 0.0)
    if not high > low:
        raise InputError("the truth has the same value all over the mask, or the mask is empty; give an image in it")
    if data_range is not None:
        low, high = 0.0, data_range
    made = fitted(image, truth, inside) if fit else np.asarray(image, np.float64)
    a, b = (np.where(inside, (volume - low) / (high - low), 0) for volume in (made, truth))
    found = metrics.quality_of_slices(a, b, 1.0, inside)
    return Likeness(correlation(image[inside], truth[inside]), found.ssim, found.psnr)


def correlation(a: NDArray, b: NDArray) -> float | None:
    """Pearson's correlation of two lists of values; None where one of the two does not vary."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def contrast_ratio(image: NDArray, truth: NDArray, grey: Bools, white: Bools) -> float:
    """Difference of the mean values of white and grey matter over that of the truth, in the same units: 1 is right, 0
    is no contrast."""
    _require(grey, white)
    made, true = (float(volume[white].mean()) - float(volume[grey].mean()) for volume in (image, truth))
    if true == 0:
        raise InputError("grey and white matter are alike in the truth, so a contrast cannot be compared with its")
    return made / true


def auc(values: NDArray, grey: Bools, white: Bools) -> float:
    """How often a voxel of white matter is brighter than one of grey (area under the ROC curve; Mann and Whitney).

    0.5 tells nothing. Below, grey matter is the brighter one, as it is in T2: 0.1 there is as good as 0.9.
    """
    _require(grey, white)
    of_white, of_grey = values[white].astype(np.float32), values[grey].astype(np.float32)
    return float(stats.mannwhitneyu(of_white, of_grey).statistic) / (of_white.size * of_grey.size)


def _require(grey: Bools, white: Bools) -> None:
    if min(grey.sum(), white.sum()) < _LEAST_VOXELS:
        raise InputError(f"grey or white matter has fewer than {_LEAST_VOXELS} voxels; give slices of the brain")


@dataclass(frozen=True)
class Trust:
    """What the uncertainty is worth."""

    correlation: float | None  # of deviation and absolute error, by voxel (Pearson); None where one does not vary
    rank_correlation: float | None  # the same of their ranks (Spearman), which few large errors do not decide
    cover: float  # share of voxels whose truth lies in the 90 % interval of a normal distribution; 0.9 is right
    covers: tuple[float, ...]  # the same for each of LEVELS, which would be the level itself
    scale: float  # by which the deviation must be multiplied for a cover of 90 % of these voxels


def trust(image: NDArray, truth: NDArray, deviation: NDArray, inside: Bools) -> Trust:
    """Judge a standard deviation, all in the same units."""
    if not inside.any():
        raise InputError("the mask is empty, so nothing can be measured; give a mask that holds the head")
    error = np.abs(image[inside].astype(np.float64) - truth[inside])
    promised = deviation[inside]
    needed = error / np.maximum(promised.astype(np.float64), 1e-12)
    covers = tuple(float((needed <= _sigmas(level)).mean()) for level in LEVELS)
    ranks = (stats.rankdata(values.astype(np.float32)) for values in (promised, error))
    return Trust(
        correlation(promised, error),
        correlation(*ranks),
        covers[LEVELS.index(CONFIDENCE)],
        covers,
        float(np.quantile(needed, CONFIDENCE)) / _sigmas(CONFIDENCE),
    )


def _sigmas(level: float) -> float:
    """Half the width of a central interval of the normal distribution, in standard deviations."""
    return float(stats.norm.ppf(0.5 + level / 2))


def head_measures(
    mr: NDArray,
    truth: NDArray,
    head: Bools,
    grey: Bools | None = None,
    white: Bools | None = None,
    deviation: NDArray | None = None,
    data_range: float | None = None,
) -> dict[str, Any]:
    """All metrics of a head whose truth is known, in the truth's units, as plain JSON values: ssim, psnr, correlation,
    slice_change (over the truth's own); with cortex and white matter contrast, auc and auc_truth; with the deviation of
    the samples those of :class:`Trust`, ``uncertainty``. ``data_range`` is as in :func:`likeness`."""
    mr = np.asarray(mr, np.float64)
    found: dict[str, Any] = asdict(likeness(mr, truth, head, False, data_range))
    found["psnr"] = found["psnr"] if np.isfinite(found["psnr"]) else None
    found["slice_change"] = consistency(mr, truth, head)
    if grey is not None and white is not None:
        found["contrast"] = contrast_ratio(mr, truth, grey, white)
        found["auc"], found["auc_truth"] = auc(mr, grey, white), auc(truth, grey, white)
    if deviation is not None:
        found["uncertainty"] = asdict(trust(mr, truth, deviation, head))
    return found
