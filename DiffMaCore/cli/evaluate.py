"""``diffma evaluate``: trained models or bundles in, tables of their metrics on data that they have not seen out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from DiffMaCore.cli.commands import Option, answer, command, silence_other_bars
from DiffMaCore.cli.options import experiment_options, given, read_experiment
from DiffMaCore.errors import InputError


@command(
    "evaluate",
    *experiment_options(required=False),
    Option(
        "--split",
        choices=("train", "validation", "test"),
        help="whose patients (default test; of rendered heads validation)",
    ),
    Option("--systems", nargs="+", metavar="NAME", help="models, such as diffma dit (default: all that are trained)"),
    Option("--bundle", nargs="+", default=[], metavar="BUNDLE", help="names or folders of bundles trained elsewhere"),
    Option("--cts", nargs="+", type=Path, default=[], metavar="CT", help="head CTs without a true MRI (no --config)"),
    Option("--pairs", nargs="+", type=Path, default=[], metavar="FOLDER", help="paired 8-bit slices (no --config)"),
    Option(
        "--heads",
        nargs="+",
        default=[],
        metavar="HEAD",
        help="heads to render: names of the package's own, label maps, folders of them (no --config)",
    ),
    Option("--draws", type=int, default=2, metavar="N", help="renderings of each head (default 2)"),
    Option(
        "--ct-window",
        nargs=2,
        type=float,
        metavar="HU",
        help="HU that 0 and 255 of the pairs' CT stand for (default 0 80)",
    ),
    Option(
        "--pixel-mm", type=float, metavar="MM", help="size of the pairs' pixels (default: by the size of the brain)"
    ),
    Option("--steps", type=int, metavar="N", help="sampling steps (default: the experiment's or bundle's)"),
    Option("--samples", type=int, metavar="N", help="noises a slice (default: the experiment's or bundle's)"),
    Option("--mode", metavar="NAME", help="how a bundle predicts real heads (default: the bundle's own)"),
    Option("--scheduler", metavar="NAME", help="dpm++, unipc, ddim or ddpm (default: the experiment's or bundle's)"),
)
def evaluate(args: argparse.Namespace) -> int:
    """Evaluate trained models: SSIM, PSNR, MSE, MAE with intervals, consistency, calibration.

    Trained models are evaluated on one split of the prepared data: SSIM, PSNR, MSE and MAE per patient inside the mask
    and over the whole slice with 95 % bootstrap intervals over patients, differences from DiffMa, slice-to-slice
    consistency, and calibration of the uncertainty. References are in the same table: what the VAE alone loses, the
    mean training image, and a linear fit of the source's grey values.

    Or, without an experiment, any bundles: on real CTs alone (--cts: does the MRI show the CT's fluid, skull and
    scalp?), on paired 8-bit slices (--pairs: how like is it to the true MRI inside the skull?), and on heads that are
    rendered on the spot from label maps (--heads: SSIM, PSNR, grey against white matter, slices, uncertainty).

    examples:
      diffma evaluate --config brain.yaml                            every model that is trained, on the test patients
      diffma evaluate --config brain.yaml --systems diffma dit       these two
      diffma evaluate --config brain.yaml --bundle my-brain OTHER/   bundles that were trained elsewhere as well
      diffma evaluate --config brain.yaml --split validation --samples 1 --steps 10
      diffma evaluate --bundle demo --cts ct.nii.gz DICOM_FOLDER     any head CTs, as for `diffma convert`
      diffma evaluate --bundle demo my-brain --pairs PAIRS/ --steps 1 --out judged
      diffma evaluate --bundle my-brain --heads head_06 head_12 --samples 8

    With an experiment it writes into OUT/evaluation/<split>/: table.md (read this), table.csv and cases.csv
    (spreadsheets), results.json (programs), calibration.png (does a high uncertainty mean a large error?), predictions/
    (every volume). A stopped run goes on where it was; a volume is made again only if its model, the data or the
    sampling changed.

    Pairs are .npz files, one a patient, with arrays ct and t1, t2 or flair, uint8 (slices, rows, columns). Without an
    experiment it writes table.md, results.json and, of rendered heads whose uncertainty is told, reliability.png into
    OUT (default: nowhere, and prints the table).
    """
    alone = bool(args.cts or args.pairs or args.heads)
    if alone == bool(args.config):
        wanted = "--config FILE.yaml to judge an experiment's models, or --cts, --pairs or --heads to judge bundles"
        raise InputError(f"give {wanted}")
    return _bundles_on_heads(args) if alone else _experiment(args)


def _bundles_on_heads(args: argparse.Namespace) -> int:
    options = given(args, "steps", "samples", "scheduler", "mode")
    if "steps" in options:
        options = {"num_inference_steps": options.pop("steps"), **options}
    if not args.bundle:
        raise InputError("name what is to be judged with --bundle, such as --bundle demo")
    args.reporter.stage("loading")

    from DiffMaCore.inference.pipeline import DiffMaPipeline
    from DiffMaCore.training.evaluation import heads, tables

    silence_other_bars()
    bundles: dict[str, Any] = {}
    for name in args.bundle:
        pipe = DiffMaPipeline.from_pretrained(name)
        pipe.set_device(args.device)
        entry: dict[str, Any] = {"sha256": pipe.checksum, "target_modality": pipe.bundle.target_modality}
        if args.pairs:
            window = tuple(args.ct_window or heads.WINDOW)
            entry["pairs"] = heads.judge_pairs(pipe, args.pairs, args.reporter, window, args.pixel_mm, **options)
        if args.cts:
            entry["cts"] = heads.judge_cts(pipe, args.cts, args.reporter, **options)
        if args.heads:
            entry["heads"] = heads.judge_heads(pipe, args.heads, args.draws, args.reporter, **options)
        bundles[str(name)] = entry
    results = {"options": options, "bundles": bundles}
    text = tables.heads_markdown(results)
    if args.out:
        tables.write_heads(results, args.out)
        text += f"\nwrote {args.out / tables.TABLE}"
    answer(args, results, text)
    return 0


def _experiment(args: argparse.Namespace) -> int:
    experiment, folders = read_experiment(args)
    settings = replace(experiment.evaluation, **given(args, "steps", "samples", "scheduler"))
    experiment = replace(experiment, evaluation=settings)
    args.reporter.stage("loading")

    from DiffMaCore.training.evaluation import evaluate, tables

    silence_other_bars()
    found = evaluate(experiment, folders, args.split, args.systems, args.bundle, args.reporter, args.device)
    lines = [tables.ranking(found.results), *found.results["notes"], f"wrote {found.folder / tables.TABLE}"]
    answer(args, {"folder": str(found.folder), **found.results}, "\n".join(lines))
    return 0
