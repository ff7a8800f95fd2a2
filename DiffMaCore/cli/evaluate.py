"""``diffma evaluate``: trained systems judged on patients they have not seen, and any bundle on real heads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from DiffMaCore.cli.experiment import add_experiment_options, read_experiment
from DiffMaCore.cli.reporting import add_progress_option, answer, silence_other_bars
from DiffMaCore.errors import InputError

DESCRIPTION = """\
Judge trained systems on one split of the prepared data: SSIM, PSNR, MSE and MAE per patient inside the mask and over
the whole slice with 95 % bootstrap intervals over patients, differences from DiffMa, slice-to-slice consistency, and
calibration of the uncertainty. References stand beside them: what the VAE alone loses, the mean training image, and a
linear fit of the source's grey values.

Or, without an experiment, judge any bundles: on real CTs alone (--cts: does the MRI show the CT's fluid, skull and
scalp?), on paired 8-bit slices (--pairs: how like is it to the true MRI inside the skull?), and on heads that are
rendered on the spot from label maps (--heads: SSIM, PSNR, grey against white matter, slices, uncertainty)."""

EPILOG = """\
examples:
  diffma evaluate --config brain.yaml                            every system that is trained, on the test patients
  diffma evaluate --config brain.yaml --systems diffma dit       these two
  diffma evaluate --config brain.yaml --bundle my-brain OTHER/   bundles that were trained elsewhere, beside them
  diffma evaluate --config brain.yaml --split validation --samples 1 --steps 10
  diffma evaluate --bundle demo --cts ct.nii.gz DICOM_FOLDER     any head CTs, as for `diffma convert`
  diffma evaluate --bundle demo my-brain --pairs PAIRS/ --steps 1 --out judged
  diffma evaluate --bundle my-brain --heads head_06 head_12 --samples 8

With an experiment it writes into OUT/evaluation/<split>/: table.md (read this), table.csv and cases.csv (spreadsheets),
results.json (programs), calibration.png (does a high uncertainty mean a large error?), predictions/ (every volume).
A stopped run goes on where it was; a volume is made again only if its system, the data or the sampling changed.

Pairs are .npz files, one a patient, with arrays ct and t1, t2 or flair, uint8 (slices, rows, columns). Without an
experiment it writes table.md, results.json and, of rendered heads with several samples, reliability.png into OUT
(default: nowhere, and prints the table)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="judge trained systems: SSIM, PSNR, MSE, MAE with intervals, consistency, calibration",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_options(parser, required=False)
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="whose patients (default test; of rendered heads validation)",
    )
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="backbones, such as diffma dit (default: all that are trained)"
    )
    parser.add_argument(
        "--bundle", nargs="+", default=[], metavar="BUNDLE", help="names or folders of bundles trained elsewhere"
    )
    parser.add_argument(
        "--cts", nargs="+", type=Path, default=[], metavar="CT", help="head CTs without a true MRI (no --config)"
    )
    parser.add_argument(
        "--pairs", nargs="+", type=Path, default=[], metavar="FOLDER", help="paired 8-bit slices (no --config)"
    )
    parser.add_argument(
        "--heads",
        nargs="+",
        default=[],
        metavar="HEAD",
        help="heads to render: names of the package's own, label maps, folders of them (no --config)",
    )
    parser.add_argument("--draws", type=int, default=2, metavar="N", help="renderings of each head (default 2)")
    parser.add_argument(
        "--ct-window",
        nargs=2,
        type=float,
        default=(-10.0, 80.0),
        metavar="HU",
        help="HU that 0 and 255 of the pairs' CT stand for (default -10 80)",
    )
    parser.add_argument(
        "--pixel-mm", type=float, metavar="MM", help="size of the pairs' pixels (default: by the size of the brain)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the experiment's or bundle's)")
    parser.add_argument(
        "--samples", type=int, metavar="N", help="noises a slice (default: the experiment's or bundle's)"
    )
    parser.add_argument("--mode", metavar="NAME", help="how a bundle predicts real heads (default: the bundle's own)")
    parser.add_argument(
        "--scheduler", metavar="NAME", help="dpm++, unipc, ddim or ddpm (default: the experiment's or bundle's)"
    )
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate; raises InputError for whatever cannot be judged."""
    alone = bool(args.cts or args.pairs or args.heads)
    if alone == bool(args.config):
        raise InputError(
            "give --config FILE.yaml to judge an experiment's systems, or --cts, --pairs or --heads to judge bundles"
        )
    return _on_heads(args) if alone else _on_experiment(args)


def _on_heads(args: argparse.Namespace) -> int:
    asked = {"num_inference_steps": args.steps, "samples": args.samples, "scheduler": args.scheduler, "mode": args.mode}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if not args.bundle:
        raise InputError("name what is to be judged with --bundle, such as --bundle demo")
    args.reporter.stage("loading")

    from DiffMaCore.inference.pipeline import DiffMaPipeline
    from DiffMaCore.training.evaluation import head_tables, heads

    silence_other_bars()
    bundles: dict[str, Any] = {}
    for name in args.bundle:
        pipe = DiffMaPipeline.from_pretrained(name)
        pipe.set_device(args.device)
        entry: dict[str, Any] = {"sha256": pipe.checksum, "target_modality": pipe.bundle.target_modality}
        if args.pairs:
            entry["pairs"] = heads.judge_pairs(
                pipe, args.pairs, args.reporter, tuple(args.ct_window), args.pixel_mm, **options
            )
        if args.cts:
            entry["cts"] = heads.judge_cts(pipe, args.cts, args.reporter, **options)
        if args.heads:
            entry["heads"] = heads.judge_heads(pipe, args.heads, args.draws, args.reporter, **options)
        bundles[str(name)] = entry
    results = {"options": options, "bundles": bundles}
    text = head_tables.markdown(results)
    if args.out:
        head_tables.write(results, args.out)
        text += f"\nwrote {args.out / head_tables.TABLE}"
    answer(args, results, text)
    return 0


def _on_experiment(args: argparse.Namespace) -> int:
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
