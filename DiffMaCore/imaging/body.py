"""An image in, the mask of the patient out: everything that is not air around it, couch or headrest."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from DiffMaCore.imaging.grid import anatomical_axes

BODY_HU = -300.0
"""Soft tissue and fat lie above, air, foam and most of the couch below."""

PARTLY_AIR_HU = -900.0
"""A voxel above holds some tissue: at the skin, where scanners show an outline that fades."""

_FACTOR = 0.5  # of Otsu's threshold in an MRI: skull and air are dark alike, skin and fat are not
_COARSE_MM = 2.0  # the shape is found on a grid about this fine, the edge on the CT's own grid
_OPENING_MM = 5.0  # half the thickness of what is cut off: couch shells, cushions, tubes
_REGROW_MM = 8.0  # how far tissue connected to the core is taken back: ears, noses, fingers


def body_of(image: sitk.Image, modality: str = "ct") -> np.ndarray:
    """The body in an image of any orientation: bool, z, y, x order.

    ``modality`` "ct" takes :func:`body_mask` of HU, every other one :func:`image_body`.
    """
    axis = 2 - anatomical_axes(image)[0]
    array = sitk.GetArrayViewFromImage(image)
    return body_mask(array, image.GetSpacing()[::-1], axis) if modality == "ct" else image_body(array, axis)


def body_mask(array: np.ndarray, spacing: tuple[float, float, float], axis: int = 0) -> np.ndarray:
    """Bool mask of the body, holes (airways, sinuses, bowel gas, lungs) filled plane by plane.

    Args:
        array: HU in z, y, x order.
        spacing: mm along the array's axes (z, y, x).
        axis: numpy axis across which the planes lie (``SliceGrid.array_axis``), 0 for axial volumes.

    Returns:
        Bool array of the same shape; all False when nothing but air is there.
    """
    steps = [max(1, round(_COARSE_MM / mm)) for mm in spacing]
    coarse = array[tuple(slice(None, None, step) for step in steps)] > BODY_HU
    coarse_mm = [mm * step for mm, step in zip(spacing, steps, strict=True)]
    solid = fill_planes(coarse, axis)
    core = largest_piece(_opened(solid, coarse_mm))
    if not core.any():
        core = largest_piece(solid)
    core = ndimage.binary_dilation(core, iterations=round(_REGROW_MM / _COARSE_MM), mask=solid)
    core = fill_planes(core, axis)
    return _refined(array, core, steps, axis)


def with_outline(body: np.ndarray, hu: np.ndarray, reach: tuple[int, int, int]) -> np.ndarray:
    """A body mask and the voxels within ``reach`` of it, along each axis, that are partly air."""
    near = body
    for axis, voxels in enumerate(reach):
        wide = near.copy()
        old, new = np.moveaxis(near, axis, 0), np.moveaxis(wide, axis, 0)
        for n in range(1, voxels + 1):
            new[n:] |= old[:-n]
            new[:-n] |= old[n:]
        near = wide
    return body | (near & (hu > PARTLY_AIR_HU))


def image_body(array: np.ndarray, axis: int) -> np.ndarray:
    """The body in an MRI (z, y, x): what is brighter than half way to Otsu's threshold, one piece, holes filled."""
    values = np.nan_to_num(array)
    background = float(np.percentile(values, 1))
    in_plane = np.moveaxis(ndimage.generate_binary_structure(2, 1)[None], 0, axis)
    bright = ndimage.binary_opening(values > background + _FACTOR * (_otsu(values) - background), in_plane)
    return fill_planes(largest_piece(bright), axis)


def overlap(a: np.ndarray, b: np.ndarray, axis: int) -> float:
    """Dice coefficient of two masks in the slices where both have something; 0 where there is none."""
    both = np.moveaxis(a, axis, 0).any(axis=(1, 2)) & np.moveaxis(b, axis, 0).any(axis=(1, 2))
    a, b = np.moveaxis(a, axis, 0)[both], np.moveaxis(b, axis, 0)[both]
    return 2 * float((a & b).sum()) / max(1, int(a.sum() + b.sum()))


def _otsu(values: np.ndarray) -> float:
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    between = np.nan_to_num(between)
    # where no values lie between the classes every threshold is as good: the middle one
    return float(edges[1:-1][between >= between.max() * (1 - 1e-9)].mean())


def _opened(mask: np.ndarray, mm: list[float]) -> np.ndarray:
    """Opening with an ellipsoid of ``_OPENING_MM``, the mask continued beyond the ends of the volume."""
    reach = [int(_OPENING_MM / step) for step in mm]
    if not any(reach):
        return mask
    axes = np.meshgrid(*[np.arange(-r, r + 1) * step for r, step in zip(reach, mm, strict=True)], indexing="ij")
    ball = sum(a * a for a in axes) <= _OPENING_MM**2
    padded = np.pad(mask, [(r, r) for r in reach], mode="edge")
    opened = ndimage.binary_dilation(ndimage.binary_erosion(padded, ball, border_value=1), ball)
    return opened[tuple(slice(r, r + n) for r, n in zip(reach, mask.shape, strict=True))] & mask


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask; the mask itself where it has one or none."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def fill_planes(mask: np.ndarray, axis: int) -> np.ndarray:
    """A mask with the holes of its planes across ``axis`` filled."""
    filled = np.empty_like(mask)
    for source, target in zip(np.moveaxis(mask, axis, 0), np.moveaxis(filled, axis, 0), strict=True):
        target[...] = ndimage.binary_fill_holes(source)
    return filled


def _refined(array: np.ndarray, core: np.ndarray, steps: list[int], axis: int) -> np.ndarray:
    """The coarse mask on the CT's own grid: its inside as it is, its edge where the tissue ends."""
    mask = np.empty(array.shape, bool)
    grown = ndimage.binary_dilation(core, iterations=1)
    inner = ndimage.binary_erosion(core, iterations=1, border_value=1)
    indices = [
        np.minimum((np.arange(n) + step // 2) // step, m - 1)
        for n, step, m in zip(array.shape, steps, core.shape, strict=True)
    ]
    others = [indices[a] for a in range(3) if a != axis]
    for k, coarse_k in enumerate(indices[axis]):
        plane = np.moveaxis(array, axis, 0)[k]
        outline = np.moveaxis(grown, axis, 0)[coarse_k][np.ix_(*others)] & (plane > BODY_HU)
        inside = np.moveaxis(inner, axis, 0)[coarse_k][np.ix_(*others)]
        np.moveaxis(mask, axis, 0)[k] = ndimage.binary_fill_holes(outline | inside)
    return mask
