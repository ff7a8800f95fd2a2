"""``python -m benchmarks decode``: sizes in, what a small decoder saves out."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import IMAGE_SIZE, begin, finish, heading, run_options, tell
from DiffMaCore.cli.commands import Option, command


@command(
    "decode",
    Option("--batch", type=int, default=4, help="slices (default 4)"),
    IMAGE_SIZE,
    *run_options(rounds=5),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """The small decoder against the VAE's, in both memory layouts.

    Decode latents with Stable Diffusion's VAE and with a small decoder (diffusers' AutoencoderTiny at its default
    size), both with random weights and in both memory layouts, in turns. Of each it prints the seconds a slice, the
    time over that of the full decoder in torch's usual layout, and over its own there. Says nothing of how good an
    image is.

    examples:
      python -m benchmarks decode                                   4 slices of 224 pixels: a minute or two on a CPU
      python -m benchmarks decode --threads 2 --rounds 10 --json decode.json
      python -m benchmarks decode --device cuda --batch 32
    """
    device = begin(args)

    from benchmarks.decode import benchmark_decode

    report = benchmark_decode(args.batch, args.image_size, device, args.rounds, tell)
    return finish(args, report, _table(report))


def _table(report: dict[str, Any]) -> str:
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parameters"].items())
    lines = [
        *heading(report),
        f"parameters: {millions}",
        f"{'a slice':>34}{'of full':>10}{'min..max':>16}{'of contiguous':>15}{'difference':>12}",
    ]
    for row in report["results"]:
        spread = f"{row['ratio_min']:.3f}..{row['ratio_max']:.3f}"
        lines.append(
            f"{row['method']:<24}{row['per_slice_s']:>8.4f} s{row['ratio']:>10.3f}{spread:>16}"
            f"{row['to_contiguous']:>15.3f}{row['difference']:>12.1e}"
        )
    return "\n".join([*lines, f"weights: {report['weights']}"])
