"""One look for all pictures of the report: colours by backbone, quiet axes. Importing it loads matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "diffma": "#c2410c",
    "dit": "#1d4ed8",
    "unet": "#0f766e",
    "vim": "#7c3aed",
    "vmamba": "#be185d",
    "efficient_vmamba": "#a16207",
    "zigma": "#0891b2",
    "regression": "#334155",
}
OTHER = "#64748b"
INK, QUIET = "#1e293b", "#94a3b8"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quiet(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Axes with a faint grid and two spines."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(labelsize=8, colors=INK, which="both", color=QUIET)
    axes.grid(True, which="major", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")
    return path
