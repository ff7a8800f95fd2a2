"""``python -m benchmarks volume``: a whole volume, and what graph, overlap and precision give."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import begin, finish, heading, run_options, size_options, tell
from DiffMaCore.cli.commands import Option, command, silence_other_bars
from DiffMaCore.errors import InputError


@command(
    "volume",
    Option("--slices", type=int, default=150, metavar="N", help="of the volume (default 150)"),
    Option("--steps", type=int, default=20, help="sampling steps (default 20)"),
    *size_options("L/2"),
    Option("--batch-size", type=int, metavar="N", help="slices at once (default: what fits the memory)"),
    *run_options(rounds=3),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """A whole volume with and without CUDA graph, overlap and bfloat16.

    Convert one volume with everything on (CUDA graph of the denoiser, decoding during the next batch's denoising,
    bfloat16) and with each of these off: seconds, slices per second, memory on the device, and how far the results
    differ. Networks of the true architectures (DiffMa, Stable Diffusion's VAE, ViT-B/16) with random weights.

    examples:
      python -m benchmarks volume --device cuda                      150 slices, DiffMa-L/2, 20 steps
      python -m benchmarks volume --slices 4 --steps 2 --rounds 1    on a CPU, where there is no graph: minutes
      python -m benchmarks volume --device cuda --json volume.json
    """
    device = begin(args)

    from benchmarks.volume import benchmark_volume

    silence_other_bars()
    try:
        report = benchmark_volume(
            args.size,
            args.slices,
            args.steps,
            args.image_size,
            args.batch_size,
            device,
            args.rounds,
            tell,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return finish(args, report, "\n".join([*heading(report), *table(report)]))


def table(report: dict[str, Any]) -> list[str]:
    """The lines below the heading."""
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parameters"].items())
    lines = [
        f"parameters: {millions}; weights: {report['weights']}",
        f"{'median':>26}{'min..max':>18}{'times as long':>15}{'min..max':>14}{'slices/s':>10}{'device':>10}"
        f"{'difference':>12}",
    ]
    for row in report["results"]:
        memory = row["peak_device_bytes"]
        used = "-" if memory is None else f"{memory / 2**30:.2f} GiB"
        times, ratios = f"{row['min_s']:.2f}..{row['max_s']:.2f}", f"{row['ratio_min']:.2f}..{row['ratio_max']:.2f}"
        lines.append(
            f"{row['method']:<16}{row['median_s']:>8.2f} s{times:>18}{row['ratio']:>15.2f}{ratios:>14}"
            f"{row['slices_per_s']:>10.2f}{used:>10}{row['difference']:>12.1e}"
        )
        settings = f"{row['precision']}, {row['batch']} slices at once, scan by {row['scan_backend']}"
        lines += [f"  {settings}", *(f"  warning: {line}" for line in row["warnings"])]
    return [*lines, *(f"{name} was left out: {reason}" for name, reason in report["unavailable"].items())]
