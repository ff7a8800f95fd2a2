"""The space inside the skull of a head CT, whatever is cut off, cut open or thickly sliced.

Closing the skull fails where a bone flap or the vertex is missing and fills the face as well. So every voxel looks
along 26 directions instead: inside the skull nearly all of them end at bone. What leaves the volume inside the patient
says nothing, what ends in the air outside says "not enclosed". Of the enclosed soft tissue the largest piece that is
not tied on by a neck is the brain.
"""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import BODY_HU

BONE_HU = 300.0
WATERY_HU = (-60.0, 130.0)  # no air, fat, bone

_SOFT_HU = (-20.0, 130.0)  # of a coarse voxel: water to clotted blood, no fat
_COARSE_MM, _RAY_MM = 2.0, 4.0
_BONE_SHARE = 0.2  # of a coarse voxel's volume: a thin plate is a wall all the same
_ENCLOSED = 0.75  # of the directions that say something
_LEAST_KNOWN = 9  # of 26
_NECK_MM = 7.0  # half the width of what is cut: the optic nerve, the spinal canal, gaps in the skull base
_LEAST_ML = 100.0
_NO_SKULL = "no skull that encloses a brain was found in the CT; give a head CT in HU with its skull"

Bools = NDArray[np.bool_]


def intracranial_space(ct: sitk.Image) -> Bools:
    """Where a CT in HU (any orientation and spacing) is inside the skull: bool, z, y, x order, bone left out.

    A craniotomy, a missing vertex and thick slices are borne; the spinal canal may come along for a few millimetres.

    Raises:
        InputError: there is no skull, or too little of one to enclose a brain.
    """
    array, spacing = sitk.GetArrayViewFromImage(ct), ct.GetSpacing()[::-1]
    place = _patient(array)  # slices of padding beyond a cut would be taken for the air outside
    found = np.zeros(array.shape, bool)
    found[place] = _inside(array[place], spacing)
    return found


def _patient(hu: NDArray) -> tuple[slice, ...]:
    """The box around all that is not air."""
    body = hu > BODY_HU
    if not body.any():
        raise InputError(_NO_SKULL)
    return ndimage.find_objects(body.view(np.uint8))[0]


def _inside(hu: NDArray, spacing: tuple[float, ...]) -> Bools:
    steps = [max(1, round(_COARSE_MM / mm)) for mm in spacing]
    coarse_mm = [mm * step for mm, step in zip(spacing, steps, strict=True)]
    mean, bone = reduced(hu, steps), reduced(hu > BONE_HU, steps) >= _BONE_SHARE
    soft = _enclosed(bone, mean > BODY_HU, coarse_mm) & ~bone & (mean > _SOFT_HU[0]) & (mean < _SOFT_HU[1])
    brain = _largest_without_necks(soft, coarse_mm)
    if brain.sum() * np.prod(coarse_mm) / 1000 < _LEAST_ML:
        raise InputError(_NO_SKULL)
    free = (hu <= BONE_HU) & (hu > BODY_HU)
    fine = enlarged(ndimage.binary_fill_holes(brain), steps, hu.shape) & (hu <= BONE_HU)
    reach = max(1, round(_COARSE_MM / min(spacing)))
    return ndimage.binary_dilation(fine, iterations=reach, mask=free | fine)  # up to the bone, and not through it


def reduced(array: NDArray, steps: list[int]) -> NDArray[np.float32]:
    """Means of blocks of ``steps`` voxels (the last ones repeated to fill a block), float32."""
    result = array.astype(np.float32)
    for axis, step in enumerate(steps):
        if step > 1:
            missing = -result.shape[axis] % step
            if missing:
                result = np.concatenate([result, np.repeat(result.take([-1], axis), missing, axis)], axis)
            shape = (*result.shape[:axis], result.shape[axis] // step, step, *result.shape[axis + 1 :])
            result = result.reshape(shape).mean(axis=axis + 1)
    return result


def enlarged(array: NDArray, steps: list[int], shape: tuple[int, ...]) -> NDArray:
    """The inverse of :func:`reduced`: every block has its value in all of its voxels."""
    for axis, step in enumerate(steps):
        array = np.repeat(array, step, axis)
    return array[tuple(slice(n) for n in shape)]


def _enclosed(bone: Bools, tissue: Bools, spacing: list[float]) -> Bools:
    """Where bone stands in most directions, of those that do not leave the volume inside the patient."""
    steps = [max(1, round(_RAY_MM / mm)) for mm in spacing]
    walls, patient = reduced(bone, steps) > 0, reduced(tissue, steps) > 0.5
    hits, known = np.zeros(walls.shape, np.int8), np.zeros(walls.shape, np.int8)
    for direction in itertools.product((-1, 0, 1), repeat=3):
        if any(direction):
            ends = _ends(walls, patient, direction)
            hits += ends == _BONE
            known += ends != _UNKNOWN
    inside = (hits >= _ENCLOSED * known) & (known >= _LEAST_KNOWN)
    return enlarged(inside, steps, bone.shape)


_AIR, _BONE, _UNKNOWN, _FACE = map(np.int8, range(4))


def _ends(walls: Bools, patient: Bools, direction: tuple[int, ...]) -> NDArray[np.int8]:
    """What a ray from every voxel meets first: bone, the volume's face in air, or its face inside the patient."""
    axis = next(a for a, d in enumerate(direction) if d)
    first, second = (d for a, d in enumerate(direction) if a != axis)
    walls, patient = np.moveaxis(walls, axis, 0), np.moveaxis(patient, axis, 0)
    ends = np.where(patient, _UNKNOWN, _AIR)  # as at a face; overwritten where there is a neighbour
    rows, columns = ends.shape[1:]
    before = np.full((rows, columns), _FACE)
    for k in range(len(ends))[:: -direction[axis]]:
        met = np.pad(before, 1, constant_values=_FACE)[1 + first :, 1 + second :][:rows, :columns]
        np.copyto(ends[k], met, where=met != _FACE)
        ends[k][walls[k]] = _BONE
        before = ends[k]
    return np.moveaxis(ends, 0, axis)


def _largest_without_necks(soft: Bools, spacing: list[float]) -> Bools:
    """The largest piece after a cut of narrow necks, grown back within ``soft`` as far as was cut off."""
    padded = np.pad(soft, 1, mode="edge")  # where the volume ends the brain goes on
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
    labels, count = ndimage.label(depth > _NECK_MM)
    if not count:
        return np.zeros_like(soft)
    core = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    near = soft & (ndimage.distance_transform_edt(~core, sampling=spacing) <= _NECK_MM + max(spacing))
    return ndimage.binary_propagation(core, mask=near)
