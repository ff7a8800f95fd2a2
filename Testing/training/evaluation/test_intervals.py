"""Means and intervals over patients."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.training.evaluation.scores import cohort, interval, paired, summary


def patients(values: list[float]) -> dict:
    """Cases whose every figure is the given value."""
    figures = [dict.fromkeys(("ssim", "psnr", "mse", "mae", "mse_8bit"), value) for value in values]
    return {f"p{n}": {"mask": f, "slice": f, "consistency": f["ssim"]} for n, f in enumerate(figures)}


def test_the_interval_holds_the_mean_and_shrinks_with_more_patients() -> None:
    five = [0.62, 0.66, 0.7, 0.74, 0.78]
    few, many = (interval(five * times, 2000, 0) for times in (1, 20))
    for low, high in (few, many):
        assert low < 0.7 < high
    assert many[1] - many[0] < (few[1] - few[0]) / 3


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [interval(rng.normal(0, 1, 30).tolist(), 400, k) for k in range(300)]
    assert 0.89 < np.mean([low < 0 < high for low, high in found]) < 0.98


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.5, 0.6, 0.8, 0.9]
    assert interval(values, 500, 3) == interval(values, 500, 3) != interval(values, 500, 4)


def test_one_patient_has_a_mean_and_no_interval() -> None:
    assert summary([0.5], 100, 0) == {"mean": 0.5, "sd": None, "ci95": None, "n": 1}


def test_an_infinite_psnr_is_left_out_of_the_mean_and_the_count_tells() -> None:
    found = summary([30.0, None, 32.0], 100, 0)
    assert found["mean"] == 31 and found["n"] == 2
    assert summary([None, None], 100, 0) == {"mean": None, "sd": None, "ci95": None, "n": 0}


def test_differences_are_taken_patient_by_patient() -> None:
    # patients differ widely, the systems by the same little everywhere: only pairing shows it
    ours, other = patients([0.2, 0.5, 0.9, 0.4]), patients([0.21, 0.51, 0.91, 0.41])
    difference = paired(other, ours, 500, 0)["mask"]["ssim"]
    assert difference["mean"] == pytest.approx(0.01)
    assert difference["ci95"] == pytest.approx((0.01, 0.01))
    low, high = cohort(ours, 500, 0)["mask"]["ssim"]["ci95"]
    assert high - low > 0.1
