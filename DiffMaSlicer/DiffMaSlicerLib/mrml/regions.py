"""A region of interest and a segmentation as one mask on the CT's grid, written in pieces."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.mrml.geometry import ijk_to_ras, slice_count, to_array, to_world
from DiffMaSlicerLib.mrml.volume_files import write_nrrd
from DiffMaSlicerLib.mrml.voxels import voxels_of

Plane = Callable[[int], np.ndarray]
"""Gives a bool plane (y, x) of the mask for an index along z."""


def slices_argument(ct: Any, slices: tuple[int, int] | None) -> list[str]:
    """``--slices`` for slices first to last, both included, along the CT's superior-inferior axis; [] for all.

    Raises:
        JobError: no slice is left.
    """
    if slices is None:
        return []
    count = slice_count(ct)
    first, last = slices
    last = count - 1 if last < 0 else min(last, count - 1)
    if first < 0 or first > last:
        cause = _("the slices {first} to {last} choose nothing").format(first=slices[0], last=slices[1])
        raise JobError(cause, "InputError", _("The CT has slices 0 to {last}.").format(last=count - 1))
    return ["--slices", f"{first}:{last + 1}"]


def write_mask(path: Path, ct: Any, roi: Any = None, segmentation: Any = None) -> Generator[object, None, Any]:
    """Write where both the box of ``roi`` and the visible segments of ``segmentation`` are, on the CT's grid.

    Raises:
        JobError: an empty region, a transform that is not linear, or no space on the disk.
    """
    image = ct.GetImageData()
    shape = tuple(int(n) for n in image.GetDimensions()[::-1])
    ct_to_world = to_world(ct) @ ijk_to_ras(ct)
    planes: list[Plane] = []
    if roi is not None:
        planes.append(_roi_planes(roi, ct_to_world, shape))
    if segmentation is not None:
        planes.append(_any_of((yield from _segment_planes(segmentation, ct, ct_to_world, shape)), shape))
    inside = 0

    def part(chosen: slice) -> np.ndarray:
        nonlocal inside
        mask = np.ones((chosen.stop - chosen.start, *shape[1:]), bool)
        for offset, k in enumerate(range(chosen.start, chosen.stop)):
            for plane in planes:
                mask[offset] &= plane(k)
        inside += int(np.count_nonzero(mask))
        return mask.view(np.uint8)

    # a plane costs several milliseconds, so a piece is one plane
    yield from write_nrrd(path, shape, np.dtype(np.uint8), ijk_to_ras(ct), part, planes_at_once=1)
    if not inside:
        remedy = _("Move it onto the CT, show a segment, or choose no region.")
        raise JobError(_("the chosen region holds no voxel of the CT"), "InputError", remedy)


def _roi_planes(roi: Any, ct_to_world: np.ndarray, shape: tuple[int, ...]) -> Plane:
    to_world(roi)  # refuses transforms that are not linear
    object_to_ijk = np.linalg.inv(to_array(roi.GetObjectToWorldMatrix())) @ ct_to_world
    half = np.abs(roi.GetSize()) / 2 + 1e-6  # a face that lies on voxel centres takes them in

    def plane(k: int) -> np.ndarray:
        mask = np.ones(shape[1:], bool)
        for axis in range(3):
            mask &= np.abs(_coordinate(object_to_ijk[axis], k, shape)) <= half[axis]
        return mask

    return plane


def _segment_planes(
    segmentation: Any, ct: Any, ct_to_world: np.ndarray, shape: tuple[int, ...]
) -> Generator[object, None, Any]:
    """One ``Plane`` for each visible segment."""
    names = _visible_segments(segmentation)
    if not names:
        remedy = _("Show the segments to use, or choose none.")
        raise JobError(_("the segmentation shows no segment"), "InputError", remedy)
    local_to_world = to_world(segmentation)
    found = []
    for name in names:
        segment = segmentation.GetSegmentation().GetSegment(name)
        representation = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        labelmap = segment.GetRepresentation(representation)
        if labelmap is None:
            found.append(_converted_plane(segmentation, name, ct))
        elif labelmap.GetPointData() is not None and labelmap.GetPointData().GetScalars() is not None:
            matrix = vtk.vtkMatrix4x4()
            labelmap.GetImageToWorldMatrix(matrix)
            ct_to_index = np.linalg.inv(local_to_world @ to_array(matrix)) @ ct_to_world
            found.append(_labelmap_plane(labelmap, int(segment.GetLabelValue()), ct_to_index, shape))
        yield None
    return found


def _visible_segments(segmentation: Any) -> list[str]:
    names = vtk.vtkStringArray()
    display = segmentation.GetDisplayNode()
    if display is not None:
        display.GetVisibleSegmentIDs(names)
    else:
        segmentation.GetSegmentation().GetSegmentIDs(names)
    return [names.GetValue(i) for i in range(names.GetNumberOfValues())]


def _labelmap_plane(labelmap: Any, label: int, ct_to_index: np.ndarray, shape: tuple[int, ...]) -> Plane:
    """The nearest voxel of a segment's labelmap decides."""
    extent = labelmap.GetExtent()
    labels = voxels_of(labelmap)

    def plane(k: int) -> np.ndarray:
        inside = np.ones(shape[1:], bool)
        indices = []
        for axis in range(3):
            index = np.floor(_coordinate(ct_to_index[axis], k, shape) + 0.5).astype(np.int32) - extent[2 * axis]
            inside &= (index >= 0) & (index < labels.shape[2 - axis])
            indices.append(np.broadcast_to(index, shape[1:]))
        result = np.zeros(shape[1:], bool)
        if inside.any():
            x, y, z = (index[inside] for index in indices)
            result[inside] = labels[z, y, x] == label
        return result

    return plane


def _converted_plane(segmentation: Any, name: str, ct: Any) -> Plane:
    """For a segment that is only a surface: Slicer's own conversion, in one go."""
    names = vtk.vtkStringArray()
    names.InsertNextValue(name)
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "DiffMa region")
    try:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.ExportSegmentsToLabelmapNode(segmentation, names, labelmap, ct):
            cause = _("the segmentation cannot be turned into a mask")
            raise JobError(cause, "InputError", _("Choose another one."))
        inside = voxels_of(labelmap.GetImageData()) > 0
    finally:
        slicer.mrmlScene.RemoveNode(labelmap)
    return lambda k: inside[k]


def _any_of(planes: list[Plane], shape: tuple[int, ...]) -> Plane:
    def plane(k: int) -> np.ndarray:
        mask = np.zeros(shape[1:], bool)
        for one in planes:
            mask |= one(k)
        return mask

    return plane


def _coordinate(row: np.ndarray, k: int, shape: tuple[int, ...]) -> np.ndarray:
    """``row @ (i, j, k, 1)`` for all i, j of a plane, (y, x)."""
    along_y = np.arange(shape[1], dtype=np.float64)[:, None] * row[1]
    return along_y + (np.arange(shape[2], dtype=np.float64) * row[0] + (k * row[2] + row[3]))
