"""From patients to a cohort: mean, standard deviation and bootstrap interval, and the same of paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from DiffMaCore.training.evaluation.scores import FIGURES, REGIONS

LEVEL = 95  # %
FEW = 3  # patients, below which an interval means little
Cases = Mapping[str, Mapping[str, Any]]
"""Per case what ``VolumeScores.to_dict`` gives."""


def interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean (Efron 1979); None for fewer than two values.

    Patients are drawn with replacement. The same seed draws the same patients whatever is measured, so that the
    intervals of two systems rest on the same cohorts.
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
    """The summary of every figure in every region, and of the consistency, over patients."""
    every = list(cases.values())
    found: dict[str, Any] = {
        region: {key: summary([case[region][key] for case in every], resamples, seed) for key in FIGURES}
        for region in REGIONS
    }
    found["consistency"] = summary([case["consistency"] for case in every], resamples, seed)
    return found


def paired(cases: Cases, reference: Cases, resamples: int, seed: int) -> dict[str, Any]:
    """As :func:`cohort`, of one system minus ``reference``, patient by patient."""
    differences = {
        name: {
            **{region: _minus(case[region], reference[name][region]) for region in REGIONS},
            "consistency": _difference(case["consistency"], reference[name]["consistency"]),
        }
        for name, case in cases.items()
        if name in reference
    }
    return cohort(differences, resamples, seed)


def _minus(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: _difference(a[key], b[key]) for key in FIGURES}


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
