"""``python -m benchmarks sampling``: how few steps suffice for a trained experiment."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import THREADS, set_threads
from DiffMaCore.cli.commands import Option, answer, command, silence_other_bars
from DiffMaCore.cli.options import experiment_options, read_experiment


@command(
    "sampling",
    *experiment_options(),
    Option("--slices", type=int, default=8, metavar="N", help="spread over the test patients (default 8)"),
    Option("--rounds", type=int, default=1, metavar="N", help="initial noises (default 1)"),
    Option("--steps", type=int, nargs="+", metavar="N", help="numbers of steps (default 5 10 15 20 30 50 250)"),
    THREADS,
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """Schedulers and steps of a trained experiment against the ODE's solution and the truth.

    Sample some test slices of a trained experiment with every scheduler and number of steps, with the released
    procedure (250 ancestral steps, one slice at a time), and with warm starts from a guess. Of each it prints the
    relative error of the latents to the ODE's solution (1000 deterministic DDIM steps from the same noise) and to the
    truth, SSIM and PSNR of the decoded slices inside the body, and seconds per slice.

    examples:
      python -m benchmarks sampling --config brain.yaml                     8 test slices, one noise: minutes on a CPU
      python -m benchmarks sampling --config brain.yaml --slices 32 --rounds 3
      python -m benchmarks sampling --config brain.yaml --steps 10 20       these numbers of steps only

    It writes OUT/sampling/sampling.md (the table), sampling.json and sampling.png. A stopped run goes on where it was.
    """

    from DiffMaCore.devices import keep_freed_memory

    keep_freed_memory()
    set_threads(args.threads)
    experiment, folders = read_experiment(args)

    from benchmarks import sampling_report
    from benchmarks.sampling import benchmark_sampling
    from benchmarks.sampling_ways import STEPS

    silence_other_bars()
    report: dict[str, Any] = benchmark_sampling(
        experiment, folders, args.slices, args.rounds, args.steps or STEPS, args.device, args.reporter
    )
    file = sampling_report.write(report, folders.root / "sampling")
    answer(args, {"folder": str(file.parent), **report}, f"{sampling_report.table(report)}\nwrote {file}")
    return 0
