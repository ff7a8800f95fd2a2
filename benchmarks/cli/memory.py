"""``python -m benchmarks memory``: what a batch of slices takes, and what is reckoned when a batch is chosen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import DEVICE, JSON_FILE, THREADS, begin, finish, heading
from DiffMaCore.cli.commands import Option, command, silence_other_bars
from DiffMaCore.errors import InputError


@command(
    "memory",
    Option("--sizes", nargs="+", metavar="SIZE", help="of Table 1 (default S/2 B/2 L/2)"),
    Option("--image-sizes", type=int, nargs="+", metavar="PX", help="sides of slices (default 224 448)"),
    Option("--batches", type=int, nargs="+", metavar="N", help="slices at once (default 1 4)"),
    DEVICE,
    THREADS,
    JSON_FILE,
    Option("--plot", type=Path, metavar="PNG", help="also draw what was measured and what was reckoned"),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """Peak memory of a conversion's parts against batch, size and tokens.

    Measure the most memory that computing the conditions, denoising, decoding and all three in turn take, each in a
    fresh process, beyond the program and its weights; and what the pipeline reckons with when it chooses how many
    slices fit at once. Architectures as in the paper (Stable Diffusion's VAE, a ViT-B/16, DiffMa), random weights.

    examples:
      python -m benchmarks memory                                    S/2, B/2, L/2 at 224, 448 px: many minutes on a CPU
      python -m benchmarks memory --sizes B/2 --image-sizes 224      a few minutes
      python -m benchmarks memory --device cuda --batches 1 8 32 --plot memory.png
    """
    device = begin(args, keep_memory=False)  # the processes that are measured keep it

    from benchmarks.memory import BATCHES, IMAGE_SIZES, SIZES, benchmark_memory

    silence_other_bars()
    sizes, image_sizes, batches = args.sizes or SIZES, args.image_sizes or IMAGE_SIZES, args.batches or BATCHES
    try:
        report = benchmark_memory(sizes, image_sizes, batches, device, args.reporter)
    except ValueError as error:
        raise InputError(str(error)) from None
    if args.plot is not None:
        from benchmarks.figures import plot_memory

        plot_memory(report, args.plot)
    return finish(args, report, table(report))


def table(report: dict[str, Any]) -> str:
    """For people: a row a point, in MiB."""
    parts = list(report["points"][0]["parts"])
    lines = [
        *heading(report),
        f"weights: {report['weights']}; MiB beyond program and weights; reckoned: when a batch is chosen",
        f"{'size':<6}{'image':>6}{'tokens':>8}{'batch':>6}"
        + "".join(f"{part:>12}" for part in parts)
        + f"{'reckoned':>12}{'/ most':>8}",
    ]
    for point in report["points"]:
        place = f"{point['size']:<6}{point['image_size']:>6}{point['tokens']:>8}{point['batch']:>6}"
        taken = "".join(_mib(point["parts"][part]) for part in parts)
        ratio = "-" if point["ratio"] is None else f"{point['ratio']:.2f}"
        lines.append(f"{place}{taken}{_mib(point['reckoned'])}{ratio:>8}")
    return "\n".join(lines)


def _mib(count: int | None) -> str:
    return f"{'-':>12}" if count is None else f"{count / 2**20:>12.0f}"
