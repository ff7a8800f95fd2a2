"""Figures of one volume: equal for any numeric type, exact for a perfect prediction, and blind outside the body."""

from __future__ import annotations

import math

import numpy as np
import pytest

from DiffMaCore.training.evaluation.scores import consistency, score_volume


@pytest.fixture
def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, truth (grey values 0 to 255, whole numbers) and body."""
    rng = np.random.default_rng(0)
    shape = (5, 40, 36)
    truth = np.clip(128 + 60 * np.sin(np.linspace(0, 9, 40))[:, None] + rng.normal(0, 20, shape), 0, 255).round()
    prediction = np.clip(truth + rng.normal(0, 12, shape), 0, 255).round()
    body = np.zeros(shape, bool)
    body[:, 6:34, 5:30] = True
    return prediction, truth, body


def test_eight_bit_images_give_the_figures_of_the_same_images_in_float(volumes) -> None:
    prediction, truth, body = volumes
    eight = score_volume(prediction.astype(np.uint8), truth.astype(np.uint8), body, data_range=255).to_dict()
    unit = score_volume(prediction / 255, truth / 255, body).to_dict()
    single = score_volume((prediction / 255).astype(np.float32), (truth / 255).astype(np.float32), body).to_dict()
    for region in ("mask", "slice"):
        assert eight[region] == pytest.approx(unit[region], rel=1e-9)
        assert single[region] == pytest.approx(unit[region], rel=1e-5)


def test_mse_on_the_paper_s_scale_is_that_of_grey_values(volumes) -> None:
    prediction, truth, body = volumes
    found = score_volume(prediction / 255, truth / 255, body)
    assert found.mask["mse_8bit"] == pytest.approx(((prediction - truth)[body] ** 2).mean())


def test_a_perfect_prediction_has_ssim_1_and_an_infinite_psnr_that_json_can_hold(volumes) -> None:
    _, truth, body = volumes
    inside = np.where(body, truth / 255, 0)
    found = score_volume(inside, inside, body)
    assert found.mask["ssim"] == pytest.approx(1) and found.slice["ssim"] == pytest.approx(1)
    assert found.mask["mse"] == 0 and math.isinf(found.mask["psnr"])
    assert found.to_dict()["mask"]["psnr"] is None
    assert found.consistency == pytest.approx(1)


def test_what_is_predicted_outside_the_body_does_not_count_anywhere(volumes) -> None:
    prediction, truth, body = volumes
    painted = np.where(body, prediction, 255)
    assert score_volume(painted, truth, body, data_range=255) == score_volume(prediction, truth, body, data_range=255)


def test_the_true_background_counts_over_the_whole_slice_only(volumes) -> None:
    prediction, truth, body = volumes
    dark = np.where(body, truth, 0)
    bright, without = (score_volume(prediction, t, body, data_range=255) for t in (truth, dark))
    assert bright.mask == without.mask
    assert bright.slice["mse"] > without.slice["mse"]


def test_a_volume_that_flickers_has_a_consistency_above_one_and_a_blurred_one_below() -> None:
    rng = np.random.default_rng(1)
    truth = np.linspace(0, 1, 12)[:, None, None] * np.ones((12, 16, 16)) + rng.normal(0, 0.02, (12, 16, 16))
    body = np.ones(truth.shape, bool)
    flicker = truth + np.where(np.arange(12) % 2, 0.1, -0.1)[:, None, None]
    calm = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert consistency(flicker, truth, body) > 1.5
    assert consistency(truth, truth, body) == pytest.approx(1)
    assert consistency(calm, truth, body) == pytest.approx(0)


def test_slices_that_were_not_neighbours_in_the_volume_are_not_compared() -> None:
    truth = np.array([0.0, 0.1, 0.9, 1.0])[:, None, None] * np.ones((4, 8, 8))
    prediction = np.array([0.0, 0.1, 0.2, 0.3])[:, None, None] * np.ones((4, 8, 8))
    body = np.ones(truth.shape, bool)
    assert consistency(prediction, truth, body, np.array([3, 4, 9, 10])) == pytest.approx(1)
    assert consistency(prediction, truth, body) < 0.4


def test_one_slice_has_no_consistency() -> None:
    one = np.zeros((1, 4, 4))
    assert consistency(one, one, np.ones(one.shape, bool)) is None
