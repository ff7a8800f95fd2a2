"""``python -m benchmarks processes``: several workers that share the volumes of a folder, against one."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import JSON_FILE, begin, finish, heading
from DiffMaCore.cli.commands import Option, command


@command(
    "processes",
    Option("--processes", type=int, default=2, metavar="N", help="of one core each (default 2)"),
    Option("--volumes", type=int, default=4, metavar="N", help="for each process (default 4)"),
    Option("--rounds", type=int, default=3, metavar="N", help="in which both take turns (default 3)"),
    Option("--model", default="demo", metavar="NAME|FOLDER", help="as for convert (default demo)"),
    Option("--steps", type=int, default=10, help="sampling steps (default 10)"),
    JSON_FILE,
    into=BENCHMARKS,
    device="cpu",
    threads=None,
)
def run(args: argparse.Namespace) -> int:
    """Several processes that share the volumes of a folder against one.

    Convert phantoms with `diffma convert --cluster local` by one worker of one core, and as many for each worker by
    several of one core each, in turns. It prints the share of linear: the single worker's seconds over the others'.
    They are bound to as many cores as they are, where the operating system can (Linux, Windows).

    working  a volume once the model was loaded
    whole    from the start to the end of the command, Python's start and loading included

    examples:
      python -m benchmarks processes                               2 processes, 4 volumes each, 3 rounds: minutes
      python -m benchmarks processes --processes 16 --volumes 8    on a larger machine
      python -m benchmarks processes --model brain --steps 20      an installed model
    """
    begin(args, keep_memory=False)

    from benchmarks.processes import benchmark_processes
    from DiffMaCore.diffusion.schedulers import check_sampling

    check_sampling(steps=args.steps)
    report = benchmark_processes(
        args.processes, args.volumes, args.rounds, args.model, args.steps, reporter=args.reporter
    )
    return finish(args, report, table(report))


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = [
        *heading(report),
        f"{report['shape']['processes']} against 1",
        f"{'share of linear':<18}{'median':>8}{'min..max':>14}",
    ]
    for name, share in report["share"].items():
        least_to_most = f"{share['min']:.2f}..{share['max']:.2f}"
        lines.append(f"{name:<18}{share['median']:>8.2f}{least_to_most:>14}")
    loads = ", ".join(f"{one['load_average']:.1f}" for one in report["results"])
    return "\n".join([*lines, f"load of the machine after each round: {loads}"])
