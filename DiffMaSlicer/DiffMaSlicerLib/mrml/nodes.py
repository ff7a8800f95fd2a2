"""Volume nodes for results: made with the CT's geometry, shown with a fixed window, put back if nothing came of it."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from DiffMaSlicerLib.mrml.hierarchy import place_beside


def in_scene(node: Any) -> bool:
    """Whether ``node`` is still part of the scene."""
    return node is not None and node.GetScene() is not None and bool(slicer.mrmlScene.IsNodePresent(node))


def make_volume(name: str) -> Any:
    """A new scalar volume node without voxels, under a name that no other node has."""
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name))


def show_as(node: Any, image: Any, like: Any, window: tuple[float, float] | None) -> None:
    """Give ``node`` the voxels ``image`` and the geometry, transform and study of ``like``.

    Args:
        window: values shown black and white; None leaves it to Slicer (which reads every voxel for it).
    """
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    set_window(node, window)  # before the voxels come: an automatic window would read them all
    place(node, image, _matrix(like), like)
    place_beside(node, like)


def place(node: Any, image: Any, matrix: Any, like: Any = None) -> None:
    """Give ``node`` voxels and a vtkMatrix4x4 from IJK to RAS, and the transform above ``like``."""
    modifying = node.StartModify()
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveTransformNodeID(like.GetTransformNodeID() if like is not None else None)
    node.SetAndObserveImageData(image)
    node.EndModify(modifying)


def set_window(node: Any, window: tuple[float, float] | None) -> None:
    """Show the values of ``window`` black and white."""
    display = node.GetDisplayNode()
    if display is not None and window is not None and window[1] > window[0]:
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(float(window[0]), float(window[1]))


class Before:
    """A node as it was: ``restore`` gives it its voxels, geometry, transform and window back."""

    def __init__(self, node: Any) -> None:
        self._image, self._matrix = node.GetImageData(), _matrix(node)
        self._transform = node.GetTransformNodeID()
        display = node.GetDisplayNode()
        self._window = None
        if display is not None and hasattr(display, "GetWindowLevelMin"):
            self._window = (display.GetAutoWindowLevel(), display.GetWindowLevelMin(), display.GetWindowLevelMax())

    def restore(self, node: Any) -> None:
        """Put everything back as it was."""
        place(node, self._image, self._matrix)
        node.SetAndObserveTransformNodeID(self._transform)
        if self._window is not None and node.GetDisplayNode() is not None:
            set_window(node, self._window[1:])
            node.GetDisplayNode().SetAutoWindowLevel(self._window[0])


def _matrix(node: Any) -> Any:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
