"""``python -m benchmarks input``: sizes in, whether the prepared data feeds a training fast enough out."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import begin, finish, heading, run_options, size_options
from DiffMaCore.cli.commands import Option, command
from DiffMaCore.errors import InputError


@command(
    "input",
    Option("--workers", type=int, nargs="+", metavar="N", help="reading threads (default 0 1 2)"),
    Option("--steps-ms", type=int, nargs="+", metavar="MS", help="steps (default 20 50 100 200)"),
    Option("--batch", type=int, default=64, help="slices of a step (default 64)"),
    *size_options(),
    Option("--slices", type=int, default=512, help="of the data set (default 512)"),
    *run_options(rounds=3),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """Slices a second that the prepared data delivers, against what training steps take.

    Measure how many slices a second the prepared data delivers through the trainer's own data set, order and loader,
    for several numbers of reading threads (`workers` of a configuration), and what share of the time a GPU would work
    whose training step takes 20, 50, 100 or 200 ms. The step is a wait of that length. Random numbers as data, read
    from files that lie in the machine's memory.

    handover  what a step waits for its batch though it lies ready; without reading threads, reading it
    busy      share of the time that the steps filled, measured; in brackets step / max(step + handover, batch / rate)

    examples:
      python -m benchmarks input
      python -m benchmarks input --workers 0 4 8 --batch 128 --steps-ms 30
      python -m benchmarks input --device cuda                        with pinned memory and the copy to the GPU
    """
    device = begin(args)

    from benchmarks.input import STEPS_MS, WORKERS, benchmark_input

    try:
        report = benchmark_input(
            workers=args.workers or WORKERS,
            steps_ms=args.steps_ms or STEPS_MS,
            batch=args.batch,
            image_size=args.image_size,
            name=args.size,
            device=device,
            rounds=args.rounds,
            slices=args.slices,
            reporter=args.reporter,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return finish(args, report, table(report))


def table(report: dict[str, Any]) -> str:
    """For people: a row for each number of reading threads."""
    steps = report["results"][0]["busy"]
    goal = f"{report['busy_share']:.0%} busy from"
    lines = [
        *heading(report),
        f"{report['bytes_per_slice'] / 1e3:.1f} kB a slice",
        f"{'workers':<9}{'slices/s':>10}{'min..max':>16}{'handover':>12}"
        + "".join(f"{one['step_ms']:>10} ms" for one in steps)
        + f"{goal:>18}",
        f"{'needed':<9}{'':>38}" + "".join(f"{one['needed']:>13.0f}" for one in steps),
    ]
    for row in report["results"]:
        rate = row["rate"]
        spread = f"{rate['min']:.0f}..{rate['max']:.0f}"
        shares = [f"{one['measured']['median']:.2f} ({one['reckoned']:.2f})" for one in row["busy"]]
        busy = "".join(f"{share:>13}" for share in shares)
        lines.append(
            f"{row['workers']:<9}{rate['median']:>10.0f}{spread:>16}{row['handover_s']['median'] * 1e3:>9.2f} ms{busy}"
            f"{row['fastest_step_s'] * 1e3:>15.1f} ms"
        )
    return "\n".join(lines)
