"""Is a case fit to train on? Every reason why not is a sentence for the report."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_of, overlap
from DiffMaCore.imaging.checks import check_ct, check_mr
from DiffMaCore.imaging.grid import anatomical_axes
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawPair

LEAST_OVERLAP = 0.8
"""Dice coefficient of the two bodies. A head shifted sideways by 24 mm has 0.80; registered pairs have 0.97 (phantoms),
0.92 to 0.98 (real brains in 8 bits) and 0.82 to 0.88 (such pelves, whose surroundings move), as measured."""

MOST_EMPTY = 0.5  # part of the body's slices that hold nothing in the other image: then it is another region

_SPACING = 1e-3  # part of the spacing
_ORIGIN = 0.1  # of a voxel
_DIRECTION = 1e-3
_LEAST_BODY = 1000  # voxels


def check_case(pair: RawPair, data: DataConfig) -> list[str]:
    """Reasons to leave a case out, cheap ones first; empty for a good one.

    Geometry of source, target and mask; voxels that are NaN or infinite; a CT that is not in HU, an MRI that is a CT;
    a mask or a body that is empty; slices without content; bodies that do not lie over each other.
    """
    named = {data.source: pair.source, data.target: pair.target}
    reasons = [r for name, image in named.items() for r in _geometry(pair.source, image, data.source, name)]
    if pair.mask is not None:
        reasons += _geometry(pair.source, pair.mask, data.source, "mask")
    reasons += [r for name, image in named.items() for r in _not_finite(image, name)]
    if reasons:
        return reasons
    checked = {}
    for name, image in named.items():
        try:
            checked[name], _ = check_ct(image) if name == "ct" else check_mr(image)
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
    if (np.abs(np.subtract(image.GetSpacing(), spacing)) > _SPACING * spacing).any():
        reasons.append(f"{of} spacing: {_text(image.GetSpacing())} and {_text(spacing)} mm")
    shift = np.abs(np.subtract(image.GetOrigin(), reference.GetOrigin()))
    if shift.max() > _ORIGIN * spacing.min():
        reasons.append(f"{of} origin: {_text(image.GetOrigin())} and {_text(reference.GetOrigin())} mm")
    if np.abs(np.subtract(image.GetDirection(), reference.GetDirection())).max() > _DIRECTION:
        reasons.append(f"{of} direction of the axes")
    return reasons


def _not_finite(image: sitk.Image, name: str) -> list[str]:
    array = sitk.GetArrayViewFromImage(image)
    count = array.size - int(np.isfinite(array).sum())
    return [f"{name}: {count} voxels are NaN or infinite"] if count else []


def _bodies(images: dict[str, sitk.Image], mask: sitk.Image | None, data: DataConfig) -> list[str]:
    """What the bodies in the two images tell, where both images are sound."""
    axis = 2 - anatomical_axes(images[data.source])[0]
    bodies = {name: body_of(image, name) for name, image in images.items()}
    for name, body in bodies.items():
        if body.sum() < _LEAST_BODY:
            return [f"{name}: there is no body in it ({int(body.sum())} voxels)"]
    filled = np.moveaxis(bodies[data.source], axis, 0).any(axis=(1, 2))
    empty = float(empty_planes(images[data.target], axis)[filled].mean())
    if empty > MOST_EMPTY:
        return [f"{data.target}: {100 * empty:.0f} % of the slices with a body are empty in it"]
    if mask is not None and "ct" in bodies:  # a CT may see more of the patient than the MRI
        bodies["ct"] &= sitk.GetArrayViewFromImage(mask) > 0
    shared = overlap(bodies[data.source], bodies[data.target], axis)
    if shared < LEAST_OVERLAP:
        return [
            f"the bodies in {data.source} and {data.target} overlap by {shared:.2f} only (Dice coefficient, at least"
            f" {LEAST_OVERLAP} is wanted): register the images"
        ]
    return []


def _text(values: object) -> str:
    return " x ".join(f"{value:.5g}" for value in np.asarray(values))
