"""Grey values in, thresholds between their classes out."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.errors import InputError

_BINS = 128
_TAILS = (0.1, 99.9)  # percentiles between which the bins lie: an outlier is no class of its own


def between_classes(values: NDArray, count: int) -> tuple[float, ...]:
    """The ``count`` - 1 thresholds that part values into classes of least variance (Otsu 1979), in rising order.

    With three classes of an MRI's brain these are fluid, grey and white matter. Exact over 128 bins.

    Raises:
        InputError: all values are the same.
    """
    low, high = np.percentile(values, _TAILS)
    if not high > low:
        raise InputError("the image has the same value everywhere; give one with contrast")
    counts, edges = np.histogram(np.clip(values, low, high), _BINS, (low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    number = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    total = np.concatenate([[0], np.cumsum(counts * centres)])
    # between[i, j]: what a class of the bins i to j - 1 adds to the variance between classes
    n, t = number[None] - number[:, None], total[None] - total[:, None]
    between = np.divide(t * t, n, out=np.zeros_like(t), where=n > 0)
    best, cuts = -np.inf, (0,) * (count - 1)
    for tried in itertools.combinations(range(1, _BINS), count - 1):
        bounds = (0, *tried, _BINS)
        value = sum(between[a, b] for a, b in itertools.pairwise(bounds))
        if value > best:
            best, cuts = value, tried
    # in an empty stretch every cut is as good: half way between the classes' means, where the best one lies anyhow
    bounds = (0, *cuts, _BINS)
    means = [t[a, b] / max(n[a, b], 1) for a, b in itertools.pairwise(bounds)]
    return tuple(float(a + b) / 2 for a, b in itertools.pairwise(means))
