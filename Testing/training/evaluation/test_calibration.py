"""The calibration tells a right uncertainty from a wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from DiffMaCore.training.evaluation.calibration import BINS, Calibration, picture

SAMPLES = 8
SHAPE = (6, 48, 48)
BODY = np.ones(SHAPE, bool)


def judged(factor: float = 1.0, shuffled: bool = False) -> dict:
    """Truth and samples of one distribution whose width differs from place to place; then the deviation is spoiled."""
    rng = np.random.default_rng(0)
    found = Calibration(SAMPLES)
    for name in ("a", "b"):
        width = rng.uniform(0.01, 0.2, SHAPE)
        truth = 0.5 + width * rng.normal(size=SHAPE)
        drawn = 0.5 + width * rng.normal(size=(SAMPLES, *SHAPE))
        deviation = factor * drawn.std(axis=0, ddof=1)
        if shuffled:
            deviation = rng.permutation(deviation.ravel()).reshape(SHAPE)
        found.add(name, drawn.mean(axis=0), deviation, truth, BODY)
    return found.result()


def test_a_right_uncertainty_promises_the_error_that_is_made() -> None:
    right = judged()
    assert right["ratio"] == pytest.approx(1, abs=0.03)
    assert right["spearman"]["mean"] > 0.35
    assert set(right["spearman"]["cases"]) == {"a", "b"}
    assert "about right" in right["meaning"]


def test_too_small_and_too_large_uncertainties_are_told_apart() -> None:
    right, small, large = (judged(factor) for factor in (1.0, 0.3, 3.0))
    assert small["ratio"] == pytest.approx(0.3, rel=0.05) and "too small" in small["meaning"]
    assert large["ratio"] == pytest.approx(3, rel=0.05) and "too large" in large["meaning"]
    assert right["error"] < small["error"] / 3 and right["error"] < large["error"] / 3


def test_an_uncertainty_in_the_wrong_places_has_no_correlation_and_flat_bins() -> None:
    wrong = judged(shuffled=True)
    assert abs(wrong["spearman"]["mean"]) < 0.05 and "hardly tells where" in wrong["meaning"]
    actual = [item["actual"] for item in wrong["bins"]]
    assert max(actual) / min(actual) < 1.3
    rising = [item["actual"] for item in judged()["bins"]]
    assert len(rising) == BINS and rising[-1] > 3 * rising[0]


def test_an_uncertainty_that_is_largest_where_the_errors_are_smallest_is_told() -> None:
    rng = np.random.default_rng(3)
    error = rng.uniform(0.01, 0.2, SHAPE)
    found = Calibration(4)
    found.add("a", error, 0.21 - error, np.zeros(SHAPE), BODY)
    assert "larger where the errors are smaller" in found.result()["meaning"]


def test_samples_that_do_not_differ_say_nothing() -> None:
    found = Calibration(2)
    found.add("a", np.full(SHAPE, 0.4), np.zeros(SHAPE), np.random.default_rng(0).random(SHAPE), BODY)
    result = found.result()
    assert result["ratio"] == 0 and result["spearman"]["mean"] is None
    assert "says nothing" in result["meaning"]


def test_only_the_body_is_judged() -> None:
    rng = np.random.default_rng(2)
    body = np.zeros(SHAPE, bool)
    body[:, 10:30, 10:30] = True
    mean, deviation, truth = rng.random(SHAPE), rng.random(SHAPE), rng.random(SHAPE)
    results = []
    for outside in (0.0, 1.0):
        found = Calibration(4)
        found.add("a", mean, np.where(body, deviation, outside), np.where(body, truth, outside), body)
        results.append(found.result())
    assert results[0] == results[1]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "below" / "calibration.png"
    picture({"a": ("System A", judged()), "b": ("System B", judged(0.4))}, path, "two systems")
    assert path.read_bytes().startswith(b"\x89PNG")
