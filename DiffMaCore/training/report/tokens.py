"""Time and memory against the number of tokens, as a picture (the figures are ``benchmark_tokens``')."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from DiffMaCore.training.report.style import COLOURS, INK, QUIET, new_figure, quiet, save

NAMES = {"diffma": "DiffMa", "dit": "DiT"}


def plot_tokens(figures: dict[str, Any], path: Path) -> Path:
    """Two panels over tokens, axes logarithmic: seconds per slice, and megabytes that a step of one slice takes."""
    figure = new_figure(10, 4.2)
    time, memory = figure.subplots(1, 2)
    quiet(time, "Time of one denoising step", "tokens", "seconds per slice")
    quiet(memory, "Memory of one denoising step, one slice", "tokens", "MB beyond program and weights")
    points = figures["points"]
    counts = [point["tokens"] for point in points]
    for system, name in NAMES.items():
        colour = COLOURS[system]
        fits = figures["exponents"][system]
        growth = f", growth exponent {fits[-1]['median']:.2f}" if fits else ""
        middle = [point[system]["median"] for point in points]
        spread = [[abs(point[system][end] - point[system]["median"]) for point in points] for end in ("min", "max")]
        line = {"color": colour, "marker": "o", "markersize": 5, "linewidth": 1.8}
        time.errorbar(counts, middle, yerr=spread, capsize=3, label=name + growth, **line)
        taken = [(point["tokens"], point[system]["step_bytes"]) for point in points if point[system]["step_bytes"]]
        if taken:
            memory.plot([x for x, _ in taken], [y / 1e6 for _, y in taken], label=name, **line)
    first = points[0]["diffma"]["median"]
    time.plot(counts, [first * c / counts[0] for c in counts], "--", color=QUIET, linewidth=1, label="proportional")
    crossing = figures["crossover"]["tokens"]
    if crossing is not None:
        time.axvline(crossing, color=QUIET, linewidth=1, linestyle=":")
        time.text(crossing, time.get_ylim()[0] * 1.3, f" crossover\n ~{crossing} tokens", fontsize=8, color=INK)
    for axes in (time, memory):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(counts, [f"{count}" for count in counts])
        axes.minorticks_off()
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    return save(figure, path)
