"""``python -m benchmarks cache``: a training step on cached latents against one that encodes each time."""

from __future__ import annotations

import argparse

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import begin, finish, run_options, size_options, step_table, time_steps
from DiffMaCore.cli.commands import Option, command


@command(
    "cache",
    Option("--batch", type=int, default=4, help="slices (default 4)"),
    *size_options(),
    *run_options(rounds=3),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """A training step on cached latents against one that encodes each time."""
    device = begin(args)

    from benchmarks.cache import benchmark_cache

    report = time_steps(benchmark_cache, args, device)
    return finish(args, report, step_table(report))
