"""A patient's two volumes to paired slices, by the functions that inference lays its slices with; or why they are not
fit to train on, each reason a sentence for the report. Imports no torch, so that a process that reads starts at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_of, overlap
from DiffMaCore.imaging.checks import check_ct, check_mr
from DiffMaCore.imaging.grid import AIR_HU, SliceGrid, anatomical_axes
from DiffMaCore.imaging.source import normalise, percentile_normalisation, ready_source
from DiffMaCore.training.experiment import CT, DataConfig
from DiffMaCore.training.sources.case import CaseSlices, RawCase, RawPair

LEAST_OVERLAP = 0.8
"""Dice coefficient of the two bodies. A head shifted sideways by 24 mm has 0.80; registered pairs have 0.97 (phantoms),
0.92 to 0.98 (real brains in 8 bits) and 0.82 to 0.88 (such pelves, whose surroundings move), as measured."""

MOST_EMPTY = 0.5  # part of the body's slices that hold nothing in the other image: then it is another region

_FLAT = 1e-3  # a slice whose target spans less inside the body shows nothing
_SPACING = 1e-3  # part of the spacing
_ORIGIN = 0.1  # of a voxel
_DIRECTION = 1e-3
_LEAST_BODY = 1000  # voxels


def read_case(case: RawCase, data: DataConfig) -> CaseSlices | list[str]:
    """The slices of a case, or why it is left out."""
    try:
        pair = case.load()
        if isinstance(pair, CaseSlices):
            return pair
        return check_case(pair, data) or _slice_pair(pair, data)
    except InputError as problem:
        return [str(problem)]


def _slice_pair(pair: RawPair, data: DataConfig) -> CaseSlices:
    """The slices of a pair that show enough of the body and a target.

    Raises InputError where a volume cannot be used or no slice is left.
    """
    normalisation = None if data.source == CT else percentile_normalisation(*data.mr_percentiles)
    source = ready_source(pair.source, normalisation)
    grid = SliceGrid.from_image(source.image, source.body, data.pixel_spacing, data.image_size)
    planes = range(grid.n_slices)[:: data.slice_step]
    shown = _on_grid(grid, source.body, planes)
    wanted = np.flatnonzero(shown.mean(axis=(1, 2)) >= max(data.least_body, 1e-9))
    if not len(wanted):
        raise InputError(f"no slice shows {100 * data.least_body:g} % of body; lower data.least_body")
    if data.target == CT:
        target, outside = sitk.GetArrayViewFromImage(check_ct(pair.target)[0]), AIR_HU
    else:
        target, outside = normalise(sitk.GetArrayViewFromImage(pair.target), source.body, *data.mr_percentiles), -1.0
    images = grid.slices(target, [planes[k] for k in wanted], outside)
    empty = np.array([np.ptp(image[shown[k]]) < _FLAT for k, image in zip(wanted, images, strict=True)])
    if empty.all():
        raise InputError(f"the {data.target} has one value all over the body; check that it shows the same patient")
    keep = [planes[k] for k in wanted[~empty]]
    notes = [*pair.notes, *source.notes, *grid.notes]
    if empty.any():
        notes.append(f"{int(empty.sum())} slices without anything in the {data.target} were left out.")
    mask = None if pair.mask is None else sitk.GetArrayViewFromImage(pair.mask) > 0
    return CaseSlices(
        source=grid.slices(sitk.GetArrayViewFromImage(source.image), keep, source.outside),
        target=images[~empty],
        body=shown[wanted[~empty]] if mask is None else _on_grid(grid, mask, keep),
        index=np.array(keep, np.int64),
        spacing=grid.slab_sign * source.image.GetSpacing()[grid.slab_axis],
        notes=notes,
    )


def _on_grid(grid: SliceGrid, mask: NDArray[np.bool_], planes: Sequence[int]) -> NDArray[np.bool_]:
    return grid.slices(mask, planes, 0.0) >= 0.5


def check_case(pair: RawPair, data: DataConfig) -> list[str]:
    """Reasons to leave a case out, cheap ones first; empty for a good one.

    Geometry of source, target and mask; voxels that are NaN or infinite; a CT that is not in HU, an MRI that is a CT;
    a mask or a body that is empty; slices without content; bodies that do not lie over each other.
    """
    named = {data.source: pair.source, data.target: pair.target}
    placed = named if pair.mask is None else named | {"mask": pair.mask}
    reasons = [r for name, image in placed.items() for r in _geometry(pair.source, image, data.source, name)]
    for name, image in named.items():
        count = int((~np.isfinite(sitk.GetArrayViewFromImage(image))).sum())
        reasons += [f"{name}: {count} voxels are NaN or infinite"] if count else []
    if reasons:
        return reasons
    checked = {}
    for name, image in named.items():
        try:
            checked[name], _ = check_ct(image) if name == CT else check_mr(image)
        except InputError as problem:
            reasons.append(f"{name}: {problem}")
    if pair.mask is not None and not sitk.GetArrayViewFromImage(pair.mask).any():
        reasons.append("mask: it is empty")
    return reasons or _bodies(checked, pair.mask, data)


def empty_planes(image: sitk.Image, axis: int) -> np.ndarray:
    """Which planes across numpy ``axis`` hold one value only: bool, one a plane."""
    planes = np.moveaxis(sitk.GetArrayViewFromImage(image), axis, 0)
    return np.array([plane.min() == plane.max() for plane in planes])


def _geometry(reference: sitk.Image, image: sitk.Image, reference_name: str, name: str) -> list[str]:
    """How the grid of ``image`` differs; nothing where it is the same but for rounding."""
    of = f"{name} and {reference_name} differ in"
    if image.GetSize() != reference.GetSize():
        return [f"{of} size: {_text(image.GetSize())} and {_text(reference.GetSize())} voxels"]
    spacing = np.array(reference.GetSpacing())
    reasons = []
    if not np.allclose(image.GetSpacing(), spacing, rtol=_SPACING, atol=0):
        reasons.append(f"{of} spacing: {_text(image.GetSpacing())} and {_text(spacing)} mm")
    if not np.allclose(image.GetOrigin(), reference.GetOrigin(), rtol=0, atol=_ORIGIN * spacing.min()):
        reasons.append(f"{of} origin: {_text(image.GetOrigin())} and {_text(reference.GetOrigin())} mm")
    if not np.allclose(image.GetDirection(), reference.GetDirection(), rtol=0, atol=_DIRECTION):
        reasons.append(f"{of} direction of the axes")
    return reasons


def _bodies(images: dict[str, sitk.Image], mask: sitk.Image | None, data: DataConfig) -> list[str]:
    axis = 2 - anatomical_axes(images[data.source])[0]
    bodies = {name: body_of(image, name) for name, image in images.items()}
    for name, body in bodies.items():
        if body.sum() < _LEAST_BODY:
            return [f"{name}: there is no body in it ({int(body.sum())} voxels)"]
    filled = np.moveaxis(bodies[data.source], axis, 0).any(axis=(1, 2))
    empty = float(empty_planes(images[data.target], axis)[filled].mean())
    if empty > MOST_EMPTY:
        return [f"{data.target}: {100 * empty:.0f} % of the slices with a body are empty in it"]
    if mask is not None and CT in bodies:  # a CT may see more of the patient than the MRI
        bodies[CT] &= sitk.GetArrayViewFromImage(mask) > 0
    shared = overlap(bodies[data.source], bodies[data.target], axis)
    if shared < LEAST_OVERLAP:
        return [
            f"the bodies in {data.source} and {data.target} overlap by {shared:.2f} only (Dice coefficient, at least"
            f" {LEAST_OVERLAP} is wanted): register the images"
        ]
    return []


def _text(values: object) -> str:
    return " x ".join(f"{value:.5g}" for value in np.asarray(values))
