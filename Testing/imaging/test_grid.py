"""The mapping between a CT of any orientation and the model's slices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.grid import AIR_HU, SliceGrid, anatomical_axes

HALF_AXES = np.array([30.0, 38.0, 34.0])  # mm right-left, anterior-posterior, inferior-superior
CENTRE = np.array([12.0, -7.0, 40.0])


def signed_permutations() -> list[np.ndarray]:
    return [
        np.diag(signs)[:, order]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]


def ct_of_a_blob(direction: np.ndarray, spacing: tuple[float, ...], margin: float = 12.0) -> sitk.Image:
    """A smooth ellipsoid of 60 HU in air, with a marker that is towards left, posterior and superior."""
    axes = direction.reshape(3, 3)
    size = np.ceil((np.abs(axes).T @ (2 * HALF_AXES) + 2 * margin) / spacing).astype(int)
    origin = CENTRE - axes @ ((size - 1) / 2 * spacing)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    places = (index * spacing) @ axes.T + origin - CENTRE
    radius = np.linalg.norm(places / HALF_AXES, axis=-1)
    hu = AIR_HU + 1084 / (1 + np.exp((radius - 0.9) * 25))
    hu += 300 * np.exp(-(((places - [12, 15, 0]) / 8) ** 2).sum(axis=-1))
    image = sitk.GetImageFromArray(hu.transpose(2, 1, 0).astype(np.float32))
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetOrigin(origin.tolist())
    image.SetDirection(axes.ravel().tolist())
    return image


def grid_of(image: sitk.Image, pixel_spacing: float = 1.8, image_size: int = 64) -> SliceGrid:
    body = sitk.GetArrayViewFromImage(image) > -300
    return SliceGrid.from_image(image, body, pixel_spacing, image_size)


def centroid(array: np.ndarray) -> np.ndarray:
    """Centre of mass of what is denser than air, in voxels."""
    mass = np.clip(array - AIR_HU, 0, None).astype(np.float64)
    index = np.indices(array.shape)
    return (index * mass).reshape(array.ndim, -1).sum(axis=1) / mass.sum()


def round_trip(image: sitk.Image, grid: SliceGrid) -> np.ndarray:
    restored = np.full(image.GetSize()[::-1], AIR_HU, np.float32)
    for first in range(0, grid.n_slices, 8):
        indices = range(first, min(first + 8, grid.n_slices))
        grid.insert(restored, indices, grid.restore(grid.ct_slices(indices), AIR_HU))
    return restored


def assert_round_trip(image: sitk.Image, grid: SliceGrid) -> None:
    original = sitk.GetArrayFromImage(image)
    restored = round_trip(image, grid)
    assert np.abs(centroid(restored) - centroid(original)).max() < 0.1
    inside = original > 0
    assert np.abs(restored - original)[inside].mean() < 25  # of 1084 HU between air and blob
    assert restored.min() >= AIR_HU


@pytest.mark.parametrize("direction", signed_permutations(), ids=lambda d: str(d.astype(int).tolist()))
def test_every_axis_order_and_flip_comes_back_in_place(direction: np.ndarray) -> None:
    image = ct_of_a_blob(direction, (1.6, 2.0, 2.7))
    assert_round_trip(image, grid_of(image))


@pytest.mark.parametrize("seed", range(8))
def test_oblique_volumes_come_back_in_place(seed: int) -> None:
    direction = Rotation.random(random_state=seed).as_matrix()
    image = ct_of_a_blob(direction if seed % 2 else direction * [1, 1, -1], (1.3, 1.9, 3.1))
    assert_round_trip(image, grid_of(image, image_size=80))


@pytest.mark.parametrize("direction", signed_permutations(), ids=lambda d: str(d.astype(int).tolist()))
def test_slices_show_anterior_up_and_the_patients_right_on_the_left(direction: np.ndarray) -> None:
    image = ct_of_a_blob(direction, (2.0, 2.0, 2.0))
    grid = grid_of(image)
    middle = grid.ct_slices([grid.n_slices // 2])[0]
    row, column = np.unravel_index(np.argmax(middle), middle.shape)
    # the marker lies 15 mm posterior and 12 mm to the left of the centre
    assert abs((row - 31.5) * 1.8 - 15) < 2.5
    assert abs((column - 31.5) * 1.8 - 12) < 2.5


@pytest.mark.parametrize("shape", [(512, 512), (90, 70)])
def test_large_and_small_planes_come_back_in_place(shape: tuple[int, int]) -> None:
    spacing = (100 / shape[1], 100 / shape[0], 9.0)
    image = ct_of_a_blob(np.eye(3), spacing)
    assert_round_trip(image, grid_of(image))


def test_sagittal_slices_have_a_thick_and_a_thin_axis_in_the_plane() -> None:
    sagittal = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x runs posterior, y up, slices to the left
    image = ct_of_a_blob(sagittal, (0.9, 0.9, 4.5))
    grid = grid_of(image)
    assert anatomical_axes(image) == (1, 0, 2)
    assert grid.plane_shape == (image.GetSize()[0], image.GetSize()[2])
    assert_round_trip(image, grid)


def test_slices_are_the_cts_own_planes() -> None:
    image = ct_of_a_blob(np.eye(3), (1.8, 1.8, 3.0))
    grid = grid_of(image)
    assert grid.n_slices == image.GetSize()[2]
    assert (grid.slab_axis, grid.array_axis) == (2, 0)
    array = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(grid.planes(array, [4])[0], array[4])


@pytest.mark.parametrize("direction", [np.eye(3), np.eye(3)[:, [2, 0, 1]]])
def test_planes_are_smoothed_across_and_what_lies_outside_neither_changes_nor_counts(direction: np.ndarray) -> None:
    image = ct_of_a_blob(direction, (2.0, 2.0, 2.0))
    inside = sitk.GetArrayFromImage(image) > -200
    grid = SliceGrid.from_image(image, inside, 2.0, 64)
    values = np.where(inside, 100 + np.random.default_rng(0).normal(0, 10, inside.shape), 0).astype(np.float32)
    flat, made = np.where(inside, np.float32(100), 0), values.copy()
    planes = range(10, 20)
    for array in (flat, made):
        grid.smooth_across(array, inside, planes, 2.0)
    assert np.allclose(flat[inside], 100, atol=1e-3) and not made[~inside].any()
    within, before = (np.moveaxis(a, grid.array_axis, 0) for a in (made, values))
    there = np.moveaxis(inside, grid.array_axis, 0)
    assert np.array_equal(within[:10], before[:10]) and np.array_equal(within[20:], before[20:])
    assert 4 < within[12:18][there[12:18]].std() < 7 and abs(within[12:18][there[12:18]].mean() - 100) < 1


def test_a_body_larger_than_the_field_of_view_is_scaled_as_a_whole_and_said_aloud() -> None:
    image = ct_of_a_blob(np.eye(3), (2.0, 2.0, 4.0))
    grid = grid_of(image, pixel_spacing=0.5, image_size=64)
    assert grid.scale_factor == pytest.approx(70 / 32, rel=0.05)
    assert grid.pixel_spacing == pytest.approx(0.5 * grid.scale_factor)
    assert "scaled down" in grid.notes[0]
    assert_round_trip(image, grid)


def test_outside_the_field_of_view_the_fill_is_written() -> None:
    image = ct_of_a_blob(np.eye(3), (2.0, 2.0, 6.0), margin=60)
    grid = grid_of(image, pixel_spacing=1.6, image_size=64)
    restored = grid.restore(np.full((1, 64, 64), 7.0, np.float32), fill=-5.0)[0]
    assert set(np.unique(restored)) == {np.float32(-5), np.float32(7)}
    seen = np.flatnonzero((restored == 7).any(axis=1))
    assert len(seen) * 2.0 == pytest.approx(64 * 1.6, abs=4)


def test_beyond_the_ct_there_is_air() -> None:
    image = ct_of_a_blob(np.eye(3), (2.0, 2.0, 6.0), margin=0)
    slices = grid_of(image, pixel_spacing=4.0, image_size=64).ct_slices([image.GetSize()[2] // 2])
    assert slices[0, 0, 0] == AIR_HU
    assert slices[0, 32, 32] == pytest.approx(60, abs=60)


def test_fine_pixels_are_averaged_not_picked() -> None:
    noise = np.random.default_rng(0).normal(0, 100, (3, 256, 256)).astype(np.float32)
    image = sitk.GetImageFromArray(noise)
    image.SetSpacing((0.4, 0.4, 3.0))
    grid = SliceGrid.from_image(image, np.ones(noise.shape, bool), 1.6, 64)
    assert grid.ct_slices([1])[0][8:-8, 8:-8].std() < 35


def test_restoring_does_not_ring_below_the_lowest_value() -> None:
    image = ct_of_a_blob(np.eye(3), (0.5, 0.5, 6.0))
    step = np.zeros((1, 64, 64), np.float32)
    step[:, 20:40, 20:40] = 1000
    restored = grid_of(image).restore(step, fill=0.0)
    assert restored.min() == 0 and restored.max() == 1000


def test_an_empty_body_is_an_error() -> None:
    image = ct_of_a_blob(np.eye(3), (4.0, 4.0, 8.0))
    with pytest.raises(InputError, match="no body"):
        SliceGrid.from_image(image, np.zeros(image.GetSize()[::-1], bool), 1.8, 64)


def ct_of_heights(direction: np.ndarray, size: tuple[int, int, int], spacing: tuple[float, ...]) -> sitk.Image:
    """Voxels that hold their own height in mm, towards the head."""
    image = sitk.Image(list(size), sitk.sitkFloat32)
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetDirection(direction.ravel().tolist())
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    heights = ((index * spacing) @ direction.T)[..., 2]
    filled = sitk.GetImageFromArray(heights.transpose(2, 1, 0).astype(np.float32))
    filled.CopyInformation(image)
    return filled


UPRIGHT = np.eye(3)
CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # the image's second axis runs towards the head


@pytest.mark.parametrize("flip", [1, -1], ids=["towards the head", "towards the feet"])
@pytest.mark.parametrize("axes", [UPRIGHT, CORONAL], ids=["axial", "coronal"])
@pytest.mark.parametrize("distance", [1.0, 3.0, 7.5])
def test_neighbours_lie_at_their_distance_below_and_above_whatever_the_planes_do(
    axes: np.ndarray, flip: int, distance: float
) -> None:
    slab = int(np.argmax(np.abs(axes[2])))
    direction = axes * np.where(np.arange(3) == slab, flip, 1)
    spacing = np.where(np.arange(3) == slab, 2.5, 6.0)
    size = tuple(int(n) for n in np.where(np.arange(3) == slab, 9, 20))
    image = ct_of_heights(direction, size, tuple(spacing))
    array = sitk.GetArrayFromImage(image)
    grid = SliceGrid.from_image(image, np.ones(array.shape, bool), 6.0, 16)
    found = grid.neighbours(array, list(range(9)), distance, outside=0.0)[:, :, 4:12, 4:12]
    assert found.shape == (9, 3, 8, 8) and found.dtype == np.float32
    own = np.sort(np.arange(9) * 2.5 * flip)[::flip]  # plane by plane
    wanted = np.clip(own[:, None] + np.array([-distance, 0, distance]), own.min(), own.max())
    np.testing.assert_allclose(found, np.broadcast_to(wanted[..., None, None], found.shape), atol=1e-3)


@pytest.mark.parametrize("direction", [(1, 1), (-1, 1), (1, -1)])
@pytest.mark.parametrize("image_size", [32, 33])
def test_where_voxels_have_the_models_size_nothing_is_interpolated(direction: tuple[int, int], image_size: int) -> None:
    values = np.random.default_rng(0).integers(-900, 900, (2, 40, 41)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.4, 1.4, 3.0))
    image.SetDirection((direction[0], 0, 0, 0, direction[1], 0, 0, 0, 1))
    body = np.zeros(values.shape, bool)
    body[:, 8:21, 9:27] = True  # an odd number of rows, an even one of columns
    grid = SliceGrid.from_image(image, body, 1.4, image_size)
    slices = grid.ct_slices([1])
    assert np.isin(slices[slices != AIR_HU], values[1]).all()
    restored = grid.restore(slices, AIR_HU)[0]
    assert np.array_equal(restored[restored != AIR_HU], values[1][restored != AIR_HU])
    assert (restored != AIR_HU).sum() >= 900


def test_a_flipped_image_gives_the_same_slices_wherever_its_body_lies() -> None:
    values = np.random.default_rng(0).integers(-900, 900, (1, 30, 31)).astype(np.float32)
    for first in range(4):
        body = np.zeros(values.shape, bool)
        body[:, 5 + first : 20, 6 : 22 + first] = True
        slices = []
        for flip in (1, -1):
            image = sitk.GetImageFromArray(values[:, :, ::flip].copy())
            image.SetDirection((flip, 0, 0, 0, 1, 0, 0, 0, 1))
            slices.append(SliceGrid.from_image(image, body[:, :, ::flip], 1.7, 16).ct_slices([0]))
        np.testing.assert_allclose(slices[0], slices[1], atol=1e-3)
