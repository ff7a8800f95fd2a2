"""What a volume node looks like at first sight: at once, in this process, from a sample of its voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.mrml.geometry import ijk_to_ras, slice_axis, to_world
from DiffMaSlicerLib.mrml.voxels import voxels_of

_SAMPLE_VOXELS = 200_000
_AIR_BELOW = -200.0
_LEAST_AIR = 0.001

NAN_NOTE = _("Some voxels are NaN or infinite: they are taken as air.")


@dataclass(frozen=True)
class VolumeFacts:
    """What a volume is, for the line under the selector.

    Attributes:
        size: voxels along i, j, k.
        spacing: mm along i, j, k.
        range: lowest and highest value of a sample of the voxels; None without finite ones.
        nan_count: NaN or infinite voxels in that sample.
        slice_axis, slices: image axis closest to superior-inferior, and how many slices it has.
        dimension_problem: why it is not one three-dimensional volume; "" if it is.
        transform_problem: why it has no place in the world's coordinates; "" if it has.
        problem: why it cannot be converted; "" if it seems that it can. The child's check says more.
        doubtful: the problem is only that its values are hardly a CT's, so that it could be converted all the same.
        notes: what to know besides.
        sentence: size, spacing and range in words.
    """

    size: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    range: tuple[float, float] | None = None
    nan_count: int = 0
    slice_axis: int = 2
    slices: int = 0
    dimension_problem: str = ""
    transform_problem: str = ""
    problem: str = ""
    doubtful: bool = False
    notes: list[str] = field(default_factory=list)
    sentence: str = ""


def describe(node: Any) -> VolumeFacts:
    """Facts of a volume node; one that is None or empty gives a problem, never an error."""
    if node is None:
        return VolumeFacts(problem=_("No volume is chosen."))
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
        return VolumeFacts(problem=_("The volume holds no voxels: load it again."))
    size, spacing = tuple(image.GetDimensions()), tuple(node.GetSpacing())
    dimension_problem = _dimension_problem(node, size)
    if image.GetNumberOfScalarComponents() != 1:
        return VolumeFacts(size, spacing, dimension_problem=dimension_problem, problem=dimension_problem)
    sample = _sample(voxels_of(image))
    finite = sample[np.isfinite(sample)]
    values = (float(finite.min()), float(finite.max())) if finite.size else None
    nan_count = int(sample.size - finite.size)
    axis = slice_axis(node)
    transform_problem = _transform_problem(node)
    problem = dimension_problem or transform_problem or _problem(node, finite)
    doubt = "" if problem else _doubt(finite)
    return VolumeFacts(
        size=size,
        spacing=spacing,
        range=values,
        nan_count=nan_count,
        slice_axis=axis,
        slices=size[axis],
        dimension_problem=dimension_problem,
        transform_problem=transform_problem,
        problem=problem or doubt,
        doubtful=bool(doubt),
        notes=_notes(node, nan_count),
        sentence=_sentence(size, spacing, values, "" if problem or doubt else " HU"),
    )


def _dimension_problem(node: Any, size: tuple[int, ...]) -> str:
    components = node.GetImageData().GetNumberOfScalarComponents()
    if node.IsA("vtkMRMLMultiVolumeNode"):
        return _("This is a volume with several frames (four dimensions): extract one frame first.")
    if components != 1:
        text = _("This volume has {count} values per voxel (colour, vectors or frames): choose a CT in HU.")
        return text.format(count=components)
    if min(size) < 2:
        return _("This is a picture, not a volume: load the whole CT series.")
    return ""


def _transform_problem(node: Any) -> str:
    try:
        to_world(node)
    except JobError as error:
        text = str(error)
        return text[:1].upper() + text[1:]
    return ""


def _problem(node: Any, finite: np.ndarray) -> str:
    if node.GetAttribute("DiffMa.synthetic") == "1":
        return _("This is itself a synthetic image: choose the CT.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("This is a label map: choose a CT in HU.")
    if not finite.size:
        return _("All values are NaN or infinite: export the CT again.")
    if finite.min() == finite.max():
        return _("All voxels hold the same value {value:g}: export the CT again.").format(value=finite.min())
    return ""


def _doubt(finite: np.ndarray) -> str:
    if np.mean(finite < _AIR_BELOW) >= _LEAST_AIR:
        return ""
    low, high = float(finite.min()), float(finite.max())
    text = _("It does not look like a CT in HU: the values ({low:.0f} to {high:.0f}) hold no air.")
    return text.format(low=low, high=high)


def _notes(node: Any, nan_count: int) -> list[str]:
    notes = []
    if nan_count:
        notes.append(NAN_NOTE)
    for index in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = slicer.mrmlScene.GetNthNodeByClass(index, "vtkMRMLSequenceBrowserNode")
        if browser.IsProxyNodeID(node.GetID()):
            note = _("This is one time point of a sequence (four dimensions): only what is shown is converted.")
            notes.append(note)
            break
    directions = ijk_to_ras(node)[:3, :3]
    if not math.isclose(abs(np.linalg.det(directions / np.linalg.norm(directions, axis=0))), 1.0, abs_tol=1e-2):
        notes.append(_("The axes are not perpendicular: resample the volume first."))
    return notes


def _sample(array: np.ndarray) -> np.ndarray:
    step = max(1, int((array.size / _SAMPLE_VOXELS) ** (1 / 3)))
    return np.asarray(array[::step, ::step, ::step], dtype=np.float64).ravel()


def _sentence(size: tuple[int, ...], spacing: tuple[float, ...], values: tuple[float, float] | None, unit: str) -> str:
    text = _("{size} voxels of {spacing} mm").format(
        size=" x ".join(map(str, size)), spacing=" x ".join(f"{mm:.3g}" for mm in spacing)
    )
    if values is None:
        return text
    return _("{volume}, about {low:.0f} to {high:.0f}{unit}").format(
        volume=text, low=values[0], high=values[1], unit=unit
    )
