"""``python -m benchmarks released``: our sampling against the procedure of the authors' released code."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.benchmark import begin, finish, heading, run_options, size_options
from DiffMaCore.cli.commands import Option, command, silence_other_bars
from DiffMaCore.errors import InputError


@command(
    "released",
    *size_options(),
    Option("--batch", type=int, default=8, help="slices of ours at once (default 8)"),
    Option("--model", default="demo", help="trained bundle whose errors are measured: name or folder (default demo)"),
    Option("--keep-memory", action="store_true", help="let both keep freed memory, as convert does"),
    *run_options(rounds=3),
    into=BENCHMARKS,
)
def run(args: argparse.Namespace) -> int:
    """A slice by our sampling against the released procedure.

    Time a slice by the authors' released procedure and by ours, and tell how far either stays from the ODE's solution.

    released  250 ancestral steps (ddpm), one slice at a time; every Mamba runs its three scans one after the other,
              each with its own convolution, projections, gate and out_proj, in plain torch. The released code itself
              needs a GPU and mamba-ssm: its scan is mamba-ssm's where that runs, else the reference that keeps a (B, D,
              L, N) tensor
    ours      the pipeline's default: 15 steps of dpm++ by our blocks, a batch of slices

    Both compute the same function of the same weights. A few steps of each are timed in turns and multiplied: steps
    cost the same. The whole adds conditions (VAE encoder, image encoder, Vision Embedder) and the VAE's decoder.
    Weights are random in what is timed, and a trained model's in what is measured of errors. Both run in the memory
    that Python gets by default, as the released code did; with --keep-memory both keep what they free, as `diffma
    convert` does.

    examples:
      python -m benchmarks released                              B/2 at 224 px, a batch of 8: minutes on a CPU
      python -m benchmarks released --rounds 5 --keep-memory --json times.json
      python -m benchmarks released --model brain                errors of another model than the demo
    """
    device = begin(args, keep_memory=args.keep_memory)

    from benchmarks.released import benchmark_released

    silence_other_bars()
    try:
        report = benchmark_released(
            args.size, args.batch, args.image_size, args.model, device, args.rounds, args.reporter
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    report["kept_memory"] = args.keep_memory
    return finish(args, report, table(report))


def table(report: dict[str, Any]) -> str:
    """Times, their ratios and the errors."""
    lines = heading(report)
    for key, how in report["procedures"].items():
        lines.append(f"{key}: {how['steps']} steps of {how['scheduler']}, batch {how['batch']}, scan {how['scan']}")
    columns = f"{'ours':>10}{'min..max':>18}{'released':>12}{'min..max':>18}{'ratio':>9}{'min..max':>14}"
    lines += [
        f"timed: {report['timed_steps']} steps of each a round, multiplied; weights {report['weights']}; "
        f"{'freed memory kept' if report['kept_memory'] else 'memory as by default'}",
        "",
        f"{'seconds a slice':<16}{columns}",
    ]
    ours, released = ({**report["parts"][key], "whole": report["whole"][key]} for key in ("ours", "released"))
    for name in ours:
        times = "".join(
            f"{row[name]['median']:>{width}.3f}{_range(row[name], 3):>18}"
            for row, width in ((ours, 10), (released, 12))
        )
        ratio = report["ratio"].get(name)
        ratios = "" if ratio is None else f"{ratio['median']:>9.1f}{_range(ratio, 1):>14}"
        lines.append(f"{name:<16}{times}{ratios}")
    error = report["error"]
    return "\n".join(
        [
            *lines,
            "",
            f"error to the ODE ({error['ode']}), model {error['model']}, slices: {error['slices']}",
            *(f"  {key:<10}{error[key]['median']:.4f} ({_range(error[key], 4)})" for key in report["procedures"]),
            "  released draws noise at every step and goes to no solution of this ODE: that noise is in its distance",
            f"one evaluation computed the released way differs from ours by {error['agreement']:.1e} (relative)",
        ]
    )


def _range(values: dict[str, float], digits: int) -> str:
    return f"{values['min']:.{digits}f}..{values['max']:.{digits}f}"
