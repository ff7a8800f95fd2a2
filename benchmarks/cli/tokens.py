"""``python -m benchmarks tokens``: time and memory of a denoising step at growing numbers of tokens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import begin, finish, heading, run_options
from DiffMaCore.cli.commands import Option, command
from DiffMaCore.errors import InputError


@command(
    "tokens",
    Option("--tokens", type=int, nargs="+", metavar="N", help="square numbers (default 196 784 3136 12544)"),
    Option("--size", default="B/2", help="configuration of Table 1 (default B/2)"),
    Option("--at-once", type=int, metavar="N", help="tokens of a batch (default 3136, on a GPU 50176)"),
    Option("--plot", type=Path, metavar="PNG", help="also draw time and memory against tokens"),
    *run_options(rounds=3),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """DiffMa against DiT at growing numbers of tokens."""
    device = begin(args)

    from benchmarks.tokens import TOKENS, benchmark_tokens

    try:
        counts = args.tokens or TOKENS
        report = benchmark_tokens(counts, args.size, device, args.rounds, args.at_once, args.reporter)
    except ValueError as error:
        raise InputError(str(error)) from None
    if args.plot is not None:
        from benchmarks.figures import plot_tokens

        plot_tokens(report, args.plot)
    return finish(args, report, _table(report))


def _table(report: dict[str, Any]) -> str:
    lines = heading(report)
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parameters"].items())
    lines += [
        f"parameters: {millions}; seconds per slice, memory of one slice beyond program and weights",
        f"{'tokens':>7}{'image':>7}{'batch':>6}{'DiffMa':>12}{'DiT':>12}{'ratio':>8}{'min..max':>14}"
        f"{'DiffMa':>12}{'DiT':>12}",
    ]
    for point in report["points"]:
        ratio = point["ratio"]
        spread = f"{ratio['min']:.2f}..{ratio['max']:.2f}"
        times = "".join(f"{point[backbone]['median']:>10.4f} s" for backbone in ("diffma", "dit"))
        memory = "".join(_megabytes(point[backbone]["step_bytes"]) for backbone in ("diffma", "dit"))
        place = f"{point['tokens']:>7}{point['image_size']:>7}{point['batch']:>6}"
        lines.append(f"{place}{times}{ratio['median']:>8.2f}{spread:>14}{memory}")
    for backbone, growth in report["exponents"].items():
        lines += [
            f"growth exponent of {backbone}, {fit['tokens'][0]} to {fit['tokens'][-1]} tokens: "
            f"{fit['median']:.2f} ({fit['min']:.2f}..{fit['max']:.2f})"
            for fit in growth
        ]
    return "\n".join([*lines, f"crossover: {report['crossover']['words']}"])


def _megabytes(count: int | None) -> str:
    return f"{'-':>12}" if count is None else f"{count / 1e6:>9.1f} MB"
