"""Reports of ``benchmark_tokens`` and ``benchmark_memory`` in, their pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.style import COLOURS, INK, QUIET, new_figure, quiet, save

NAMES = {"diffma": "DiffMa", "dit": "DiT"}
_HUES = dict(zip(("conditions", "denoising", "decoding", "whole"), COLOURS.values(), strict=False))


def plot_memory(report: dict[str, Any], path: Path) -> Path:
    """A panel an image size: the parts' bars at every size and batch, and what is reckoned as a line above them."""
    points = report["points"]
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


def plot_tokens(report: dict[str, Any], path: Path) -> Path:
    """Two panels over tokens, axes logarithmic: seconds per slice, and megabytes that a step of one slice takes."""
    figure = new_figure(10, 4.2)
    time, memory = figure.subplots(1, 2)
    quiet(time, "Time of one denoising step", "tokens", "seconds per slice")
    quiet(memory, "Memory of one denoising step, one slice", "tokens", "MB beyond program and weights")
    points = report["points"]
    counts = [point["tokens"] for point in points]
    for backbone, name in NAMES.items():
        colour = COLOURS[backbone]
        fits = report["exponents"][backbone]
        growth = f", growth exponent {fits[-1]['median']:.2f}" if fits else ""
        middle = [point[backbone]["median"] for point in points]
        spread = [[abs(point[backbone][end] - point[backbone]["median"]) for point in points] for end in ("min", "max")]
        line = {"color": colour, "marker": "o", "markersize": 5, "linewidth": 1.8}
        time.errorbar(counts, middle, yerr=spread, capsize=3, label=name + growth, **line)
        taken = [(point["tokens"], point[backbone]["step_bytes"]) for point in points if point[backbone]["step_bytes"]]
        if taken:
            memory.plot([x for x, _ in taken], [y / 1e6 for _, y in taken], label=name, **line)
    first = points[0]["diffma"]["median"]
    time.plot(counts, [first * c / counts[0] for c in counts], "--", color=QUIET, linewidth=1, label="proportional")
    crossing = report["crossover"]["tokens"]
    if crossing is not None:
        time.axvline(crossing, color=QUIET, linewidth=1, linestyle=":")
        place = time.get_xaxis_transform()  # x in tokens, y in shares of the panel
        time.text(crossing, 0.03, f" crossover\n at about {crossing} tokens", fontsize=8, color=INK, transform=place)
    for axes in (time, memory):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(counts, [f"{count}" for count in counts])
        axes.minorticks_off()
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    return save(figure, path)
