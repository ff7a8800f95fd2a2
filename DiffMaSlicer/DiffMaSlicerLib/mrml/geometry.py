"""Where voxels lie: matrices of nodes as numpy arrays, the slices' axis, and which transforms can be followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.job import JobError

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_array(matrix: Any) -> np.ndarray:
    """A vtkMatrix4x4 as (4, 4) float64."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_matrix(array: np.ndarray) -> Any:
    """(4, 4) numbers as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix


def ijk_to_ras(volume: Any) -> np.ndarray:
    """(4, 4) of a volume node, without the transforms above it."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return to_array(matrix)


def to_world(node: Any) -> np.ndarray:
    """(4, 4) of the transforms above ``node``.

    Raises:
        JobError: one of them is not linear, such as the acquisition transform of a tilted scan.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    if not transform.IsTransformToWorldLinear() or not transform.GetMatrixTransformToWorld(matrix):
        cause = _("the volume or region stands under a transform that is not linear ({name})")
        remedy = _("Harden the transform first (Data module, right click on it).")
        raise JobError(cause.format(name=transform.GetName()), "InputError", remedy)
    return to_array(matrix)


def slice_axis(volume: Any) -> int:
    """The image axis (0 i, 1 j, 2 k) closest to superior-inferior: the one along which slices are counted."""
    directions = ijk_to_ras(volume)[:3, :3]
    directions = directions / np.linalg.norm(directions, axis=0)
    return int(np.argmax(np.abs(directions[2])))


def slice_count(volume: Any) -> int:
    """Planes of the volume along ``slice_axis``; 0 without voxels."""
    image = volume.GetImageData()
    return int(image.GetDimensions()[slice_axis(volume)]) if image else 0
