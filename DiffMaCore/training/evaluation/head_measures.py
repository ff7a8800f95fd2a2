"""Figures of one head whose true MRI is known: likeness, grey against white matter, slices, uncertainty.

All take arrays of one shape (slices, rows, columns) and masks of where they count. An MRI has no units: either it is
in those of the truth already, or it is brought there by the two parameters of a linear fit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from DiffMaCore.errors import InputError
from DiffMaCore.imaging import metrics
from DiffMaCore.training.evaluation.scores import consistency

CONFIDENCE = 0.9
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Intervals whose cover is counted, of a normal distribution."""
_PERCENTILES = (0.5, 99.5)  # of the truth inside the mask: black and white of SSIM and PSNR
_LEAST_VOXELS = 50

Bools = NDArray[np.bool_]


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
    if min(int(grey.sum()), int(white.sum())) < _LEAST_VOXELS:
        raise InputError(f"grey or white matter has fewer than {_LEAST_VOXELS} voxels; give slices of the brain")


@dataclass(frozen=True)
class Trust:
    """What the uncertainty is worth."""

    correlation: float | None  # of deviation and absolute error, by voxel (Pearson); None where one does not vary
    rank_correlation: float | None  # the same of their ranks (Spearman), which few large errors do not decide
    cover: float  # share of voxels whose truth lies in the 90 % interval of a normal distribution; 0.9 is right
    covers: tuple[float, ...]  # the same for each of LEVELS, which would be the level itself
    scale: float  # by which the deviation must be multiplied for a cover of 90 % of these voxels


def trust(image: NDArray, truth: NDArray, deviation: NDArray, inside: Bools, scale: float = 1.0) -> Trust:
    """Judge a standard deviation, all in the same units; ``scale`` is what a calibration multiplies it by."""
    if not inside.any():
        raise InputError("the mask is empty, so nothing can be measured; give a mask that holds the head")
    error = np.abs(image[inside].astype(np.float64) - truth[inside])
    promised = deviation[inside]
    needed = error / np.maximum(promised.astype(np.float64), 1e-12)
    covers = tuple(float((needed <= scale * _sigmas(level)).mean()) for level in LEVELS)
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
    scale: float = 1.0,
    fit: bool = False,
    data_range: float | None = None,
) -> dict[str, Any]:
    """All metrics of a head whose truth is known, as plain JSON values: ssim, psnr, correlation, slice_change (over the
    truth's own); with tissues contrast, auc and auc_truth; with a deviation those of :class:`Trust`, ``uncertainty``.

    Args:
        mr, truth: (slices, rows, columns), in the same units unless ``fit``.
        head: where SSIM, PSNR, the change from slice to slice and the uncertainty count.
        grey, white: cortex and cerebral white matter.
        deviation: standard deviation of the samples, in units of ``mr``; ``scale`` as in :func:`trust`.
        fit: bring ``mr`` to the truth's units by a linear fit inside the head first, and ``deviation`` with it.
        data_range: as in :func:`likeness`.
    """
    made = fitted(mr, truth, head) if fit else np.asarray(mr, np.float64)
    found: dict[str, Any] = asdict(likeness(made, truth, head, False, data_range))
    found["psnr"] = found["psnr"] if np.isfinite(found["psnr"]) else None
    found["slice_change"] = consistency(made, truth, head)
    if grey is not None and white is not None:
        found["contrast"] = contrast_ratio(made, truth, grey, white)
        found["auc"], found["auc_truth"] = auc(made, grey, white), auc(truth, grey, white)
    if deviation is not None:
        spread = float(np.std(mr[head]))
        factor = float(np.std(made[head])) / spread if fit and spread > 0 else 1.0
        found["uncertainty"] = asdict(trust(made, truth, factor * deviation, head, scale))
    return found
