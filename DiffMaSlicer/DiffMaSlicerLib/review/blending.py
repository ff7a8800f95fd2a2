"""Checkerboard and reveal cursor: parts of a slice view show the foreground, the rest the background.

Slicer blends the layers of a slice view with one VTK filter (vtkImageBlend). A stencil on that filter says where the
foreground is laid on at all, so scrolling, zooming, windowing, and all that is drawn on top work as they always do, and
taking the stencil away leaves nothing behind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import VTKObservationMixin
from vtk.util.numpy_support import numpy_to_vtk

from . import views
from .layouts import View

REVEAL_RADIUS = 0.22
"""Radius of the revealed disc, as part of the view's smaller side."""

_RING_COLOR = (1.0, 0.8, 0.1)  # that of Slicer's crosshair


class Blending(VTKObservationMixin):
    """The stencils of the review's slice views; one view has one or none."""

    def __init__(self) -> None:
        super().__init__()
        self._stencils: dict[View, _Checkerboard | _Reveal] = {}

    def checkerboard(self, view: View, tiles: int) -> None:
        """Show foreground and background in turns: ``tiles`` squares along the view's longer side."""
        self._put(view, _Checkerboard(view, tiles))

    def reveal(self, view: View) -> None:
        """Show the foreground in a disc round the mouse cursor, or where the cursor was last."""
        previous = self._stencils.get(view)
        stencil = _Reveal(view)
        if isinstance(previous, _Reveal):
            stencil.position = previous.position
        self._put(view, stencil)
        crosshair = views.crosshair_node()
        if crosshair:
            event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
            if not self.hasObserver(crosshair, event, self._on_cursor):
                self.addObserver(crosshair, event, self._on_cursor)

    def off(self, view: View) -> None:
        """Show the layers of the view as Slicer does."""
        stencil = self._stencils.pop(view, None)
        if stencil:
            stencil.remove()
            views.request_render(view)
        if not self._stencils:
            self.removeObservers()

    def clear(self) -> None:
        """Take away every stencil, ring and observer."""
        for view in list(self._stencils):
            self.off(view)
        self.removeObservers()

    def _put(self, view: View, stencil: _Checkerboard | _Reveal) -> None:
        self.off(view)
        node = views.slice_node(view)
        if not node or not stencil.attach():
            return
        self._stencils[view] = stencil
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_slice):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_slice)
        views.request_render(view)

    def _on_slice(self, caller, event) -> None:
        for view, stencil in self._stencils.items():
            if views.slice_node(view) is caller:
                stencil.update()

    def _on_cursor(self, caller, event) -> None:
        position = [0.0, 0.0, 0.0]
        if not caller.GetCursorPositionRAS(position):
            return
        for view, stencil in self._stencils.items():
            if isinstance(stencil, _Reveal):
                stencil.position = (position[0], position[1], position[2])
                stencil.update()
                views.request_render(view)


class _Stencil:
    """A stencil on the filter that blends one view's layers."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._blend: Any = None

    def attach(self) -> bool:
        """Put the stencil in place; False when the view has no slice logic."""
        logic = views.slice_logic(self.view)
        if not logic:
            return False
        self._blend = logic.GetBlend()
        self.update()
        return True

    def remove(self) -> None:
        if self._blend:
            self._blend.SetStencilConnection(None)
            self._blend = None

    def size(self) -> tuple[int, int]:
        """Width and height of the view in pixels; zeros when it is gone."""
        node = views.slice_node(self.view)
        return tuple(node.GetDimensions()[:2]) if node else (0, 0)

    def update(self) -> None:
        """Fit the stencil to the view as it is now."""
        raise NotImplementedError


class _Checkerboard(_Stencil):
    def __init__(self, view: View, tiles: int) -> None:
        super().__init__(view)
        self.tiles = tiles
        self._drawn: tuple[int, ...] | None = None
        self._source = vtk.vtkImageToImageStencil()
        self._source.ThresholdByUpper(1)

    def update(self) -> None:
        size = self.size()
        if not all(size) or size == self._drawn:
            return
        self._drawn = size
        self._source.SetInputData(_image(checkerboard_mask(*size, self.tiles)))
        self._blend.SetStencilConnection(self._source.GetOutputPort())


class _Reveal(_Stencil):
    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.position: tuple[float, float, float] | None = None  # RAS, mm
        self._source = vtk.vtkROIStencilSource()
        self._source.SetShapeToCylinderZ()
        self._renderer = None
        self._outline = vtk.vtkRegularPolygonSource()
        self._outline.SetNumberOfSides(72)
        self._outline.GeneratePolygonOff()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputConnection(self._outline.GetOutputPort())
        self._ring = vtk.vtkActor2D()
        self._ring.SetMapper(mapper)
        self._ring.GetProperty().SetColor(_RING_COLOR)
        self._ring.GetProperty().SetLineWidth(1.5)
        self._ring.SetLayerNumber(1)

    def attach(self) -> bool:
        if not super().attach():
            return False
        self._renderer = views.renderer(self.view)
        if self._renderer:
            self._renderer.AddViewProp(self._ring)
        return True

    def remove(self) -> None:
        super().remove()
        if self._renderer:
            self._renderer.RemoveViewProp(self._ring)
            self._renderer = None

    def update(self) -> None:
        width, height = self.size()
        if not width or not height:
            return
        x, y = self._centre(width, height)
        radius = REVEAL_RADIUS * min(width, height)
        self._outline.SetCenter(x, y, 0)
        self._outline.SetRadius(radius)
        self._source.SetOutputWholeExtent(0, width - 1, 0, height - 1, 0, 0)
        self._source.SetBounds(x - radius, x + radius, y - radius, y + radius, -1, 1)
        self._blend.SetStencilConnection(self._source.GetOutputPort())

    def _centre(self, width: int, height: int) -> tuple[float, float]:
        """Where the cursor stands in this view, in pixels: in other views than the mouse's, straight below or above."""
        if self.position is None:
            return width / 2, height / 2
        toXY = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(views.slice_node(self.view).GetXYToRAS(), toXY)
        x, y = toXY.MultiplyPoint((*self.position, 1.0))[:2]
        return x, y


def checkerboard_mask(width: int, height: int, tiles: int) -> np.ndarray:
    """Bool array (height, width) of squares, ``tiles`` along the longer side; False at the upper left (last row)."""
    side = max(1, math.ceil(max(width, height) / max(1, tiles)))
    rows = (height - 1 - np.arange(height)) // side
    columns = np.arange(width) // side
    return (rows[:, None] + columns[None, :]) % 2 == 1


def _image(mask: np.ndarray) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(mask.shape[1], mask.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True))
    return image
