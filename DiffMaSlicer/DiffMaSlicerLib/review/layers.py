"""What can be laid over a layout, which image goes into which view for it, and what the view then says it shows."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from .layouts import CT, MR, UNCERTAINTY, Choice, View

NONE, OVERLAY, CHECKERBOARD, REVEAL = "none", "overlay", "checkerboard", "reveal"
SOFTMASK, DIFFERENCE = "softmask", "difference"
BLENDED = (OVERLAY, CHECKERBOARD, REVEAL)
COLOURED = {UNCERTAINTY: MR, SOFTMASK: CT, DIFFERENCE: MR}
"""Kind of colour overlay, which is also the role of its volume: over whose views it lies."""


@dataclass(frozen=True)
class Content:
    """What one view shows: roles of the volumes, opacity of the foreground, and the words for it."""

    background: str
    foreground: str | None
    opacity: float
    text: str


def layers() -> dict[str, Choice]:
    """The layers by name."""
    choices = [
        Choice(NONE, _("None"), _("Each view shows its own image"), "Alt+0"),
        Choice(OVERLAY, _("Overlay"), _("Synthetic MRI over the CT; the slider fades between them"), "Alt+4"),
        Choice(CHECKERBOARD, _("Checkerboard"), _("CT and synthetic MRI in turns, to follow edges across"), "Alt+5"),
        Choice(REVEAL, _("Reveal"), _("Synthetic MRI in a disc round the mouse cursor, CT around it"), "Alt+6"),
        Choice(
            UNCERTAINTY,
            _("Uncertainty"),
            _("Standard deviation of the samples in colours over the synthetic MRI (needs more than one sample)"),
            "Alt+7",
        ),
        Choice(
            SOFTMASK,
            _("Soft mask"),
            _("Where the Vision Embedder looked, in colours over the CT"),
            "Alt+8",
        ),
        Choice(
            DIFFERENCE,
            _("Difference"),
            _("Synthetic minus true MRI in colours over the synthetic MRI (needs a true MRI and Compare)"),
            "Alt+9",
        ),
    ]
    return {choice.name: choice for choice in choices}


def content(view: View, kind: str, opacity: float, available: set[str], demo: bool) -> Content:
    """What the view shows with these layers; a layer whose volume is not ``available`` is left out."""
    base = Content(view.role, None, 0.0, _base_text(view.role, view.role in available, demo))
    if kind in BLENDED and view.role == CT and {CT, MR} <= available:
        percent = round(100 * opacity)
        words = {
            OVERLAY: _("CT with {percent} % synthetic MRI").format(percent=percent),
            CHECKERBOARD: _("CT and synthetic MRI in turns"),
            REVEAL: _("CT, synthetic MRI under the cursor"),
        }[kind]
        return Content(CT, MR, opacity if kind == OVERLAY else 1.0, f"{words}\n{_research(demo)}")
    if kind in COLOURED and view.role == COLOURED[kind] and {view.role, kind} <= available:
        return Content(view.role, kind, opacity, f"{base.text.splitlines()[0]} {_with(kind)}\n{_research(demo)}")
    return base


def _base_text(role: str, available: bool, demo: bool) -> str:
    if role == CT:
        return _("CT")
    if role == MR:
        return _("Synthetic MRI") + "\n" + _research(demo)
    if available:
        return _("Uncertainty of the synthetic MRI") + "\n" + _research(demo)
    return _("No uncertainty map:\nit needs more than one sample")


def _with(kind: str) -> str:
    return {UNCERTAINTY: _("+ uncertainty"), SOFTMASK: _("+ soft mask"), DIFFERENCE: _("+ difference")}[kind]


def _research(demo: bool) -> str:
    return _("DEMO model, research only") if demo else _("research only")
