"""``diffma benchmark``: how fast this machine is, by comparisons within one process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from DiffMaCore.cli.benchmark_options import add_benchmark_options, add_size_options, begin, heading, write_figures
from DiffMaCore.errors import InputError

EXPLANATION = """\
scan   every selective-scan back end against the plain reference that keeps a (B, D, L, N) tensor, forward and
       forward with backward; and with what surrounds it in a block (gather, convolution, scatter, gate: "spiral")
       against plain torch
step   one denoising step of a DiffMa against DiT's blocks in the same frame with about as many parameters

Contestants take turns within one process, and a ratio compares times of the same round: quote ratios, since a
busy machine changes the seconds. `python -m benchmarks`, in the sources, measures more."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "benchmark",
        help="measure how fast this machine is, in ratios",
        description="Compare speeds within one process and state the machine.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(title="what to compare", metavar="WHAT", dest="what", required=True)
    scan = kinds.add_parser("scan", help="selective-scan back ends against the reference")
    scan.add_argument("--batch", type=int, default=8, help="samples (default 8)")
    scan.add_argument("--channels", type=int, default=1024, help="channels D (default 1024)")
    scan.add_argument("--tokens", type=int, default=196, help="tokens L (default 196)")
    scan.add_argument("--states", type=int, default=16, help="states N of each channel (default 16)")
    scan.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the sequences (default float32)"
    )
    step = kinds.add_parser("step", help="a denoising step of DiffMa against DiT")
    step.add_argument("--batch", type=int, default=8, help="slices (default 8)")
    add_size_options(step)
    for kind in (scan, step):
        add_benchmark_options(kind)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # a scan is measured in the memory torch gets by default, as its reference always was
    device = begin(args, keep_memory=args.what != "scan")
    if args.what == "scan":
        figures = _scan(args, device)
        print(_scan_table(figures))
    else:
        figures = _steps(args, device)
        print(step_table(figures))
    write_figures(args, figures)
    return 0


def _scan(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    from DiffMaCore.inference.benchmark import benchmark_scan, benchmark_spiral

    asked = (args.batch, args.channels, args.tokens, args.states, device, args.rounds, tell, args.dtype)
    figures = benchmark_scan(*asked)
    try:
        figures["results"] += benchmark_spiral(*asked)
    except InputError as reason:
        figures["unavailable"]["spiral"] = str(reason)
    return figures


def _steps(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    from DiffMaCore.inference.benchmark import benchmark_step

    return time_steps(benchmark_step, args, device)


def time_steps(benchmark: Callable[..., dict[str, Any]], args: argparse.Namespace, device: Any) -> dict[str, Any]:
    """Figures of a benchmark of steps; raises InputError for sizes that cannot be."""
    if min(args.batch, args.rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round")
    try:
        return benchmark(args.size, args.batch, args.image_size, device, args.rounds, tell)
    except ValueError as error:
        raise InputError(str(error)) from None


def tell(line: str) -> None:
    """What goes on, to whoever watches."""
    print(line, file=sys.stderr)


def _scan_table(figures: dict[str, Any]) -> str:
    lines = heading(figures)
    lines.append(f"{'median':>41}{'min..max':>21}{'times as fast':>15}{'min..max':>16}{'rel. error':>12}")
    for row in figures["results"]:
        lines.append(f"{row['discipline']:<18}{row['method']:<12}{_times(row)}{row['relative_error']:>12.1e}")
    lines += [f"{name} was left out: {reason}" for name, reason in figures["unavailable"].items()]
    return "\n".join(lines)


def step_table(figures: dict[str, Any]) -> str:
    """For people: a row a method."""
    lines = heading(figures)
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in figures["parameters"].items())
    lines += [f"parameters: {millions}", f"{'median':>41}{'min..max':>21}{'times as long':>15}{'min..max':>16}"]
    lines += [f"{row['method']:<30}{_times(row)}" for row in figures["results"]]
    if "released" in figures:
        lines.append(f"released: {figures['released']['precision']}, scan {figures['released']['scan']}")
    lines += [f"weights: {figures['weights']}"] if "weights" in figures else []
    return "\n".join(lines)


def _times(row: dict[str, Any]) -> str:
    times = f"{row['min_s'] * 1e3:.2f}..{row['max_s'] * 1e3:.2f}"
    ratios = f"{row['ratio_min']:.1f}..{row['ratio_max']:.1f}"
    return f"{row['median_s'] * 1e3:>8.2f} ms{times:>21}{row['ratio']:>15.2f}{ratios:>16}"
