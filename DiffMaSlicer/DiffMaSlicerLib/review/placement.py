"""Where the review's views stand: along the CT, fitted to the window until the user moves them, a crosshair in all."""

from __future__ import annotations

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from . import views
from .layouts import View

_ZERO = 1e-9


class Placement(VTKObservationMixin):
    """Fits views to a CT and remembers which are still as they were fitted."""

    def __init__(self) -> None:
        super().__init__()
        self._fitted: dict[View, str] = {}  # view: ID of the CT
        self._untouched: dict[View, tuple] = {}  # view: where it stands since it was fitted
        self._resized: set[View] = set()  # to be fitted when Qt is back in its event loop
        self._places: dict[View, object] = {}  # where views stand until the sliders of new ones have spoken
        self._crosshair: tuple[int, int] | None = None  # the user's mode and behaviour

    def place(self, ct, shown: tuple[View, ...]) -> None:
        """Lay the views that have not shown this CT yet along its slices; those that have stay where they are.

        A new view of a plane that is already on the screen joins the other: same slice, centre and zoom.
        """
        if ct is None:
            return
        placed = [view for view, identifier in self._fitted.items() if identifier == ct.GetID()]
        if all(view in placed for view in shown if views.slice_node(view)):
            return
        for view in shown:
            node = views.slice_node(view)
            if not node or view in placed:
                continue
            leader = next((other for other in placed if other.plane == view.plane), None)
            self._fit(view, ct)
            if leader and leader not in self._untouched:
                views.follow(view, leader)
                self._untouched.pop(view, None)
            self._fitted[view] = ct.GetID()
            placed.append(view)
            if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_slice):
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_slice)
        if not self._places:
            qt.QTimer.singleShot(0, self._settle)
        self._places = {view: views.place_of(view) for view in placed}

    def forget(self) -> None:
        """Fit every view anew the next time."""
        self._fitted.clear()
        self._untouched.clear()
        self._places.clear()

    def clear(self) -> None:
        """Watch no view any more, and give the crosshair back as it was."""
        self.removeObservers()
        self.forget()
        self.show_crosshair(False)

    def show_crosshair(self, on: bool, ct=None) -> None:
        """A small crosshair in all views that moves with Shift and the mouse; off puts the user's back.

        It starts in the middle of the CT when it is not in the CT.
        """
        node = views.crosshair_node()
        if not node:
            self._crosshair = None
            return
        kind = slicer.vtkMRMLCrosshairNode
        if on and self._crosshair is None:
            self._crosshair = (node.GetCrosshairMode(), node.GetCrosshairBehavior())
            if node.GetCrosshairMode() == kind.NoCrosshair:
                node.SetCrosshairMode(kind.ShowSmallBasic)
            if node.GetCrosshairBehavior() == kind.NoAction:
                node.SetCrosshairBehavior(kind.OffsetJumpSlice)
            _bring_inside(node, ct)
        elif not on and self._crosshair is not None:
            mode, behavior = self._crosshair
            node.SetCrosshairMode(mode)
            node.SetCrosshairBehavior(behavior)
            self._crosshair = None

    def _fit(self, view: View, ct) -> None:
        self._untouched.pop(view, None)
        views.align(view, ct)
        self._untouched[view] = _standing(views.slice_node(view))

    def _settle(self) -> None:
        """Undo what the slider above a new view does: it puts the view, and all that are linked to it, back to 0 mm.

        Slicer queues what that slider says when it is made, so it comes when Qt is back in its event loop.
        """
        places = dict(self._places)
        self._places.clear()
        for view, place in places.items():
            node = views.slice_node(view)
            if node and abs(node.GetSliceOffset()) < _ZERO:  # anywhere else it was moved since, on purpose
                views.put_to(view, place)
            if node and view in self._untouched:
                self._on_slice(node, "")
        self._refit()

    def _on_slice(self, caller, event) -> None:
        """A view that was resized before the user moved it is fitted to its new size."""
        if self._places and abs(caller.GetSliceOffset()) < _ZERO:
            return  # perhaps not the user but the slider; see _settle
        view = next((view for view in self._untouched if views.slice_node(view) is caller), None)
        if view is None:
            return
        before, now = self._untouched[view], _standing(caller)
        if now == before:
            return
        resized, moved = now[0] != before[0], now[1] != before[1] or (now[0] == before[0] and now[2] != before[2])
        ct = slicer.mrmlScene.GetNodeByID(self._fitted.get(view, ""))
        if moved or ct is None:
            del self._untouched[view]
        elif resized:
            self._refit_later(view)

    def _refit_later(self, view: View) -> None:
        """Not within the node's own event: the slice logic does not listen to it again until that is over."""
        if not self._resized:
            qt.QTimer.singleShot(0, self._refit)
        self._resized.add(view)

    def _refit(self) -> None:
        resized, self._resized = self._resized, set()
        for view in resized & self._untouched.keys():
            ct = slicer.mrmlScene.GetNodeByID(self._fitted.get(view, ""))
            if ct is not None and views.slice_node(view):
                self._fit(view, ct)


def _bring_inside(crosshair, volume) -> None:
    if volume is None:
        return
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    ends = list(zip(bounds[::2], bounds[1::2], strict=True))
    if not all(low <= at <= high for at, (low, high) in zip(crosshair.GetCrosshairRAS(), ends, strict=True)):
        crosshair.SetCrosshairRAS([(low + high) / 2 for low, high in ends])


def _standing(node) -> tuple:
    """Size in pixels; plane and centre; field of view. Rounded, as the link between views copies with rounding."""
    matrix = node.GetSliceToRAS()
    plane = tuple(round(matrix.GetElement(row, column), 4) for row in range(3) for column in range(4))
    centre = tuple(round(value, 4) for value in node.GetXYZOrigin())
    return node.GetDimensions()[:2], plane + centre, tuple(round(value, 3) for value in node.GetFieldOfView()[:2])
