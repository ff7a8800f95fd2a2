"""The slice views of the review: found, filled with volumes, laid along the CT's slices, fitted and linked.

Works on MRML nodes and slice logics. The widgets are asked only for their renderer; where there are none
(no main window, a scene just closed) everything answers None or does nothing.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from DiffMaSlicerLib.mrml.geometry import ijk_to_ras, slice_axis, slice_count, to_world

from .layouts import View, all_views

_MARGIN = 1.08
"""Height and width of a fitted view beside those of the volume: room for the line of text at the top."""

_BROADCAST_NO_VOLUMES = ~(
    slicer.vtkMRMLSliceCompositeNode.BackgroundVolumeFlag
    | slicer.vtkMRMLSliceCompositeNode.ForegroundVolumeFlag
    | slicer.vtkMRMLSliceCompositeNode.ForegroundOpacityFlag
) & (2**32 - 1)


def layout_node():
    """Slicer's layout node, or None."""
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def crosshair_node():
    """Slicer's crosshair node, or None."""
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def slice_node(view: View):
    """The view's slice node, or None while no layout has asked for it."""
    return slicer.mrmlScene.GetSingletonNode(view.tag, "vtkMRMLSliceNode")


def composite_node(view: View):
    """The node that says which volumes the view shows, or None."""
    node = slice_node(view)
    return slicer.vtkMRMLSliceLogic.GetSliceCompositeNode(node) if node else None


def slice_logic(view: View):
    """The view's slice logic, or None."""
    node = slice_node(view)
    logic = slicer.app.applicationLogic() if node else None
    return logic.GetSliceLogic(node) if logic else None


def slice_view(view: View):
    """The view's widget (qMRMLSliceView), or None."""
    manager = slicer.app.layoutManager()
    widget = manager.sliceWidget(view.tag) if manager and slice_node(view) else None
    return widget.sliceView() if widget else None


def renderer(view: View):
    """The renderer that holds the slice image, or None."""
    widget = slice_view(view)
    window = widget.renderWindow() if widget else None
    return window.GetRenderers().GetFirstRenderer() if window else None


def request_render(view: View) -> None:
    """Have the view drawn again when Qt is back in its event loop."""
    widget = slice_view(view)
    if widget:
        widget.scheduleRender()


def fill(view: View, background, foreground=None, opacity: float = 0.0) -> None:
    """Show ``background`` in the view with ``foreground`` over it; None empties a layer."""
    node = composite_node(view)
    if not node:
        return
    was = node.StartModify()
    node.SetBackgroundVolumeID(background.GetID() if background else None)
    node.SetForegroundVolumeID(foreground.GetID() if foreground else None)
    node.SetForegroundOpacity(opacity if foreground else 0.0)
    node.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
    node.EndModify(was)


def link(view: View, linked: bool) -> None:
    """Link the view with those of its group: scrolling, zoom and panning follow while the mouse is still moving.

    What a view shows is not shared, or choosing a volume in one would put it into all of them.
    """
    node = composite_node(view)
    if not node:
        return
    was = node.StartModify()
    node.SetLinkedControl(linked)
    node.SetHotLinkedControl(linked)
    node.SetInteractionFlagsModifier(_BROADCAST_NO_VOLUMES)
    node.EndModify(was)


def align(view: View, volume) -> None:
    """Lay the view along the volume's own slices, in the plane nearest to the view's, and show all of it."""
    node, logic = slice_node(view), slice_logic(view)
    if not node or not logic or not volume or not volume.GetImageData():
        return
    was = node.StartModify()
    node.SetOrientation(view.plane)
    node.RotateToVolumePlane(volume)
    width, height = node.GetDimensions()[:2]
    if width > 0 and height > 0:
        logic.FitSliceToVolume(volume, width, height)
        wide, tall, deep = node.GetFieldOfView()
        node.SetFieldOfView(_MARGIN * wide, _MARGIN * tall, deep)
    node.EndModify(was)


def follow(view: View, leader: View) -> None:
    """Put the view where ``leader`` stands: same slice, same centre, same zoom (height in mm)."""
    node, other = slice_node(view), slice_node(leader)
    if not node or not other or node is other:
        return
    was = node.StartModify()
    if view.plane == leader.plane:
        node.GetSliceToRAS().DeepCopy(other.GetSliceToRAS())
        node.SetXYZOrigin(other.GetXYZOrigin())
    width, height = node.GetDimensions()[:2]
    tall = other.GetFieldOfView()[1]
    if width > 0 and height > 0:
        node.SetFieldOfView(tall * width / height, tall, node.GetFieldOfView()[2])
    node.UpdateMatrices()
    node.EndModify(was)


def place_of(view: View):
    """The plane in which the view stands, for :func:`put_to`; None without a view."""
    node = slice_node(view)
    if not node:
        return None
    place = vtk.vtkMatrix4x4()
    place.DeepCopy(node.GetSliceToRAS())
    return place


def put_to(view: View, place) -> None:
    """Put the view back to where :func:`place_of` found it."""
    node = slice_node(view)
    if node and place:
        node.GetSliceToRAS().DeepCopy(place)
        node.UpdateMatrices()


def slice_index(view: View, volume) -> int | None:
    """Which of the volume's slices along its superior-inferior axis the view stands on; None outside of them."""
    node = slice_node(view)
    if not node:
        return None
    axis, matrix = slice_axis(volume), node.GetSliceToRAS()
    centre = [*(matrix.GetElement(row, 3) for row in range(3)), 1.0]
    index = round(float((np.linalg.inv(to_world(volume) @ ijk_to_ras(volume)) @ centre)[axis]))
    return index if 0 <= index < slice_count(volume) else None


def jump(view: View, volume, index: int) -> None:
    """Put the view on that slice of the volume, at the same place within it."""
    node = slice_node(view)
    if not node:
        return
    place = np.append((np.array(volume.GetImageData().GetDimensions()) - 1) / 2.0, 1.0)
    place[slice_axis(volume)] = index
    node.JumpSliceByOffsetting(*(to_world(volume) @ ijk_to_ras(volume) @ place)[:3])


def views_showing(volume) -> list[View]:
    """Those of our views in which the volume is a layer."""
    shown = []
    for view in all_views():
        node = composite_node(view)
        if node and volume.GetID() in (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID()):
            shown.append(view)
    return shown
