"""``python -m benchmarks cache``: a training step on cached latents against one that encodes each time."""

from __future__ import annotations

import argparse

from DiffMaCore.cli.benchmark import begin, finish, run_options, size_options, step_table, time_steps
from DiffMaCore.cli.commands import add_options


def add_parser(kinds: argparse._SubParsersAction) -> None:
    """Add ``cache`` to the parsers of ``python -m benchmarks``."""
    parser = kinds.add_parser("cache", help="a training step on cached latents against one that encodes each time")
    parser.add_argument("--batch", type=int, default=4, help="slices (default 4)")
    add_options(parser, *size_options(), *run_options(rounds=3))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; raises InputError for sizes that cannot be."""
    device = begin(args)

    from benchmarks.cache import benchmark_cache

    report = time_steps(benchmark_cache, args, device)
    return finish(args, report, step_table(report))
