"""A report of ``benchmark_tokens`` in, its section out: time and memory against the number of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import NAMES, plot_tokens
from Training.reproduce.document import Block, Cell, Picture, Section, Table, Text

TOKENS_FILE, PICTURE = "tokens.json", "tokens.png"


def read_tokens(folder: Path) -> dict[str, Any] | None:
    """The report that ``folder`` holds; None where there are none."""
    try:
        return dict(json.loads((folder / TOKENS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def tokens_section(report: dict[str, Any] | None, folder: Path, missing: str) -> Section:
    """Table and picture of the report, which is drawn into ``folder``; or ``missing``."""
    title = "Scaling: time and memory against the number of tokens"
    if report is None:
        return Section("tokens", title, [], [missing])
    plot_tokens(report, folder / PICTURE)
    machine, millions = report["machine"], {k: v / 1e6 for k, v in report["parameters"].items()}
    points = report["points"]
    head = ["Tokens", "Slice", "Batch", "DiffMa, s per slice", "DiT, s per slice", "DiffMa / DiT"]
    head += ["DiffMa, MB", "DiT, MB"]
    rows = [
        [
            str(point["tokens"]),
            f"{point['image_size']} px",
            str(point["batch"]),
            *(_cell(point[model], 4) for model in NAMES),
            _cell(point["ratio"], 2),
            *("-" if point[s]["step_bytes"] is None else f"{point[s]['step_bytes'] / 1e6:.0f}" for s in NAMES),
        ]
        for point in points
    ]
    growth = "; ".join(
        f"{NAMES[model]} "
        + " and ".join(
            f"{fit['median']:.2f} ({fit['min']:.2f} to {fit['max']:.2f}) from {fit['tokens'][0]} to"
            f" {fit['tokens'][-1]} tokens"
            for fit in fits
        )
        for model, fits in report["exponents"].items()
        if fits
    )
    last = points[-1]
    texts = [
        f"The paper claims linear growth for its scan and quadratic growth for self-attention (Eq. 10); it measures"
        f" neither. Here: one denoising step of DiffMa-{report['shape']['size']} ({millions['diffma']:.2f} M"
        f" parameters) and of DiT in the same frame ({millions['dit']:.2f} M), float32, random weights, taking turns in"
        f" one process, {report['rounds']} rounds after one that does not count. Median, small: least and greatest.",
        f"Growth exponent of time (slope between logarithms): {growth}." if growth else "",
        f"Crossover: {report['crossover']['words']}. At {last['tokens']} tokens a step of DiffMa takes"
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
