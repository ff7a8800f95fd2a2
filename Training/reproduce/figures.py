"""Arrays in, the report's pictures out: slices side by side, slices over training, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.style import COLOURS, INK, OTHER, QUIET, new_figure, quiet, save

_SMALL: dict[str, Any] = {"fontsize": 7.5, "color": INK}

Tile = NDArray[np.uint8] | None
Curve = tuple[Sequence[float], Sequence[float]]

SMOOTH = 25
"""Rows of a loss curve that are averaged, at most."""


def picture_grid(
    tiles: Sequence[Sequence[Tile]],
    columns: Sequence[str],
    rows: Sequence[str],
    path: Path,
    gaps: Sequence[int] = (),
    side: float = 1.25,
) -> Path:
    """Grey slices in rows and columns, each under its column's title and beside its row's.

    Args:
        tiles: (S, S) uint8 each; None leaves a place empty.
        columns: titles, "" for none.
        rows: titles, "" for none; lines are broken by newlines.
        path: the PNG.
        gaps: columns with a gap before them.
        side: of a slice in inches.
    """
    longest = max((len(line) for title in rows for line in title.split("\n")), default=0)
    margin = 0.16 + 0.075 * longest if longest else 0.05
    top = 0.34 if any(columns) else 0.05
    space, gap = 0.04, 0.22
    starts = [margin + c * (side + space) + gap * sum(g <= c for g in gaps) for c in range(len(columns))]
    width, height = starts[-1] + side + 0.05, top + len(tiles) * (side + space) + 0.02
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    for r, row in enumerate(tiles):
        bottom = height - top - (r + 1) * side - r * space
        if rows[r]:
            figure.text(
                (margin - 0.08) / width, (bottom + side / 2) / height, rows[r], ha="right", va="center", **_SMALL
            )
        for c, tile in enumerate(row):
            axes = figure.add_axes((starts[c] / width, bottom / height, side / width, side / height))
            axes.set_axis_off()
            if tile is not None:
                axes.imshow(tile, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
            else:
                axes.text(0.5, 0.5, "none", ha="center", va="center", color=QUIET, fontsize=8)
    for c, title in enumerate(columns):
        figure.text(
            (starts[c] + side / 2) / width, 1 - (top - 0.08) / height, title, ha="center", va="bottom", **_SMALL
        )
    return save(figure, path)


def plot_curves(
    panels: Mapping[str, tuple[str, Mapping[str, Curve]]], titles: Mapping[str, str], path: Path, marked: str = "diffma"
) -> Path:
    """Panels of curves over training steps, one line a model, in the model's colour.

    Args:
        panels: by title: what the axis shows, and steps and values by model; a panel without curves is left out.
        titles: of the models.
        path: the PNG.
        marked: the model drawn on top and heavier.
    """
    shown = {name: panel for name, panel in panels.items() if panel[1]}
    figure = new_figure(4.6 * len(shown), 4.0)
    models: list[str] = []
    for axes, (name, (what, curves)) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True
    ):
        quiet(axes, name, "training step", what)
        for model, (steps, values) in sorted(curves.items(), key=lambda item: item[0] == marked):
            heavy = model == marked
            few = {"marker": "o", "markersize": 3.5} if len(steps) <= 12 else {}
            colour = COLOURS.get(model, OTHER)
            axes.plot(steps, values, color=colour, linewidth=2.4 if heavy else 1.3, alpha=1 if heavy else 0.85, **few)
            models.append(model)
        if what == "loss":
            axes.set_yscale("log")
    from matplotlib.lines import Line2D

    ordered = [model for model in titles if model in models]
    lines = [Line2D([], [], color=COLOURS.get(s, OTHER), linewidth=2.4 if s == marked else 1.3) for s in ordered]
    figure.legend(
        lines, [titles[s] for s in ordered], loc="outside lower center", ncols=len(ordered), fontsize=8, frameon=False
    )
    return save(figure, path)


def plot_calibration(
    curves: Mapping[str, Curve], titles: Mapping[str, str], path: Path, marked: str = "diffma"
) -> Path:
    """Promised against made error of tenths of the voxels, a line a model; the diagonal is perfect."""
    figure = new_figure(7.4, 4.6)
    axes = quiet(
        figure.subplots(), "", "promised error, from the deviation of the samples", "error made (root mean square)"
    )
    most = 1.05 * max(max(*x, *y) for x, y in curves.values())
    axes.plot([0, most], [0, most], "--", color=QUIET, linewidth=1, label="perfect")
    for model, (promised, made) in sorted(curves.items(), key=lambda item: item[0] == marked):
        width = 2.4 if model == marked else 1.3
        colour = COLOURS.get(model, OTHER)
        axes.plot(promised, made, color=colour, linewidth=width, marker="o", markersize=3.5, label=titles[model])
    axes.set(xlim=(0, most), ylim=(0, most))
    axes.text(0.93 * most, 0.97 * most, "too confident", fontsize=8, color=QUIET, ha="right", va="top")
    axes.text(0.98 * most, 0.80 * most, "too cautious", fontsize=8, color=QUIET, ha="right", va="top")
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    return save(figure, path)


def smooth(steps: Sequence[float], values: Sequence[float]) -> Curve:
    """A curve's running mean, over a tenth of it and at most ``SMOOTH`` rows, where it is whole."""
    window = max(1, min(SMOOTH, len(values) // 10))
    kernel = np.ones(window) / window
    mean = np.convolve(np.asarray(values, float), kernel, mode="valid")
    middle = np.convolve(np.asarray(steps, float), kernel, mode="valid")
    return middle.tolist(), mean.tolist()
