"""The mapping between a volume of any orientation and the model's square axial slices.

A slice is a plane of the volume's own grid, so nothing is interpolated across slices; within the plane, rows
run from anterior to posterior and columns from the patient's right to left (as radiologists look at it).
In-plane resampling is separable: ``rows @ slice @ columns.T`` with two small matrices, one per image axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from DiffMaCore.errors import InputError

AIR_HU = -1024.0
"""Value outside the CT."""

_PROFILE_FRACTION = 0.005  # a line of voxels with less body than this part of the fullest one is left out


@dataclass(frozen=True)
class SliceGrid:
    """Where the model's slices lie in a CT; made by ``from_image``.

    Attributes:
        image: a CT in HU or another image; only its voxels and geometry are read.
        slab_axis: image axis (0 x, 1 y, 2 z of the image's index) along which the slices follow each other;
            slice k is the plane with index k of that axis. ``array_axis`` is the same in numpy order.
        row_axis, column_axis: image axes of the rows (anterior to posterior) and columns (right to left).
        row_sign, column_sign: -1 where the image's axis runs the other way.
        row_centre, column_centre: index of the body's centre along the two axes (fractional).
        image_size: pixels of the square model slice.
        pixel_spacing: mm per model pixel as used, that is after ``scale_factor``.
        scale_factor: 1, or by how much pixels were enlarged so that the body fits the field of view.
        notes: sentences for the user.
    """

    image: sitk.Image
    slab_axis: int
    row_axis: int
    column_axis: int
    row_sign: int
    column_sign: int
    row_centre: float
    column_centre: float
    image_size: int
    pixel_spacing: float
    scale_factor: float = 1.0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_image(cls, image: sitk.Image, body: np.ndarray, pixel_spacing: float, image_size: int) -> SliceGrid:
        """Lay the model's slices into ``image``, centred on ``body``.

        Args:
            image: any orientation.
            body: bool array in z, y, x order, as ``body_of`` returns it.
            pixel_spacing: mm per pixel the model was trained with.
            image_size: pixels of the square model slice.

        Raises:
            InputError: ``body`` is empty or of another size.
        """
        if body.shape != image.GetSize()[::-1]:
            raise InputError("the body mask and the volume differ in size; make the mask from the same volume")
        slab, row, column = anatomical_axes(image)
        direction = np.array(image.GetDirection()).reshape(3, 3)
        spacing = image.GetSpacing()
        row_first, row_last = _extent(body, row)
        column_first, column_last = _extent(body, column)
        height = (row_last - row_first + 1) * spacing[row]
        width = (column_last - column_first + 1) * spacing[column]
        view = pixel_spacing * image_size
        factor = max(1.0, height / view, width / view)
        row_sign = 1 if direction[1, row] >= 0 else -1
        column_sign = 1 if direction[0, column] >= 0 else -1
        side = pixel_spacing * factor * (image_size - 1)  # mm from the first pixel's centre to the last one's
        notes = []
        if factor > 1:
            notes.append(
                f"The body is {width:.0f} x {height:.0f} mm and the model's field of view {view:.0f} mm:"
                f" the slices are scaled down by {factor:.2f}, so the result shows less detail."
            )
        return cls(
            image=image,
            slab_axis=slab,
            row_axis=row,
            column_axis=column,
            row_sign=row_sign,
            column_sign=column_sign,
            row_centre=_on_voxels((row_first + row_last) / 2, row_sign * side / spacing[row] / 2),
            column_centre=_on_voxels((column_first + column_last) / 2, column_sign * side / spacing[column] / 2),
            image_size=image_size,
            pixel_spacing=pixel_spacing * factor,
            scale_factor=factor,
            notes=notes,
        )

    @property
    def n_slices(self) -> int:
        """Planes of the CT along ``slab_axis``."""
        return self.image.GetSize()[self.slab_axis]

    @property
    def array_axis(self) -> int:
        """``slab_axis`` of an array in z, y, x order."""
        return 2 - self.slab_axis

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Rows and columns of a plane in the CT's own resolution, as ``restore`` returns it."""
        size = self.image.GetSize()
        return size[self.row_axis], size[self.column_axis]

    def ct_slices(self, indices: Sequence[int]) -> np.ndarray:
        """The planes ``indices`` on the model's grid: float32 (n, image_size, image_size) in HU.

        Linear interpolation, anti-aliased where the model's pixels are larger; outside the CT -1024 HU.
        """
        return self.slices(sitk.GetArrayViewFromImage(self.image), indices, AIR_HU)

    def slices(self, array: np.ndarray, indices: Sequence[int], outside: float) -> np.ndarray:
        """Planes of any ``array`` (z, y, x order of the image) on the model's grid, as :meth:`ct_slices`.

        ``outside`` is the value beyond the image.
        """
        rows = self._to_model(self.row_axis, self.row_sign, self.row_centre)
        columns = self._to_model(self.column_axis, self.column_sign, self.column_centre)
        slices = np.empty((len(indices), self.image_size, self.image_size), np.float32)
        for k, index in enumerate(indices):
            plane = self._plane(array, index).astype(np.float32) - np.float32(outside)
            slices[k] = rows @ plane @ columns.T + np.float32(outside)
        return slices

    def smooth_across(self, array: np.ndarray, inside: np.ndarray, indices: Sequence[int], sigma: float) -> None:
        """Smooth the planes ``indices`` of ``array`` by a Gaussian across them, in place.

        Args:
            array: in z, y, x order of the image.
            inside: bool of the same shape; what lies outside neither changes nor counts.
            indices: planes; others neither change nor count.
            sigma: its standard deviation in mm.
        """
        steps = self.steps(sigma)
        counted = np.zeros(self.n_slices, bool)
        counted[list(indices)] = True
        # row by row: a large volume has no room for copies
        for values, there in zip(*(np.moveaxis(a, self.array_axis, 1) for a in (array, inside)), strict=True):
            weight = (there & counted[:, None]).astype(np.float32)
            total = ndimage.gaussian_filter1d(weight, steps, axis=0, mode="constant")
            smooth = ndimage.gaussian_filter1d(values * weight, steps, axis=0, mode="constant")
            np.divide(smooth, total, out=values, where=weight > 0)

    def neighbours(self, array: np.ndarray, indices: Sequence[int], distance: float, outside: float) -> np.ndarray:
        """Planes with their neighbours, float32 (n, 3, image_size, image_size): ``distance`` mm below, own, above.

        Below is inferior. Between two planes the neighbour is interpolated; beyond the first and the last these are
        repeated.
        """
        places = np.array(indices, float)[:, None] + np.array([-1.0, 0.0, 1.0]) * self.slab_sign * self.steps(distance)
        places = np.clip(places, 0, self.n_slices - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, self.n_slices - 1)
        needed, where = np.unique(np.stack([low, high]), return_inverse=True)
        planes = self.slices(array, needed.tolist(), outside)
        below, above = planes[where.reshape(2, -1)].reshape(2, len(indices), 3, self.image_size, self.image_size)
        share = (places - low).astype(np.float32)[..., None, None]
        return below + share * (above - below)

    def steps(self, distance: float) -> float:
        """A distance in mm across the slices, in planes."""
        return distance / self.image.GetSpacing()[self.slab_axis]

    def reach(self, distance: float) -> tuple[int, int, int]:
        """A distance in mm within the planes, in voxels along z, y, x (at least one; across the planes none)."""
        voxels = [max(1, round(distance / mm)) for mm in self.image.GetSpacing()]
        voxels[self.slab_axis] = 0
        return voxels[2], voxels[1], voxels[0]

    @property
    def slab_sign(self) -> int:
        """1 where the slices follow each other towards the vertex, else -1."""
        return 1 if self.image.GetDirection()[6 + self.slab_axis] >= 0 else -1

    def restore(self, slices: np.ndarray, fill: float) -> np.ndarray:
        """Model slices (n, image_size, image_size) on the CT's own planes: float32 (n, rows, columns).

        Cubic interpolation held within each slice's own range, so nothing rings below ``fill``'s
        surroundings; anti-aliased where the CT's pixels are larger; outside the field of view ``fill``.
        """
        rows, rows_inside = self._to_plane(self.row_axis, self.row_sign, self.row_centre)
        columns, columns_inside = self._to_plane(self.column_axis, self.column_sign, self.column_centre)
        outside = ~(rows_inside[:, None] & columns_inside[None, :])
        restored = np.empty((len(slices), *self.plane_shape), np.float32)
        for k, model_slice in enumerate(slices):
            plane = rows @ model_slice.astype(np.float32) @ columns.T
            np.clip(plane, model_slice.min(), model_slice.max(), out=plane)
            plane[outside] = fill
            restored[k] = plane
        return restored

    def insert(self, volume: np.ndarray, indices: Sequence[int], restored: np.ndarray) -> None:
        """Write planes from ``restore`` into ``volume`` (z, y, x order of the CT) at their native places."""
        for index, plane in zip(indices, restored, strict=True):
            self._plane(volume, index)[...] = plane

    def planes(self, volume: np.ndarray, indices: Sequence[int]) -> np.ndarray:
        """Planes of an array in the CT's z, y, x order as (n, rows, columns): the inverse of ``insert``."""
        return np.stack([self._plane(volume, index) for index in indices])

    def upright(self, planes: np.ndarray) -> np.ndarray:
        """Planes (n, rows, columns) flipped so that anterior is up and the patient's right is on the left."""
        return planes[:, :: self.row_sign, :: self.column_sign]

    def _plane(self, array: np.ndarray, index: int) -> np.ndarray:
        """View of plane ``index`` of an array in z, y, x order as (row axis, column axis)."""
        plane = array[(slice(None),) * self.array_axis + (index,)]
        return plane if self.row_axis > self.column_axis else plane.T

    def _to_model(self, axis: int, sign: int, centre: float) -> np.ndarray:
        """Weights (image_size, n) that take an image axis to the model's pixels; rows sum to 1 inside."""
        step = self.pixel_spacing / self.image.GetSpacing()[axis]
        wanted = centre + sign * step * (np.arange(self.image_size) - (self.image_size - 1) / 2)
        return _weights(wanted, self.image.GetSize()[axis], max(1.0, step), _triangle, extend=False)

    def _to_plane(self, axis: int, sign: int, centre: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n, image_size) from the model's pixels to an image axis, and which n see the model."""
        step = self.image.GetSpacing()[axis] / self.pixel_spacing
        wanted = (self.image_size - 1) / 2 + sign * step * (np.arange(self.image.GetSize()[axis]) - centre)
        inside = (wanted >= -0.5) & (wanted <= self.image_size - 0.5)
        return _weights(wanted, self.image_size, max(1.0, step), _cubic, extend=True), inside


def anatomical_axes(image: sitk.Image) -> tuple[int, int, int]:
    """Image axes closest to superior-inferior, anterior-posterior and right-left, all different."""
    along = np.abs(np.array(image.GetDirection()).reshape(3, 3))
    slab = int(np.argmax(along[2]))
    first, second = (axis for axis in range(3) if axis != slab)
    if along[1, first] + along[0, second] > along[1, second] + along[0, first]:
        return slab, first, second
    return slab, second, first


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two images share size and place, to a hundredth of a mm."""
    far = [n - 1 for n in a.GetSize()]
    corners = [[0, 0, 0], far, [far[0], 0, 0], [0, far[1], 0]]
    here, there = ([image.TransformIndexToPhysicalPoint(corner) for corner in corners] for image in (a, b))
    return a.GetSize() == b.GetSize() and np.allclose(here, there, rtol=0, atol=1e-2)


def _on_voxels(centre: float, half: float) -> float:
    """The centre, moved by at most half a voxel so that the model's first pixel lies on a voxel: where both are of one
    size nothing is interpolated. ``half``: from the first pixel to the centre in voxels, negative in a flipped image.
    """
    sign = math.copysign(1, half)
    return sign * math.ceil(sign * (centre - half) - 0.5) + half


def _extent(body: np.ndarray, axis: int) -> tuple[int, int]:
    """First and last index of the body along an image axis, thin remnants left out."""
    profile = body.sum(axis=tuple(a for a in range(3) if a != 2 - axis), dtype=np.int64)
    if not profile.any():
        raise InputError(
            "no body was found in the volume (a CT: nothing above -300 HU); check that it is the right one"
        )
    found = np.flatnonzero(profile >= _PROFILE_FRACTION * profile.max())
    return int(found[0]), int(found[-1])


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -1/2 (Catmull-Rom)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _weights(
    wanted: np.ndarray, size: int, width: float, kernel: Callable[[np.ndarray], np.ndarray], extend: bool
) -> np.ndarray:
    """Interpolation matrix (len(wanted), size), float32, for a kernel stretched by ``width`` samples.

    Samples beyond the ends take the end's value (``extend``) or count as zero.
    """
    reach = int(np.ceil(2 * width)) + 1
    taps = np.floor(wanted).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)
    weight = kernel((taps - wanted[:, None]) / width)
    weight /= weight.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(wanted), size))
    lines = np.broadcast_to(np.arange(len(wanted))[:, None], taps.shape)
    use = np.ones(taps.shape, bool) if extend else (taps >= 0) & (taps < size)
    np.add.at(matrix, (lines[use], np.clip(taps, 0, size - 1)[use]), weight[use])
    return matrix.astype(np.float32)
