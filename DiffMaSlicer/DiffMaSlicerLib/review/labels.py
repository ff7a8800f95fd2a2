"""A line of text at the top of each slice view that says what is seen, and that a synthetic image is for research only.

Slicer writes its own annotations into the four corners (and overwrites them), so the line stands in the middle.
"""

from __future__ import annotations

import vtk

from . import views
from .layouts import View

_FONT_SIZE = 13


class Labels:
    """The lines of text of the review's views."""

    def __init__(self) -> None:
        self._actors: dict[View, tuple] = {}  # view: renderer, actor

    def set(self, view: View, text: str) -> None:
        """Write ``text`` into the view; an empty text takes the line away."""
        renderer = views.renderer(view)
        label = self._actors.get(view)
        if label and label[0] is not renderer:
            self._remove(view)
            label = None
        if not text or not renderer:
            self._remove(view)
            return
        if not label:
            label = (renderer, _actor(view))
            renderer.AddViewProp(label[1])
            self._actors[view] = label
        if label[1].GetInput() != text:
            label[1].SetInput(text)
            views.request_render(view)

    @property
    def texts(self) -> dict[View, str]:
        """What is written in the views now."""
        return {view: actor.GetInput() for view, (_, actor) in self._actors.items()}

    def clear(self) -> None:
        """Take every line away."""
        for view in list(self._actors):
            self._remove(view)

    def _remove(self, view: View) -> None:
        renderer, actor = self._actors.pop(view, (None, None))
        if renderer:
            renderer.RemoveViewProp(actor)
            views.request_render(view)


def _actor(view: View) -> vtk.vtkTextActor:
    actor = vtk.vtkTextActor()
    actor.SetTextScaleModeToNone()
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(0.5, 0.985)
    actor.SetLayerNumber(2)
    actor.PickableOff()
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(_FONT_SIZE)
    style.SetBold(True)
    style.SetJustificationToCentered()
    style.SetVerticalJustificationToTop()
    style.SetColor(1.0, 1.0, 1.0)
    style.SetBackgroundColor(*(int(view.color[i : i + 2], 16) / 255 * 0.55 for i in (1, 3, 5)))
    style.SetBackgroundOpacity(0.75)
    return actor
