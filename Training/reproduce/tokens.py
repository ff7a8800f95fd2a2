"""Time and memory against the number of tokens, as picture and section; the figures are ``benchmark_tokens``'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import NAMES, plot_tokens
from Training.reproduce.document import Block, Cell, Picture, Section, Table, Text

TOKENS_FILE, PICTURE = "tokens.json", "tokens.png"


def read_tokens(folder: Path) -> dict[str, Any] | None:
    """The figures that ``folder`` holds; None where there are none."""
    try:
        return dict(json.loads((folder / TOKENS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def tokens_section(figures: dict[str, Any] | None, folder: Path, missing: str) -> Section:
    """Table and picture of the figures, which is drawn into ``folder``; or ``missing``."""
    title = "Scaling: time and memory against the number of tokens"
    if figures is None:
        return Section("tokens", title, [], [missing])
    plot_tokens(figures, folder / PICTURE)
    machine, millions = figures["machine"], {k: v / 1e6 for k, v in figures["parameters"].items()}
    points = figures["points"]
    head = ["Tokens", "Slice", "Batch", "DiffMa, s per slice", "DiT, s per slice", "DiffMa / DiT"]
    head += ["DiffMa, MB", "DiT, MB"]
    rows = [
        [
            str(point["tokens"]),
            f"{point['image_size']} px",
            str(point["batch"]),
            *(_cell(point[system], 4) for system in NAMES),
            _cell(point["ratio"], 2),
            *("-" if point[s]["step_bytes"] is None else f"{point[s]['step_bytes'] / 1e6:.0f}" for s in NAMES),
        ]
        for point in points
    ]
    growth = "; ".join(
        f"{NAMES[system]} "
        + " and ".join(
            f"{fit['median']:.2f} ({fit['min']:.2f} to {fit['max']:.2f}) from {fit['tokens'][0]} to"
            f" {fit['tokens'][-1]} tokens"
            for fit in fits
        )
        for system, fits in figures["exponents"].items()
        if fits
    )
    last = points[-1]
    texts = [
        f"The paper claims linear growth for its scan and quadratic growth for self-attention (Eq. 10); it measures"
        f" neither. Here: one denoising step of DiffMa-{figures['shape']['size']} ({millions['diffma']:.2f} M"
        f" parameters) and of DiT in the same frame ({millions['dit']:.2f} M), float32, random weights, taking turns in"
        f" one process, {figures['rounds']} rounds after one that does not count. Median, small: least and greatest.",
        f"Growth exponent of time (slope between logarithms): {growth}." if growth else "",
        f"Crossover: {figures['crossover']['words']}. At {last['tokens']} tokens a step of DiffMa takes"
        f" {last['ratio']['median']:.2f} of DiT's time.",
    ]
    memory = (
        "Memory: what a step of one slice takes beyond program and weights, the most at once, in a fresh process a"
        " point. Attention here is torch's fused one, which never keeps the L x L matrix, so that DiT's memory grows in"
        " proportion too."
    )
    where = (
        f"Measured on {machine['processor']}, device {machine['device']}, {machine['threads']} threads, torch"
        f" {machine['torch']}" + (f", load {machine['load_average']:.1f}." if machine["load_average"] else ".")
    )
    blocks: list[Block] = [Text(text) for text in texts if text]
    blocks += [Table(head, rows), Picture(PICTURE, "Time and memory of one denoising step; bars: all rounds.")]
    return Section("tokens", title, [*blocks, Text(memory), Text(where)])


def _cell(spread: dict[str, float], digits: int) -> Cell:
    return f"{spread['median']:.{digits}f}", f"{spread['min']:.{digits}f} to {spread['max']:.{digits}f}"
