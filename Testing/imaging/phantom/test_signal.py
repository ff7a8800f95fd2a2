"""The table of tissues, the signal equations and the CT's physics."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.imaging.phantom import ct_physics, signal
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.warp import random_warp, rotation


def test_labels_of_tissues_are_all_different() -> None:
    labels = [tissue.label for tissue in t.TISSUES.values()]
    assert len(set(labels)) == len(labels) and max(labels) == t.COUNT - 1 < 256


def test_a_spin_echo_and_an_inversion_recovery_follow_their_equations() -> None:
    tissue = t.Tissue(0, 0, 0, 0.5, t1=1000, t2=100, pd=0.8)
    assert signal.spin_echo(tissue, 1000, 100) == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-1))
    null = 1000 * np.log(2)
    assert signal.inversion_recovery(tissue, 1e6, null, 0) == pytest.approx(0, abs=1e-9)
    assert signal.inversion_recovery(tissue, 1e6, 1e5, 100) == pytest.approx(0.8 * np.exp(-1))


def test_intensities_stay_on_one_scale_of_a_thousand() -> None:
    table = signal.signal_table(signal.CONTRASTS)
    assert table.shape == (3, t.COUNT) and table.min() == 0 and table.max() <= 1000
    white, grey, fluid = (table[:, tissue.label] for tissue in (t.WHITE, t.CORTEX, t.CSF))
    assert white[0] == 700 and fluid[1] == pytest.approx(950)
    assert 250 < white[1] < 300 and 350 < grey[1] < 400 and 30 < fluid[2] < 70


def test_scanner_noise_has_the_kernels_spectrum() -> None:
    rng = np.random.default_rng(1)
    soft, sharp = (
        ct_physics.scanner_noise(rng, (6, 128, 128), 1.0, ct_physics.Scan(cutoff=cutoff)) for cutoff in (0.15, 0.4)
    )
    lag = [float(np.corrcoef(n[:, :, 1:].ravel(), n[:, :, :-1].ravel())[0, 1]) for n in (soft, sharp)]
    assert soft.std() == pytest.approx(1, abs=1e-3) and lag[0] > 0.6 and 0 < lag[1] < 0.45
    assert abs(np.corrcoef(soft[0].ravel(), soft[1].ravel())[0, 1]) < 0.1


def test_streaked_noise_varies_towards_its_direction_and_less_across_it() -> None:
    scan = ct_physics.Scan(cutoff=0.2, streaks=4.0, towards=90.0)
    noise = ct_physics.scanner_noise(np.random.default_rng(1), (6, 128, 128), 1.0, scan)
    down, across = (float(np.diff(noise, axis=axis).std()) for axis in (1, 2))
    assert noise.std() == pytest.approx(1, abs=1e-3) and down > 1.5 * across


def test_slice_profiles_keep_the_mean_and_read_a_ramp_back() -> None:
    scan = ct_physics.Scan(thickness=5.0, distance=4.0)
    profile = ct_physics.slice_profiles(80, 1.0, scan, 2.0)
    assert np.allclose(profile.sum(1), 1) and (profile > 0).sum(1).max() == 5 + 1 - 1
    positions = np.arange(10.0, 60.0)
    back = ct_physics.reading(positions, len(profile), scan, 2.0)
    assert np.allclose(back @ profile @ np.arange(80.0), positions, atol=1e-3)


def test_a_warp_turns_no_further_and_makes_no_head_longer_than_it_may() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        warp = random_warp(rng, (200, 220, 220), np.zeros(3), 190, tilt=15, scale=0.2, elastic=4, shift=10, mirror=True)
        scale = np.linalg.norm(np.linalg.inv(warp.matrix), axis=1)
        assert 149 < 190 * np.linalg.svd(np.linalg.inv(warp.matrix))[1].max() < 300 and scale.min() > 0.6
        assert np.abs(warp.offset).max() <= 10 and 0.3 < warp.field.std() < 6
    turn = rotation(np.array([90.0, 0.0, 0.0]))
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.allclose(turn @ [0, 1, 0], [0, 0, 1], atol=1e-9)
