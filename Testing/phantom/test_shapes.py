"""Distances and noise the phantom is built of."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.phantom import fields, shapes


def _points(*rows: tuple[float, float, float]) -> shapes.Coordinates:
    x, y, z = np.array(rows, np.float32).T
    return x, y, z


def test_distances_are_negative_inside_and_in_mm():
    p = _points((0, 0, 0), (10, 0, 0), (15, 0, 0))
    assert shapes.ellipsoid(p, (0, 0, 0), (10, 10, 10))[1:] == pytest.approx([0, 5], abs=1e-5)
    assert shapes.capsule(p, (0, 0, -5), (0, 0, 5), 3, 3) == pytest.approx([-3, 7, 12])
    assert shapes.chain(p, [(0, 0, 0, 1), (10, 0, 0, 2), (20, 0, 0, 2)]) == pytest.approx([-1, -2, -2])


def test_a_smooth_union_never_lies_outside_the_plain_one():
    a, b = np.linspace(-5, 5, 21, dtype=np.float32), np.linspace(5, -5, 21, dtype=np.float32)
    assert (shapes.smooth_union(a, b, 4.0) <= np.minimum(a, b) + 1e-6).all()


def test_noise_has_unit_variance_and_the_asked_scale():
    rng = np.random.default_rng(0)
    slow = fields.noise(rng, (24, 48, 48), (4, 2, 2), 30.0)
    fast = fields.noise(rng, (24, 48, 48), (4, 2, 2), 5.0)
    assert slow.shape == (24, 48, 48) and slow.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(slow, axis=2)).mean() < 0.4 * np.abs(np.diff(fast, axis=2)).mean()


def test_band_noise_at_points_repeats_with_its_generator():
    z, y, x = (np.random.default_rng(1).uniform(-50, 50, (3, 500))).astype(np.float32)
    first = fields.noise_at(np.random.default_rng(2), (z, y, x), 6.0)
    assert np.array_equal(first, fields.noise_at(np.random.default_rng(2), (z, y, x), 6.0))
    assert first.std() == pytest.approx(1, abs=1e-3) and abs(float(first.mean())) < 0.3
