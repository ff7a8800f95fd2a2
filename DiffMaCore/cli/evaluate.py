"""``diffma evaluate``: trained systems judged on patients they have not seen."""

from __future__ import annotations

import argparse

from DiffMaCore.cli.experiment import add_experiment_options, read_experiment
from DiffMaCore.cli.reporting import add_progress_option, answer, silence_other_bars

DESCRIPTION = """\
Judge trained systems on one split of the prepared data: SSIM, PSNR, MSE and MAE per patient inside the mask and over
the whole slice with 95 % bootstrap intervals over patients, differences from DiffMa, slice-to-slice consistency, and
calibration of the uncertainty. References stand beside them: what the VAE alone loses, the mean training image, and a
linear fit of the source's grey values."""

EPILOG = """\
examples:
  diffma evaluate --config brain.yaml                            every system that is trained, on the test patients
  diffma evaluate --config brain.yaml --systems diffma dit       these two
  diffma evaluate --config brain.yaml --bundle my-brain OTHER/   bundles that were trained elsewhere, beside them
  diffma evaluate --config brain.yaml --split validation --samples 1 --steps 10

It writes into OUT/evaluation/<split>/: table.md (read this), table.csv and cases.csv (spreadsheets), results.json
(programs), calibration.png (does a high uncertainty mean a large error?) and predictions/ (every volume).
A stopped run goes on where it was; a volume is made again only if its system, the data or the sampling changed."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="judge trained systems: SSIM, PSNR, MSE, MAE with intervals, consistency, calibration",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_options(parser)
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="whose patients (default test)"
    )
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="backbones, such as diffma dit (default: all that are trained)"
    )
    parser.add_argument(
        "--bundle", nargs="+", default=[], metavar="BUNDLE", help="names or folders of bundles trained elsewhere"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the experiment's)")
    parser.add_argument("--samples", type=int, metavar="N", help="noises a slice (default: the experiment's)")
    parser.add_argument("--scheduler", metavar="NAME", help="dpm++, unipc, ddim or ddpm (default: the experiment's)")
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate; raises InputError for whatever cannot be judged."""
    from dataclasses import replace

    experiment, folders = read_experiment(args)
    asked = {name: getattr(args, name) for name in ("steps", "samples", "scheduler")}
    settings = replace(experiment.evaluation, **{name: value for name, value in asked.items() if value is not None})
    experiment = replace(experiment, evaluation=settings)
    args.reporter.stage("loading")

    from DiffMaCore.training.evaluation import evaluate, tables

    silence_other_bars()
    found = evaluate(
        experiment,
        folders,
        args.split,
        args.systems,
        args.bundle,
        args.reporter,
        args.device,
    )
    lines = [tables.ranking(found.results), *found.results["notes"], f"wrote {found.folder / tables.TABLE}"]
    answer(args, {"folder": str(found.folder), **found.results}, "\n".join(lines))
    return 0
