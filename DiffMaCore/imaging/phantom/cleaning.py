"""A raw label map of a head made fit for rendering: our tissues, no specks, no pits, a clean skin and a clean cut."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.body import fill_planes, largest_piece
from DiffMaCore.imaging.phantom import tissues as t

_T = TypeVar("_T", bound=np.integer)
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
PAD = 4  # voxels of air around the head
CAVITY = 150  # mm3: smaller air spaces are holes in the segmentation


def to_tissues(source: NDArray[np.integer]) -> Labels:
    """Source labels to tissue labels; an unknown label becomes soft tissue."""
    lookup = np.full(int(source.max()) + 1, t.SOFT.label, np.uint8)
    lookup[0] = t.OUTSIDE.label
    for value, tissue in t.SOURCE_LABELS.items():
        if value < len(lookup):
            lookup[value] = tissue.label
    return lookup[source]


def padded(array: NDArray[_T]) -> NDArray[_T]:
    """Zeros around the sides and above the vertex, none below the neck."""
    return np.pad(array, ((0, PAD), (PAD, PAD), (PAD, PAD)))


def _filled(mask: Mask) -> Mask:
    """The mask with the holes of its axial slices, and of its sagittal and coronal ones at once, filled."""
    return fill_planes(mask, 0) | (fill_planes(mask, 1) & fill_planes(mask, 2))


def nearest_fill(labels: Labels, holes: Mask, keep: Mask) -> None:
    """Give every voxel of ``holes`` the label of the nearest voxel of ``keep`` (in place)."""
    if holes.any():
        where = ndimage.distance_transform_edt(~keep, return_distances=False, return_indices=True)
        labels[holes] = labels[tuple(index[holes] for index in where)]


def _bottom(head: Mask) -> int:
    """First slice that is whole: its area is not far below that of the slices above."""
    area = head.sum((1, 2)).astype(float)
    for z in range(len(area) // 3):
        if area[z] > 0.85 * np.median(area[z : z + 16]) and area[z] > 0.2 * area.max():
            return z
    return 0


def clean(source: NDArray[np.integer]) -> tuple[Labels, int]:
    """Cleaned labels, padded with air at the sides and the top, and how many ragged slices were cut off below.

    ``source`` (z, y, x), 1 mm, axes to the vertex, the back and the left. The cut at the neck stays at slice 0.
    """
    labels = padded(to_tissues(source))
    solid = ndimage.gaussian_filter((labels > 0).astype(np.float32), 1.0, mode="nearest") > 0.5
    closed = ndimage.binary_closing(np.pad(solid, 6, mode="edge"), iterations=3)[6:-6, 6:-6, 6:-6]
    head = _filled(largest_piece(closed))
    head = largest_piece(ndimage.gaussian_filter(head.astype(np.float32), 1.2, mode="nearest") > 0.5)
    bottom = _bottom(head)
    labels, head, solid = labels[bottom:].copy(), head[bottom:], solid[bottom:]
    labels[~head] = t.OUTSIDE.label

    empty = head & (labels == 0)
    components, count = ndimage.label(empty)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    small = sizes < CAVITY
    small[0] = False
    pits = small[components]
    near_surface = head & ~ndimage.binary_erosion(head, iterations=3, border_value=1)
    pits |= near_surface & empty
    eyes = np.argwhere(labels == t.EYE.label)
    if len(eyes):  # behind the nose and mouth and below the ears there is no air near the skin
        level, front = (int(value) for value in eyes.mean(0)[:2])
        shallow = head & ~ndimage.binary_erosion(head, iterations=10, border_value=1)
        pits[: level - 20, front + 30 :] |= (empty & shallow)[: level - 20, front + 30 :]
    nearest_fill(labels, pits, labels > 0)
    labels[head & (labels == 0)] = t.AIR.label

    _mend_bone(labels)
    _mend_skin(labels, head)
    return labels, bottom


def _median(mask: Mask) -> Mask:
    """Median of the 27 voxels around."""
    return np.asarray(ndimage.uniform_filter(mask.astype(np.float32), 3) > 0.5)


def _mend_bone(labels: Labels) -> None:
    """Close pits in bone, drop crumbs, and give marrow a closed cortical shell (in place)."""
    bone = (labels == t.BONE.label) | (labels == t.DIPLOE.label)
    full = _median(bone) & (labels != t.AIR.label)
    added = full & ~bone
    labels[added] = t.BONE.label
    bone |= full
    components, count = ndimage.label(bone, np.ones((3, 3, 3)))
    crumbs = np.bincount(components.ravel(), minlength=count + 1) < 40
    crumbs[0] = False
    loose = crumbs[components]
    nearest_fill(labels, loose, ~loose & (labels > 0))
    bone &= ~loose
    marrow = (labels == t.DIPLOE.label) & bone
    marrow = _median(marrow) & bone
    marrow &= ndimage.binary_erosion(bone, border_value=1)
    labels[bone] = t.BONE.label
    labels[marrow] = t.DIPLOE.label


def _mend_skin(labels: Labels, head: Mask) -> None:
    """The outermost 2 mm are soft tissue, whatever the map says (in place)."""
    rim = head & ~ndimage.binary_erosion(head, iterations=2, border_value=1)
    rim[0] = False
    labels[rim & (labels != t.AIR.label)] = t.SOFT.label
