"""Tilted gantries, uneven and missing slices."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.regrid import AIR_HU, Stack, to_regular_grid

ROW = np.array([1.0, 0, 0])
TILT = np.radians(20)
COLUMN = np.array([0.0, np.cos(TILT), -np.sin(TILT)])
CENTRE = np.array([20.0, 20.0, 30.0])


def density(points: np.ndarray) -> np.ndarray:
    """A smooth ball in air, by physical position."""
    radius = np.linalg.norm((points - CENTRE) / [11, 13, 18], axis=-1)
    return AIR_HU + 1100 / (1 + np.exp((radius - 1) * 8))


def stack_at(positions: np.ndarray, column: np.ndarray = COLUMN, shape: tuple[int, int] = (60, 50)) -> Stack:
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    plane = columns[..., None] * 0.8 * ROW + rows[..., None] * 0.8 * column
    voxels = np.stack([density(position + plane) for position in positions]).astype(np.float32)
    return Stack(voxels, positions, ROW, column, (0.8, 0.8), 3.0)


def error_against_truth(image: sitk.Image) -> float:
    """Mean error in HU, inside the ball, of an image against the density at its own positions."""
    size = image.GetSize()
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    points = (index * image.GetSpacing()) @ direction.T + image.GetOrigin()
    truth = density(points).transpose(2, 1, 0)
    return float(np.abs(sitk.GetArrayFromImage(image) - truth)[truth > -500].mean())


def test_a_regular_stack_is_not_touched() -> None:
    normal = np.cross(ROW, COLUMN)
    stack = stack_at(np.arange(20)[:, None] * 2.0 * normal)
    image, notes = to_regular_grid(stack)
    assert notes == []
    assert np.array_equal(sitk.GetArrayFromImage(image), stack.voxels)
    assert image.GetSpacing() == pytest.approx((0.8, 0.8, 2.0), abs=1e-12)


def test_rounded_positions_are_not_taken_for_uneven_ones() -> None:
    for decimals in (1, 2, 3):
        positions = np.round(np.arange(40)[:, None] * [0, 0, 0.6667], decimals)
        assert to_regular_grid(stack_at(positions, np.array([0.0, 1, 0])))[1] == []


def test_near_duplicates_do_not_multiply_the_slices() -> None:
    z = np.sort(np.concatenate([np.arange(0, 60, 4.0), np.arange(0, 60, 4.0) + 0.1]))
    image, _ = to_regular_grid(stack_at(z[:, None] * [0, 0, 1.0], np.array([0.0, 1, 0])))
    assert image.GetSize()[2] < 40


def test_a_tilted_stack_lands_where_it_was_in_space() -> None:
    stack = stack_at(np.arange(26)[:, None] * np.array([0, 0, 2.4]) + [0, 0, 8])
    image, notes = to_regular_grid(stack)
    assert "20.0 degrees" in notes[0] and "mm apart" not in notes[0]
    assert image.GetSpacing()[2] == pytest.approx(2.4 * np.cos(TILT))
    assert image.GetSize()[1] > 60
    assert error_against_truth(image) < 8
    np.testing.assert_allclose(np.array(image.GetDirection()).reshape(3, 3)[:, 2], np.cross(ROW, COLUMN))


def test_two_spacings_become_the_finer_one() -> None:
    z = np.concatenate([np.arange(0, 30, 2.0), np.arange(30, 60, 4.0)])
    image, notes = to_regular_grid(stack_at(z[:, None] * [0, 0, 1.0], np.array([0.0, 1, 0])))
    assert "2.00 (15 times), 4.00 (7 times)" in notes[0]
    assert image.GetSpacing()[2] == pytest.approx(2.0)
    assert image.GetSize() == (50, 60, 30)
    assert error_against_truth(image) < 12


def test_a_missing_slice_is_interpolated() -> None:
    z = np.delete(np.arange(0, 60, 2.0), 14)
    image, notes = to_regular_grid(stack_at(z[:, None] * [0, 0, 1.0], np.array([0.0, 1, 0])))
    assert "4.00 (once)" in notes[0]
    assert image.GetSize()[2] == 30
    assert error_against_truth(image) < 3


def test_a_sideways_tilt_to_the_other_side_works_too() -> None:
    positions = np.arange(26)[:, None] * np.array([-0.9, 0.4, 2.4]) + [12, -6, 8]
    image, _ = to_regular_grid(stack_at(positions, np.array([0.0, 1, 0]), shape=(70, 60)))
    assert error_against_truth(image) < 8


def test_a_single_slice_takes_its_thickness_as_spacing() -> None:
    image, notes = to_regular_grid(stack_at(np.array([[0, 0, 30.0]])))
    assert notes == [] and image.GetSpacing()[2] == 3.0


def test_an_orientation_that_is_not_perpendicular_is_refused() -> None:
    with pytest.raises(InputError, match="perpendicular"):
        to_regular_grid(stack_at(np.zeros((2, 3)), np.array([0.5, 0.8, 0.0])))
