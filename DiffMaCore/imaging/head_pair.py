"""A CT and an MRI on its grid, cut to the head around the brain, where in it what is judged, and the scalp in both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import BODY_HU
from DiffMaCore.imaging.grid import anatomical_axes
from DiffMaCore.imaging.intracranial import BONE_HU, Bools, enlarged, intracranial_space, reduced

_GRID_MM = 1.0  # finer voxels are averaged
_DISTANCE_MM = 2.0  # grid on which distances are taken
_MARGIN_MM = 30.0  # around the space inside the skull: bone and scalp
_NEAR_MM = 22.0  # what is this near to that space is skull or scalp
_THICK_MM = 4.0  # a slice thicker than this holds bone that its neighbour does not show
_SCALP_HU, _OUTSIDE_HU = 500.0, -500.0  # half way between the scalp and what lies next to it
_RAYS = 600  # over the upper half
_LOWEST = 0.15  # sine of a ray's elevation: ears, orbits and neck lie below
_STEP_MM, _REACH_MM = 0.25, 130.0
_THICKEST_MM = 25.0
_AROUND_MM = 4.0  # that the MRI's scalp may lie off the CT's
_LEAST_SHARE = 0.3  # of the rays that must see a scalp
_EMPTY = "the MR holds no image where the CT shows the brain; give one that was made there"


@dataclass(frozen=True)
class HeadPair:
    """CT and MRI around the skull, at about 1 mm where they were finer; arrays (z, y, x) of one shape.

    Attributes:
        hu, values: of the CT and the MRI.
        space: inside the skull.
        spacing: mm along the array's axes.
        slab, column: array axes of head to foot and right to left.
        up: 1 where the slab axis runs towards the top of the head, else -1.
    """

    hu: NDArray[np.float32]
    values: NDArray[np.float32]
    space: Bools
    spacing: tuple[float, ...]
    slab: int
    column: int
    up: int

    @classmethod
    def of(cls, ct: sitk.Image, mr: sitk.Image) -> HeadPair:
        """From images on one grid; slices where the MRI has the same value everywhere (not made) are cut off.

        Raises:
            InputError: the CT shows no skull, or the MRI nothing inside of it.
        """
        space = intracranial_space(ct)
        axes = anatomical_axes(ct)
        slab, _, column = (2 - axis for axis in axes)
        spacing = ct.GetSpacing()[::-1]
        box = _box(space, spacing)
        hu, values = (sitk.GetArrayViewFromImage(image)[tuple(box)] for image in (ct, mr))
        values, space = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0), space[tuple(box)]
        made = [k for k, plane in enumerate(np.moveaxis(values, slab, 0)) if np.ptp(plane) > 0]
        if not made:
            raise InputError(_EMPTY)
        kept = (slice(None),) * slab + (slice(made[0], made[-1] + 1),)
        steps = [max(1, round(_GRID_MM / mm)) for mm in spacing]
        hu, values, inside = (reduced(array[kept], steps) for array in (hu, values, space))
        if not (inside > 0.5).any():
            raise InputError(_EMPTY)
        mm = tuple(each * step for each, step in zip(spacing, steps, strict=True))
        up = 1 if ct.GetDirection()[6 + axes[0]] > 0 else -1
        return cls(hu, values, inside > 0.5, mm, slab, column, up)

    @property
    def voxel_ml(self) -> float:
        """Millilitres of a voxel."""
        return math.prod(self.spacing) / 1000

    @cached_property
    def bone_mm(self) -> NDArray[np.float32]:
        """Distance to the next bone, good to about 2 mm; in a thick slice next to one with bone at most 4 mm."""
        return self._distance(self.hu > BONE_HU, _THICK_MM)

    @cached_property
    def near(self) -> Bools:
        """The brain, its skull and scalp: the patient not far from the space inside the skull."""
        return (self._distance(self.space) <= _NEAR_MM) & (self.hu > BODY_HU)

    @cached_property
    def mirrored(self) -> NDArray[np.float32]:
        """The MRI mirrored right to left about the middle of the skull; beyond its edge stands the edge's value."""
        places = np.flatnonzero(self.space.any(axis=tuple(a for a in range(3) if a != self.column)))
        size = self.values.shape[self.column]
        index = np.clip(places[0] + places[-1] - np.arange(size), 0, size - 1)
        return self.values.take(index, axis=self.column)

    def _distance(self, mask: Bools, most_mm: float = np.inf) -> NDArray[np.float32]:
        steps = [max(1, round(_DISTANCE_MM / mm)) for mm in self.spacing]
        coarse = reduced(mask, steps) > 0
        if not coarse.any():
            return np.full(mask.shape, np.inf, np.float32)
        sampling = [min(most_mm, mm * step) for mm, step in zip(self.spacing, steps, strict=True)]
        found = ndimage.distance_transform_edt(~coarse, sampling=sampling).astype(np.float32)
        return enlarged(found, steps, mask.shape)


