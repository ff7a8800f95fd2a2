"""The logic on a small CT in a fresh scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SHAPE = (12, 40, 48)  # z, y, x
LPS = np.diag([-1.0, -1.0, 1.0])


@pytest.fixture
def logic(slicer_host):
    """The module's logic in an empty scene; afterwards nothing may run and no temporary file may be left."""
    from DiffMaSlicerLib.logic import DiffMaSlicerLogic

    made = DiffMaSlicerLogic()
    yield made
    made.cleanup()
    assert left_over(slicer_host.folder) == []


@pytest.fixture
def ct(slicer_host):
    """A block of water in air on an oblique grid, with a bone in it."""
    return make_ct()


def make_ct(name: str = "CT of somebody", shape: tuple[int, int, int] = SHAPE):
    """A scalar volume of int16 HU, 4.4 x 4.1 x 5.3 mm, turned by some degrees."""
    import slicer

    voxels = np.full(shape, -1000, np.int16)
    z, y, x = (n // 5 for n in shape)
    voxels[1:-1, y : 4 * y, x : 4 * x] = 40
    voxels[2 * z : 3 * z, 2 * y : 3 * y, 2 * x : 3 * x] = 600
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetIJKToRASMatrix(as_matrix(oblique()))
    return node


def oblique() -> np.ndarray:
    """(4, 4) IJK to RAS of an oblique grid whose numbers are no round ones."""
    a, b = 0.1, 0.05
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt @ np.diag([-4.4, -4.1, 5.3])
    matrix[:3, 3] = [81.23456789, 77.1, -31 / 3]
    return matrix


def as_matrix(array: np.ndarray):
    """(4, 4) numbers as a vtkMatrix4x4."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(array.ravel().tolist())
    return matrix


def matrix_of(node) -> np.ndarray:
    """(4, 4) IJK to RAS of a volume node."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def voxels(node) -> np.ndarray:
    """A copy of a node's voxels (z, y, x)."""
    import slicer

    return slicer.util.arrayFromVolume(node).copy()


def volumes() -> list[str]:
    """Names of all volumes of the scene."""
    import slicer

    return sorted(node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def left_over(folder: Path) -> list[Path]:
    """Our temporary folders that still exist."""
    return sorted(folder.glob("DiffMa-*"))
