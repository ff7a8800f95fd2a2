"""Deviations and errors in, whether a high deviation means a large error out: binned, ranked, drawn.

Where truth and samples come from one distribution, the mean of S samples misses the truth by
``sd * sqrt(1 + 1/S)`` on average (root mean square): that is what the deviation promises, and what is compared with
the error that was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from DiffMaCore.files import replacing

BINS = 10
VOXELS = 200_000
"""Voxels that are drawn of a patient, so that all patients count alike and a cohort fits the memory."""

_CONFIDENT, _CAUTIOUS = 0.9, 1.1  # of the ratio; between them the size of the uncertainty is about right
_RANKS = (
    (-0.1, "it is larger where the errors are smaller"),
    (0.3, "it hardly tells where the errors are"),
    (0.6, "it tells only roughly where the errors are"),
    (np.inf, "it tells well where the errors are"),
)
"""What rank correlations below these mean."""


@dataclass
class Calibration:
    """Collects voxels of the body, patient by patient; then :meth:`result`."""

    samples: int  # that the mean and the deviation are of
    seed: int = 0  # of the voxels that are drawn
    _promised: list[NDArray[np.float64]] = field(default_factory=list)
    _errors: list[NDArray[np.float64]] = field(default_factory=list)
    _spearman: dict[str, float | None] = field(default_factory=dict)

    def add(self, case: str, mean: NDArray, deviation: NDArray, truth: NDArray, body: NDArray[np.bool_]) -> None:
        """One patient's volumes (N, H, W) in [0, 1]; ``deviation`` is the sample standard deviation."""
        places = np.flatnonzero(body)
        if len(places) > VOXELS:
            places = np.random.default_rng(self.seed).choice(places, VOXELS, replace=False)
        taken = [np.asarray(volume).reshape(-1)[places].astype(np.float64) for volume in (mean, deviation, truth)]
        error = np.abs(taken[0] - taken[2])
        promised = taken[1] * np.sqrt(1 + 1 / self.samples)
        self._promised.append(promised)
        self._errors.append(error)
        ranked = np.ptp(promised) > 0 and np.ptp(error) > 0
        self._spearman[case] = float(stats.spearmanr(promised, error).statistic) if ranked else None

    def result(self) -> dict[str, Any]:
        """Plain JSON values.

        ``bins``: predicted and actual root mean square error of tenths of the voxels, from the surest to the least
        sure; ``error``: mean distance of the two, in shares of the data range; ``ratio``: predicted to actual over
        all voxels, below 1 is too confident; ``spearman``: rank correlation of deviation and absolute error, the mean
        over patients and each patient's own; ``meaning``: one sentence.
        """
        promised, error = np.concatenate(self._promised), np.concatenate(self._errors)
        parts = [part for part in np.array_split(np.argsort(promised, kind="stable"), BINS) if len(part)]
        bins = [{"predicted": _rms(promised[p]), "actual": _rms(error[p]), "voxels": len(p)} for p in parts]
        gaps = [abs(item["predicted"] - item["actual"]) for item in bins]
        actual = _rms(error)
        ratio = _rms(promised) / actual if actual > 0 else None
        ranks = [value for value in self._spearman.values() if value is not None]
        spearman = float(np.mean(ranks)) if ranks else None
        return {
            "samples": self.samples,
            "bins": bins,
            "error": float(np.average(gaps, weights=[item["voxels"] for item in bins])),
            "ratio": ratio,
            "spearman": {"mean": spearman, "cases": dict(self._spearman)},
            "meaning": _meaning(ratio, spearman),
        }


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean()))


def _meaning(ratio: float | None, spearman: float | None) -> str:
    """What the metrics allow a user to say of the uncertainty."""
    if ratio is None:
        return "There is no error to speak of, so nothing follows for the uncertainty."
    if spearman is None:
        return "The samples do not differ, so the uncertainty says nothing."
    size = "The size of the uncertainty is about right on the whole"
    if not _CONFIDENT <= ratio <= _CAUTIOUS:
        word = "small" if ratio < _CONFIDENT else "large"
        size = f"The uncertainty is too {word}: it promises {100 * ratio:.0f} % of the error that is made"
    place = next(text for below, text in _RANKS if spearman < below)
    return f"{size}; {place} (rank correlation {spearman:.2f})."


@contextmanager
def axes_in(path: Path, size: tuple[float, float], dpi: int, caption: str = "") -> Iterator[Any]:
    """Axes to draw on, which become a PNG with a legend when the block ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    yield axes
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(caption, fontsize=8, color="0.35")
    with replacing(path) as part:
        figure.savefig(part, dpi=dpi, format="png")


def picture(results: Mapping[str, tuple[str, Mapping[str, Any]]], path: Path, caption: str) -> None:
    """Draw predicted against actual error of several systems: title and :meth:`Calibration.result` by key."""
    with axes_in(path, (6.4, 6.0), 130, caption) as axes:
        most = 0.0
        for title, result in results.values():
            predicted, actual = ([item[key] for item in result["bins"]] for key in ("predicted", "actual"))
            axes.plot(predicted, actual, marker="o", markersize=4, linewidth=1.5, label=title)
            most = max(most, *predicted, *actual)
        axes.plot([0, most * 1.05], [0, most * 1.05], color="0.6", linestyle="--", linewidth=1, label="perfect")
        axes.set(
            xlabel="predicted error (from the standard deviation of the samples)",
            ylabel="actual error (root mean square)",
            xlim=(0, most * 1.05),
            ylim=(0, most * 1.05),
            title="Above the line: too confident. Rising: errors are where it says",
        )