def _box(space: Bools, spacing: tuple[float, ...]) -> list[slice]:
    found = ndimage.find_objects(space.view(np.uint8))[0]
    reach = [round(_MARGIN_MM / mm) for mm in spacing]
    return [
        slice(max(0, s.start - n), min(size, s.stop + n)) for s, n, size in zip(found, reach, space.shape, strict=True)
    ]


def scalp_thickness(head: HeadPair) -> tuple[float | None, float | None]:
    """Median thickness in mm of the scalp above the middle of the head: by the CT, and by the MRI.

    In the CT it lies between the last bone and the air, in the MRI it is the width of the bright band at half of its
    height. None where too few rays meet a scalp (cut away, or dark in the MRI).
    """
    centre = np.array([float(places.mean()) for places in np.nonzero(head.space)])
    distance = np.arange(0, _REACH_MM, _STEP_MM)
    up = _upper_half()
    directions = np.insert(up[:, 1:], head.slab, head.up * up[:, 0], axis=1)
    places = centre[:, None, None] + directions.T[:, :, None] * distance / np.array(head.spacing)[:, None, None]
    nothing = float(head.values.min())
    rays = [
        ndimage.map_coordinates(volume, places, order=1, cval=outside)
        for volume, outside in ((head.hu, np.nan), (head.values, nothing))
    ]
    of_ct, of_mr = [], []
    for ct, mr in zip(rays[0], rays[1] - nothing, strict=True):
        between = _in_ct(ct)
        if between:
            of_ct.append((between[1] - between[0]) * _STEP_MM)
            of_mr.append(_in_mr(mr, *between))
    return _median(of_ct), _median([mm for mm in of_mr if mm > 0])


def _in_ct(hu: NDArray) -> tuple[int, int] | None:
    """First and one past the last sample of the scalp along a ray; None where there is none."""
    bone = np.flatnonzero(hu > _SCALP_HU)
    air = np.flatnonzero(hu[bone[0] :] < _OUTSIDE_HU) if len(bone) else bone
    if not len(air):
        return None
    skin = int(bone[0] + air[0])
    skull = int(bone[bone < skin][-1]) + 1
    return (skull, skin) if 0 < (skin - skull) * _STEP_MM < _THICKEST_MM else None


def _in_mr(values: NDArray, skull: int, skin: int) -> float:
    """Width in mm of the bright band at about the scalp's place; 0 where nothing is bright."""
    first = max(0, skull - round(_AROUND_MM / 4 / _STEP_MM))
    peak = first + int(np.argmax(values[first : skin + round(_AROUND_MM / _STEP_MM)]))
    low = np.flatnonzero(values <= values[peak] / 2)
    below, above = low[low < peak], low[low > peak]
    if values[peak] <= 0 or not len(below) or not len(above):
        return 0.0
    return float(above[0] - below[-1] - 1) * _STEP_MM


def _upper_half() -> NDArray[np.float64]:
    """Directions (n, 3), spread evenly (Fibonacci's lattice), the first component upwards."""
    k = np.arange(_RAYS) + 0.5
    height = _LOWEST + (1 - _LOWEST) * k / _RAYS
    turn = np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - height**2)
    return np.stack([height, flat * np.cos(turn), flat * np.sin(turn)], axis=1)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if len(values) >= _LEAST_SHARE * _RAYS else None
