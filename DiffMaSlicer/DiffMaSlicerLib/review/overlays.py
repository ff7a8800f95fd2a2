"""Uncertainty, soft mask and difference as colours over the images, with a colour scale of numbers and a title."""

from __future__ import annotations

from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from . import colours, display
from .layouts import CT, MR, View

_LEGEND = "DiffMa.legend"  # marks the colour scales that are ours to take away


@dataclass(frozen=True)
class Overlay:
    """One kind of colour overlay: over whose views it lies, and the title of its colour scale."""

    kind: str
    role: str
    title: str
    label_format: str  # printf; empty: by the range


def overlays() -> dict[str, Overlay]:
    """The kinds of overlay by name."""
    kinds = [
        Overlay("uncertainty", MR, _("SD\n(MRI units)"), ""),
        Overlay("softmask", CT, _("Soft mask\n(weight)"), "%.2f"),
        Overlay("difference", MR, _("Difference\n(part of range)"), "%+.2f"),
    ]
    return {kind.kind: kind for kind in kinds}


def prepare(kind: str, volume, body) -> None:
    """Give the volume its colours, and a range of values once (the user's later one is kept).

    Args:
        kind: one of :func:`overlays`.
        volume: its volume node.
        body: the CT's :func:`.display.body_mask`.
    """
    if not volume.GetDisplayNode():
        volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAndObserveColorNodeID(colours.table_node(kind).GetID())
    ends = _range(kind, volume, body)
    if ends:
        display.set_default_range(volume, *ends)


def show_legend(kind: str, volume, views: list[View]) -> None:
    """Show the colour scale of the volume in these views only; with no views it is taken away."""
    if not views:
        hide_legend(volume)
        return
    logic = slicer.vtkSlicerColorLogic
    legend = logic.GetColorLegendDisplayNode(volume)
    if legend and not legend.GetAttribute(_LEGEND):
        return  # the user's own
    overlay = overlays()[kind]
    legend = legend or logic.AddDefaultColorLegendDisplayNode(volume)
    was = legend.StartModify()
    legend.SetAttribute(_LEGEND, kind)
    legend.SetTitleText(overlay.title)
    legend.SetLabelFormat(overlay.label_format or _format(volume))
    legend.SetNumberOfLabels(5)
    legend.SetSize(0.12, 0.45)
    legend.SetPosition(0.97, 0.5)
    for style in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        style.SetBackgroundColor(0.0, 0.0, 0.0)
        style.SetBackgroundOpacity(0.6)  # white numbers stay legible over bone
    legend.SetVisibility(True)
    legend.SetViewNodeIDs([slicer.mrmlScene.GetSingletonNode(view.tag, "vtkMRMLSliceNode").GetID() for view in views])
    legend.EndModify(was)


def hide_legend(volume) -> None:
    """Take the colour scale of the volume away, if it is ours."""
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(volume)
    if legend and legend.GetAttribute(_LEGEND):
        slicer.mrmlScene.RemoveNode(legend)


def hide_orphans() -> None:
    """Take away our colour scales whose volume was deleted: Slicer leaves them in the scene."""
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        if legend.GetAttribute(_LEGEND) and not legend.GetDisplayableNode():
            slicer.mrmlScene.RemoveNode(legend)


def _format(volume) -> str:
    return "%.0f" if volume.GetDisplayNode().GetWindowLevelMax() >= 10 else "%.3f"


def _range(kind: str, volume, body) -> tuple[float, float] | None:
    if kind == "softmask":
        return 0.0, 1.0
    ends = display.range_in_body(volume, body)
    if ends is None:
        return None
    if kind == "difference":
        reach = max(abs(ends[0]), abs(ends[1]))
        return -reach, reach
    return 0.0, ends[1]
