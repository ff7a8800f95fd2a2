"""Figures of a head whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.errors import InputError
from DiffMaCore.imaging import metrics
from DiffMaCore.training.evaluation.scores import (
    LEVELS,
    auc,
    contrast_ratio,
    fitted,
    head_measures,
    likeness,
    trust,
)


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth in [0, 1], where it counts, cortex and white matter."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (8, 40, 36)), indexing="ij")
    inside = (x**2 + y**2) < 0.8
    white = inside & (np.sin(5 * x) + np.cos(4 * y + z) > 0.3)
    truth = np.where(white, 0.8, 0.5) * inside + 0.02 * rng.normal(size=x.shape)
    return truth, inside, inside & ~white, white


def test_a_linear_fit_undoes_any_units_and_even_a_reversed_scale(head) -> None:
    truth, inside, _, _ = head
    for scale in (300.0, -2.0):
        assert np.allclose(fitted(scale * truth + 7, truth, inside)[inside], truth[inside])
        found = likeness(scale * truth + 7, truth, inside)
        assert found.ssim == pytest.approx(1) and found.psnr > 100
        assert found.correlation == pytest.approx(np.sign(scale))


def test_without_a_fit_the_figures_are_those_of_the_metrics(head) -> None:
    truth, inside, _, _ = head
    made = truth + 0.1
    found = likeness(made, truth, inside, fit=False, data_range=1.0)
    assert found.psnr == pytest.approx(metrics.psnr(made, truth, 1.0, inside)) == pytest.approx(20)
    assert found.correlation == pytest.approx(1)
    assert likeness(made, truth, inside, fit=False).psnr < 20  # the truth spans less than 1


def test_what_lies_outside_does_not_count(head) -> None:
    truth, inside, _, _ = head
    painted = np.where(inside, truth, 55)
    assert likeness(painted, truth, inside) == likeness(truth, truth, inside)
    with pytest.raises(InputError, match="mask"):
        likeness(truth, truth, inside & False)


def test_half_of_the_contrast_is_half_and_none_is_none(head) -> None:
    truth, inside, grey, white = head
    mean = truth[inside].mean()
    assert contrast_ratio(mean + (truth - mean) / 2, truth, grey, white) == pytest.approx(0.5)
    assert contrast_ratio(-truth, truth, grey, white) == pytest.approx(-1)
    assert contrast_ratio(np.full_like(truth, 3), truth, grey, white) == 0
    with pytest.raises(InputError, match="voxels"):
        contrast_ratio(truth, truth, grey & False, white)


def test_the_area_under_the_curve_is_the_chance_that_white_is_brighter(head) -> None:
    truth, _, grey, white = head
    assert auc(truth, grey, white) > 0.99 and auc(-truth, grey, white) < 0.01
    assert auc(np.zeros_like(truth), grey, white) == 0.5
    noise = np.random.default_rng(1).normal(size=truth.shape)
    some = np.where(white, 1.0, 0.0) + noise
    by_pairs = (some[white][:400, None] > some[grey][None, :400]).mean()
    assert auc(some, grey, white) == pytest.approx(by_pairs, abs=0.05)


def test_an_honest_deviation_covers_nine_tenths_and_tells_where_errors_are(head) -> None:
    truth, inside, _, _ = head
    rng = np.random.default_rng(2)
    deviation = rng.uniform(0.01, 0.2, truth.shape)
    made = truth + deviation * rng.normal(size=truth.shape)
    found = trust(made, truth, deviation, inside)
    assert found.cover == pytest.approx(0.9, abs=0.01) and found.scale == pytest.approx(1, abs=0.03)
    assert found.correlation is not None and found.correlation > 0.4
    assert found.rank_correlation is not None and found.rank_correlation > 0.4
    assert found.covers == pytest.approx(LEVELS, abs=0.02)
    small = trust(made, truth, deviation / 4, inside)
    assert small.cover < 0.4 and small.covers[0] < 0.05 and small.scale == pytest.approx(4, abs=0.15)
    assert trust(made, truth, small.scale * deviation / 4, inside).cover == pytest.approx(0.9, abs=0.001)
    constant = trust(made, truth, np.full_like(truth, 0.1), inside)
    assert constant.correlation is None and constant.rank_correlation is None


def test_all_figures_of_a_head_together(head) -> None:
    truth, inside, grey, white = head
    rng = np.random.default_rng(3)
    made = truth + 0.05 * rng.normal(size=truth.shape)
    found = head_measures(made, truth, inside, grey, white, np.full(truth.shape, 0.05), data_range=1.0)
    assert found["psnr"] == pytest.approx(26, abs=0.3) and found["contrast"] == pytest.approx(1, abs=0.02)
    assert 0.9 < found["auc"] <= found["auc_truth"]
    assert found["slice_change"] > 1 and found["uncertainty"]["cover"] == pytest.approx(0.9, abs=0.02)
    again = head_measures(fitted(1000 * made, truth, inside), truth, inside, deviation=np.full(truth.shape, 0.05))
    assert again["uncertainty"]["cover"] == pytest.approx(found["uncertainty"]["cover"], abs=0.03)
    assert "contrast" not in again
    assert head_measures(truth, truth, inside)["psnr"] is None
