"""The layouts of the review: which slice views stand where, what each shows, and how Slicer gets them.

The views are ours (own singleton tags and an own view group), so the user's Red, Green and Yellow views, what they show
and where they stand, are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

VIEW_GROUP = 873
"""Slicer links scrolling, zoom and crosshair within a view group; its own views are in groups 0 and 1."""

CT, MR, UNCERTAINTY = "ct", "mr", "uncertainty"
PLANES = ("Axial", "Coronal", "Sagittal")

_TAG = {CT: "DiffMaCT", MR: "DiffMaMR", UNCERTAINTY: "DiffMaSD"}
_LABEL = {CT: "CT", MR: "MR", UNCERTAINTY: "SD"}
_COLOR = {
    CT: {"Axial": "#4F9BD9", "Coronal": "#3D7DB3", "Sagittal": "#2F6390"},
    MR: {"Axial": "#E08A3C", "Coronal": "#BD7230", "Sagittal": "#995B25"},
    UNCERTAINTY: {"Axial": "#A874C8", "Coronal": "#8A5DA6", "Sagittal": "#6D4985"},
}


@dataclass(frozen=True)
class View:
    """One slice view of ours: what it shows (``role``) and in which plane."""

    role: str
    plane: str = "Axial"

    @property
    def tag(self) -> str:
        """The view node's singleton tag, which is also the name of its widget: ``DiffMaCTAxial``."""
        return _TAG[self.role] + self.plane

    @property
    def label(self) -> str:
        """What stands in the bar above the view."""
        return _LABEL[self.role] if self.plane == "Axial" else f"{_LABEL[self.role]} {self.plane[0]}"

    @property
    def color(self) -> str:
        """Colour of that bar: one hue for each role, one shade for each plane."""
        return _COLOR[self.role][self.plane]

    @property
    def xml(self) -> str:
        """The view in the words of Slicer's layout description."""
        properties = (
            ("orientation", self.plane),
            ("viewlabel", self.label),
            ("viewcolor", self.color),
            ("viewgroup", VIEW_GROUP),
        )
        inner = "".join(f'<property name="{name}" action="default">{value}</property>' for name, value in properties)
        return f'<view class="vtkMRMLSliceNode" singletontag="{self.tag}">{inner}</view>'


@dataclass(frozen=True)
class Choice:
    """Something the user can choose: its name, and what a button of it needs."""

    name: str
    title: str
    tooltip: str
    shortcut: str


@dataclass(frozen=True)
class Layout(Choice):
    """A layout: rows of views, and the number under which the layout node knows it."""

    identifier: int
    rows: tuple[tuple[View, ...], ...]

    @property
    def views(self) -> tuple[View, ...]:
        """All views, row after row."""
        return tuple(view for row in self.rows for view in row)

    @property
    def xml(self) -> str:
        """Slicer's layout description: rows one above the other, views side by side."""
        rows = ["".join(f"<item>{view.xml}</item>" for view in row) for row in self.rows]
        items = "".join(f'<item><layout type="horizontal">{row}</layout></item>' for row in rows)
        return f'<layout type="vertical">{items}</layout>'


def layouts() -> dict[str, Layout]:
    """The layouts by name. A function, so that the texts are those of the language of the moment."""
    choices = [
        Layout(
            "side-by-side",
            _("Side by side"),
            _("CT and synthetic MRI beside each other, axial"),
            "Alt+1",
            87301,
            ((View(CT), View(MR)),),
        ),
        Layout(
            "three-planes",
            _("Three planes"),
            _("CT above, synthetic MRI below: axial, coronal and sagittal"),
            "Alt+2",
            87302,
            tuple(tuple(View(role, plane) for plane in PLANES) for role in (CT, MR)),
        ),
        Layout(
            "with-uncertainty",
            _("With uncertainty"),
            _("CT, synthetic MRI and the standard deviation of its samples, axial (needs more than one sample)"),
            "Alt+3",
            87303,
            ((View(CT), View(MR), View(UNCERTAINTY)),),
        ),
    ]
    return {choice.name: choice for choice in choices}


def all_views() -> tuple[View, ...]:
    """Every view that some layout holds, each once."""
    return tuple(dict.fromkeys(view for layout in layouts().values() for view in layout.views))


def register(layoutNode) -> None:
    """Tell the layout node of our layouts; again is harmless."""
    for layout in layouts().values():
        if layoutNode.IsLayoutDescription(layout.identifier):
            layoutNode.SetLayoutDescription(layout.identifier, layout.xml)
        else:
            layoutNode.AddLayoutDescription(layout.identifier, layout.xml)


def layout_of(identifier: int) -> Layout | None:
    """Our layout of that number, or None when the number is another's."""
    return next((layout for layout in layouts().values() if layout.identifier == identifier), None)
