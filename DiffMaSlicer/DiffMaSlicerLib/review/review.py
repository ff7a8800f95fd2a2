"""The review: CT and synthetic MRI beside each other in linked views, and what can be laid over them."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from DiffMaSlicerLib.mrml.provenance import is_demo

from . import colours, display, layers, layouts, overlays, views
from .blending import Blending
from .labels import Labels
from .layouts import CT, MR, UNCERTAINTY, Choice, View
from .placement import Placement


def prepare() -> None:
    """At Slicer's start: have our layouts and colours known, so that a scene saved with them opens as it was.

    Slicer may start in the layout that it was left in; without a scene ours would be empty views, so it is not kept.
    """
    for kind in layers.COLOURED:
        colours.table_node(kind)
    node = views.layout_node()
    if node:
        layouts.register(node)
        if layouts.layout_of(node.GetViewArrangement()):
            node.SetViewArrangement(node.SlicerLayoutInitialView)


class Review(VTKObservationMixin):
    """Shows one CT with its synthetic MRI, and whatever else there is of them, until :meth:`close`.

    Holds no node, only IDs, so a node that is deleted, a scene that is closed and a view that vanishes are all right.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ids: dict[str, str] = {}  # role: node ID
        self._layout = "side-by-side"
        self._kind, self._opacity, self._tiles = layers.NONE, 0.5, 8
        self._linked = True
        self._before: int | None = None  # the user's layout
        self._busy = False
        self._contents: dict[View, tuple] = {}  # view: IDs of background and foreground, and the label for them
        self._blending, self._labels, self._placement = Blending(), Labels(), Placement()

    @property
    def active(self) -> bool:
        """True between :meth:`show` and :meth:`close`."""
        return bool(self._ids)

    @property
    def onScreen(self) -> bool:
        """False while nothing is shown, or the user has another layout on the screen."""
        return self.active and bool(self._shown())

    @property
    def layout(self) -> str:
        """Name of the layout that was asked for last."""
        return self._layout

    @property
    def layers(self) -> str:
        """Name of the layers that were asked for last."""
        return self._kind

    @property
    def labels(self) -> dict[View, str]:
        """What stands at the top of each view."""
        return self._labels.texts

    def layoutNames(self) -> list[Choice]:
        """The layouts in order, each with ``name``, ``title``, ``tooltip`` and ``shortcut``."""
        return [Choice(c.name, c.title, c.tooltip, c.shortcut) for c in layouts.layouts().values()]

    def layerNames(self) -> list[Choice]:
        """The layers in order, each with ``name``, ``title``, ``tooltip`` and ``shortcut``."""
        return list(layers.layers().values())

    def availableLayers(self) -> list[str]:
        """Names of the layers for which the volumes are there."""
        have = set(self._nodes())
        both = {CT, MR} <= have
        return [
            name
            for name in layers.layers()
            if name == layers.NONE or (name in layers.BLENDED and both) or (name in layers.COLOURED and name in have)
        ]

    def show(
        self, ctNode, mrNode, *, uncertaintyNode=None, softMaskNode=None, differenceNode=None, layout="side-by-side"
    ) -> None:
        """Show these volumes in a layout. Called again with more of them, it keeps place, zoom, layers and windows.

        Raises:
            ValueError: there is no CT, or no layout of that name.
        """
        if ctNode is None:
            raise ValueError(_("The review needs a CT volume: choose one."))
        given = {
            CT: ctNode,
            MR: mrNode,
            UNCERTAINTY: uncertaintyNode,
            layers.SOFTMASK: softMaskNode,
            layers.DIFFERENCE: differenceNode,
        }
        self._hide_legends()
        self._ids = {role: node.GetID() for role, node in given.items() if node is not None}
        self._set_windows()
        self._observe()
        self.setLayout(layout)

    def setLayout(self, name: str) -> None:
        """Switch to "side-by-side", "three-planes" or "with-uncertainty".

        Raises:
            ValueError: there is no layout of that name.
        """
        layout = layouts.layouts().get(name)
        if layout is None:
            problem = _("There is no layout {name}: choose one of {names}.")
            raise ValueError(problem.format(name=repr(name), names=", ".join(layouts.layouts())))
        self._layout = name
        node = views.layout_node()
        if not self.active or not node:
            return
        layouts.register(node)
        self._remember(node)
        self._busy = True
        try:
            node.SetViewArrangement(layout.identifier)
        finally:
            self._busy = False
        self._apply()

    def setLayers(self, kind: str, opacity: float = 0.5, tiles: int = 8) -> None:
        """Lay something over the layout: one of :meth:`layerNames`.

        Args:
            kind: the layer; one whose volume is not there (see :meth:`availableLayers`) shows nothing.
            opacity: of the MRI in "overlay", of the colours in "uncertainty", "softmask" and "difference", 0 to 1.
            tiles: squares of the checkerboard along a view's longer side.

        Raises:
            ValueError: there is no layer of that name.
        """
        if kind not in layers.layers():
            problem = _("There is no layer {name}: choose one of {names}.")
            raise ValueError(problem.format(name=repr(kind), names=", ".join(layers.layers())))
        wanted = kind, min(max(float(opacity), 0.0), 1.0), int(tiles)
        if wanted != (self._kind, self._opacity, self._tiles):
            self._kind, self._opacity, self._tiles = wanted
            self._apply()

    def setLinked(self, linked: bool) -> None:
        """Have the views scroll, zoom and pan together, with a crosshair in all, or each alone."""
        if bool(linked) != self._linked:
            self._linked = bool(linked)
            self._apply()

    def currentSlice(self) -> int | None:
        """Index of the CT's slice that the axial views stand on, along its superior-inferior axis; None without one."""
        ct = self._nodes().get(CT)
        axial = [view for view in self._shown() if view.plane == "Axial"]
        return views.slice_index(axial[0], ct) if ct is not None and axial else None

    def jumpToSlice(self, index: int) -> None:
        """Put the axial views on a slice of the CT."""
        ct = self._nodes().get(CT)
        for view in self._shown():
            if ct is not None and view.plane == "Axial":
                views.jump(view, ct, index)

    def fit(self) -> None:
        """Lay all views along the CT's slices again, and show the whole of it."""
        self._placement.forget()
        self._apply()

    def close(self, restoreLayout: bool = True) -> None:
        """Take away all that the review put up; the volumes stay, and the user's own layout returns if wanted."""
        self.removeObservers()
        self._blending.clear()
        self._labels.clear()
        self._placement.clear()
        self._hide_legends()
        self._ids.clear()
        self._contents.clear()
        self._kind = layers.NONE
        node = views.layout_node()
        if restoreLayout and node and self._before is not None and layouts.layout_of(node.GetViewArrangement()):
            node.SetViewArrangement(self._before)
        self._before = None

    def _remember(self, node) -> None:
        """Note the user's layout; one that belongs to a module (DICOM's browser) is none to return to."""
        now = node.GetViewArrangement()
        if layouts.layout_of(now) is None:
            self._before = now
        if self._before in (None, node.SlicerLayoutDicomBrowserView):
            self._before = node.SlicerLayoutInitialView

    def _nodes(self) -> dict:
        found = {role: slicer.mrmlScene.GetNodeByID(identifier) for role, identifier in self._ids.items()}
        return {role: node for role, node in found.items() if node is not None}

    def _shown(self) -> tuple[View, ...]:
        """The views on the screen; none while the user has a layout of their own."""
        node = views.layout_node()
        layout = layouts.layout_of(node.GetViewArrangement()) if node else None
        return layout.views if layout else ()

    def _set_windows(self) -> None:
        nodes = self._nodes()
        ct, body = nodes[CT], display.body_mask(nodes[CT])
        display.set_default_window(ct, *display.ct_window(ct, body))
        if MR in nodes:
            ends = display.range_in_body(nodes[MR], body)
            if ends:
                display.set_default_range(nodes[MR], *ends)
        for kind in layers.COLOURED:
            if kind in nodes:
                overlays.prepare(kind, nodes[kind], body)

    def _apply(self) -> None:
        """Bring views, layers, links, labels and colour scales to what is wanted."""
        if self._busy or not self.active:
            return
        self._busy = True
        try:
            nodes, shown = self._nodes(), self._shown()
            mr = nodes.get(MR)
            demo = mr is not None and is_demo(mr)
            for view in layouts.all_views():
                if view in shown:
                    wanted = layers.content(view, self._kind, self._opacity, set(nodes), demo)
                    foreground = nodes.get(wanted.foreground)
                    views.fill(view, nodes.get(wanted.background), foreground, wanted.opacity)
                    views.link(view, self._linked)
                    self._label(view, nodes.get(wanted.background), foreground, wanted.text)
                    self._blend(view, wanted.foreground == MR)
                else:
                    self._blending.off(view)
            self._show_legends(nodes, shown)
            self._placement.place(nodes.get(CT), shown)
            self._placement.show_crosshair(bool(shown) and self._linked, nodes.get(CT))
        finally:
            self._busy = False

    def _label(self, view: View, background, foreground, text: str) -> None:
        """Say what the view shows, for as long as it shows that."""
        self._contents[view] = *(node.GetID() if node else None for node in (background, foreground)), text
        self._labels.set(view, text)
        node = views.composite_node(view)
        if node and not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_content):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_content)

    def _on_content(self, caller, event) -> None:
        """Someone put another volume into a view of ours: a label that speaks of the former one would be wrong."""
        if self._busy or not self.active:
            return
        for view in self._shown():
            if views.composite_node(view) is caller and view in self._contents:
                background, foreground, text = self._contents[view]
                now = caller.GetBackgroundVolumeID(), caller.GetForegroundVolumeID()
                self._labels.set(view, text if now == (background, foreground) else _name(now[0]))

    def _blend(self, view: View, blended: bool) -> None:
        if blended and self._kind == layers.CHECKERBOARD:
            self._blending.checkerboard(view, self._tiles)
        elif blended and self._kind == layers.REVEAL:
            self._blending.reveal(view)
        else:
            self._blending.off(view)

    def _show_legends(self, nodes: dict, shown: tuple[View, ...]) -> None:
        for kind in layers.COLOURED:
            if kind in nodes:
                overlays.show_legend(kind, nodes[kind], [v for v in views.views_showing(nodes[kind]) if v in shown])

    def _hide_legends(self) -> None:
        for role, node in self._nodes().items():
            if role in layers.COLOURED:
                overlays.hide_legend(node)

    def _observe(self) -> None:
        scene, node = slicer.mrmlScene, views.layout_node()
        self.removeObservers()
        self.addObserver(scene, scene.NodeRemovedEvent, self._on_node_removed)
        self.addObserver(scene, scene.StartCloseEvent, self._on_scene_closing)
        if node:
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_layout)

    def _on_layout(self, caller, event) -> None:
        """The user chose another layout, in ours or out of ours: what we put up follows."""
        if self._busy:
            return
        layout = layouts.layout_of(caller.GetViewArrangement())
        if layout:
            self._layout = layout.name
        self._apply()

    def _on_node_removed(self, caller, event) -> None:
        """One of our volumes was deleted: show what is left, and nothing of it when CT and MRI are both gone."""
        if caller.IsClosing() or set(self._nodes()) == set(self._ids):
            return
        self._ids = {role: node.GetID() for role, node in self._nodes().items()}
        overlays.hide_orphans()
        if self._ids.keys() & {CT, MR}:
            self._apply()
        else:
            self.close()

    def _on_scene_closing(self, caller, event) -> None:
        """At the start: Slicer keeps the layout that it finds then."""
        self.close()


def _name(identifier: str | None) -> str:
    """What a view with a volume of the user's choice is called."""
    volume = slicer.mrmlScene.GetNodeByID(identifier) if identifier else None
    if volume is None:
        return ""
    if volume.GetAttribute("DiffMa.synthetic") == "1":
        return f"{volume.GetName()}\n" + _("Synthetic, research only")
    return volume.GetName()
