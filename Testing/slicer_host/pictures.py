"""Pictures of what VTK has drawn."""

from __future__ import annotations

import numpy as np


def picture_of(window) -> np.ndarray:
    """RGB picture of a vtkRenderWindow, drawn now: uint8; rows from the top, columns, 3."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.ShouldRerenderOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()
