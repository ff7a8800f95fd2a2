"""``python -m benchmarks roofline``: how far a denoising step is from what the machine can do."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import begin, finish, heading, run_options, size_options, tell
from DiffMaCore.cli.commands import Option, command
from DiffMaCore.errors import InputError


@command(
    "roofline",
    *size_options("L/2"),
    Option("--batch", type=int, help="slices (default 8, on a GPU 64)"),
    *run_options(rounds=5),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """A denoising step against the machine's matmul and exponential rates.

    Time a denoising step of DiffMa in turns with the machine's own rates, and divide it by the time that its arithmetic
    takes at these rates.

    CPU  roofline = multiply-adds of matmuls / their rate + exponentials / their rate. The matmuls' rate is that of the
         step's own products with weights, one after the other by our layers; the exponentials' that of the scan's exp2
         on numbers that stay in the first cache. Counted are the scan's decays exp(delta A), and the Mambas' SiLU and
         softplus, one exponential each (their divisions and logarithms are not). Not in the roofline: multiply-adds of
         scan and convolution, norms, activations outside of the Mambas, and all that moves data
    GPU  bf16 and our Triton kernels; roofline = multiply-adds of matmuls / the rate of a large square product, so that
         its share is the part of the measured matmul rate that the step reaches

    examples:
      python -m benchmarks roofline                           L/2 at 224 px, batch 8
      python -m benchmarks roofline --size B/2 --threads 1
      python -m benchmarks roofline --device cuda             batch 64
    """
    device = begin(args)

    from benchmarks.roofline import benchmark_roofline

    try:
        report = benchmark_roofline(args.size, args.batch, args.image_size, device, args.rounds, tell)
    except ValueError as error:
        raise InputError(str(error)) from None
    return finish(args, report, table(report))


def table(report: dict[str, Any]) -> str:
    """Counts, rates, times and shares."""
    counts, rates, share = report["counts"], report["rates"], report["share"]
    lines = [
        *heading(report),
        f"{report['precision']}, scan {report['scan']}, random weights",
        f"{'':<14}{'count':>10}{'rate, a second':>17}{'min..max':>22}{'time':>12}{'min..max':>20}{'of the step':>13}",
    ]
    for part, amount in counts.items():
        rate = rates.get(part) or rates["exponentials"]
        speed = f"{_giga(rate['median']):>17}{_giga(rate['min']) + '..' + _giga(rate['max']):>22}"
        lines.append(
            f"{part:<14}{_giga(amount):>10}{speed}{_time(report['parts'][part])}{share[part]['median']:>12.0%}"
        )
    ratio = report["ratio"]
    lines += [
        f"{'roofline':<63}{_time(report['roofline'])}",
        f"{'step':<63}{_time(report['step'])}",
        f"step / roofline: {ratio['median']:.2f} ({ratio['min']:.2f}..{ratio['max']:.2f})",
    ]
    if "decays" not in counts:
        reached = share["matmuls"]
        spread = f"{reached['min']:.0%}..{reached['max']:.0%}"
        lines.append(f"share of the measured matmul rate: {reached['median']:.0%} ({spread})")
    lines.append(f"left out: {_giga(report['left_out']['scan'])} multiply-adds of scan and convolution")
    return "\n".join(lines)


def _giga(value: float) -> str:
    return f"{value / 1e9:.2f} G"


def _time(seconds: dict[str, float]) -> str:
    spread = f"{seconds['min'] * 1e3:.1f}..{seconds['max'] * 1e3:.1f}"
    return f"{seconds['median'] * 1e3:>9.1f} ms{spread:>20}"
