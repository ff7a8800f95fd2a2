"""Memory of a conversion's parts, as a picture; the figures are ``benchmark_memory``'s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from Training.reproduce.style import COLOURS, INK, new_figure, quiet, save

_HUES = dict(zip(("conditions", "denoising", "decoding", "whole"), COLOURS.values(), strict=False))


def plot_memory(figures: dict[str, Any], path: Path) -> Path:
    """A panel an image size: the parts' bars at every size and batch, and what is reckoned as a line above them."""
    points = figures["points"]
    sides = list(dict.fromkeys(point["image_size"] for point in points))
    figure = new_figure(6.2 * len(sides), 4.2)
    for axes, side in zip(figure.subplots(1, len(sides), squeeze=False)[0], sides, strict=True):
        here = [point for point in points if point["image_size"] == side]
        quiet(axes, f"{side} px, {here[0]['tokens']} tokens", "", "MiB beyond program and weights")
        width = 0.8 / len(_HUES)
        for k, (part, hue) in enumerate(_HUES.items()):
            bars = [(x, point["parts"][part]) for x, point in enumerate(here) if point["parts"][part] is not None]
            places = [x - 0.4 + (k + 0.5) * width for x, _ in bars]
            axes.bar(places, [count / 2**20 for _, count in bars], width, color=hue, label=part)
        reckoned = [point["reckoned"] / 2**20 for point in here]
        axes.hlines(reckoned, [x - 0.45 for x in range(len(here))], [x + 0.45 for x in range(len(here))], color=INK)
        axes.plot([], [], color=INK, label="reckoned")
        axes.set_xticks(range(len(here)), [f"{point['size']}\nbatch {point['batch']}" for point in here])
        axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="upper left")
    return save(figure, path)
