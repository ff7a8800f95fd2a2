"""``python -m benchmarks processes``: several processes that share a folder of volumes, against one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from DiffMaCore.cli.benchmark_options import begin, heading, write_figures
from DiffMaCore.cli.reporting import add_progress_option, answer

DESCRIPTION = """\
Convert phantoms with one `diffma convert` of one core, and as many for each process with several of one core each that
share the output folder, in turns. Told is the share of linear: the volumes that a process makes in a second, over those
of the single process. Each process is bound to a core of its own where the system can (Linux)."""

EPILOG = """\
working  after the model was loaded, until the last of all volumes was done
whole    from the first start to the last end, Python's start and loading included
cpu      the same in CPU seconds: what sharing costs in work, whatever else the machine does
core     how much of its core a process got; below 0.95 the machine was busy, and the shares in time say little

examples:
  python -m benchmarks processes                               2 processes, 4 volumes each, 3 rounds: minutes
  python -m benchmarks processes --processes 16 --volumes 8    on a larger machine
  python -m benchmarks processes --model brain --steps 20      an installed model"""


def add_parser(kinds: argparse._SubParsersAction) -> None:
    """Add ``processes`` to the parsers of ``python -m benchmarks``."""
    parser = kinds.add_parser(
        "processes",
        help="several processes that share the volumes of a folder against one",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="of one core each (default 2)")
    parser.add_argument("--volumes", type=int, default=4, metavar="N", help="for each process (default 4)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="in which both take turns (default 3)")
    parser.add_argument("--model", default="demo", metavar="NAME|FOLDER", help="as for convert (default demo)")
    parser.add_argument("--steps", type=int, default=10, help="sampling steps (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    add_progress_option(parser)
    parser.set_defaults(run=run, device="cpu", threads=None)


def run(args: argparse.Namespace) -> int:
    """Measure and tell; raises InputError for numbers that cannot be."""
    begin(args, keep_memory=False)

    from benchmarks.processes import benchmark_processes
    from DiffMaCore.diffusion.schedulers import check_sampling

    check_sampling(steps=args.steps)
    figures = benchmark_processes(
        args.processes, args.volumes, args.rounds, args.model, args.steps, reporter=args.reporter
    )
    write_figures(args, figures)
    answer(args, figures, table(figures))
    return 0


def table(figures: dict[str, Any]) -> str:
    """For people."""
    count = figures["shape"]["processes"]
    loads = [one["load_average"] for one in figures["results"] if one["load_average"] is not None]
    lines = [
        *heading(figures),
        f"{count} against 1, {'bound to a core each' if figures['pinned'] else 'not bound to cores'}",
        f"{'share of linear':<18}{'median':>8}{'min..max':>14}",
        *(f"{name:<18}{_spread(spread)}" for name, spread in figures["share"].items()),
        *(f"{f'core, {name}':<18}{_spread(spread)}" for name, spread in figures["core"].items()),
    ]
    if loads:
        lines.append(f"load of the machine after each round: {', '.join(f'{load:.1f}' for load in loads)}")
    return "\n".join(lines)


def _spread(spread: dict[str, float] | None) -> str:
    if spread is None:
        return f"{'-':>8}"
    least, most = f"{spread['min']:.2f}", f"{spread['max']:.2f}"
    return f"{spread['median']:>8.2f}{least + '..' + most:>14}"
