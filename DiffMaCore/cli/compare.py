"""``diffma compare``: a synthetic MRI against the true one of the same patient."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from DiffMaCore.cli.reporting import add_progress_option, answer


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="compare a synthetic MRI with the true one: SSIM, PSNR, MAE inside the body, difference map",
        description="Compare a synthetic MRI with a true MRI of the same patient that is registered to the CT. The true"
        " MRI is resampled onto the synthetic one's grid; figures are taken inside the body.",
    )
    parser.add_argument("synthetic", type=Path, metavar="SYNTHETIC", help="a synthetic MRI")
    parser.add_argument("true", type=Path, metavar="TRUE", help="the true MRI")
    parser.add_argument("--ct", type=Path, metavar="CT", help="the CT it was made from: the body is found in it")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="label volume: only voxels inside it are compared")
    parser.add_argument(
        "--difference", type=Path, metavar="FILE", help="write synthetic minus true, each normalised (-1 to 1)"
    )
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare; raises InputError where the images do not belong together."""
    reporter = args.reporter
    reporter.stage("reading")
    from DiffMaCore.imaging.reading import read_volume
    from DiffMaCore.imaging.selection import read_mask
    from DiffMaCore.imaging.writing import check_output, write_volume
    from DiffMaCore.inference.compare import DATA_RANGE, NORMALISATION, compare

    synthetic, true = (read_volume(path, modality=None).image for path in (args.synthetic, args.true))
    ct = read_volume(args.ct).image if args.ct else None
    mask = read_mask(args.mask, like=synthetic)[0] if args.mask else None
    if args.difference:
        check_output(args.difference, like=synthetic, inputs=[p for p in (args.synthetic, args.true, args.ct) if p])
    reporter.stage("comparing")
    found = compare(synthetic, true, ct, mask, reporter)
    for warning in found.warnings:
        reporter.warning(warning)
    quality = found.quality
    facts: dict[str, Any] = {
        "ssim": quality.ssim,
        "psnr_db": quality.psnr if math.isfinite(quality.psnr) else None,
        "mae": quality.mae,
        "mse": quality.mse,
        "body_voxels": found.body_voxels,
        "normalisation": NORMALISATION,
        "data_range": DATA_RANGE,
        "notes": [*found.notes, *found.warnings],
    }
    if args.difference:
        reporter.stage("writing")
        metadata = {"content": "normalised synthetic minus normalised true MRI, -1 to 1"}
        write_volume(found.difference, args.difference, like=synthetic, metadata=metadata)
        facts["difference"] = str(args.difference)
    answer(args, facts, _text(facts))
    return 0


def _text(facts: dict[str, Any]) -> str:
    psnr = "no PSNR" if facts["psnr_db"] is None else f"PSNR {facts['psnr_db']:.2f} dB"
    figures = f"SSIM {facts['ssim']:.4f}, {psnr}, MAE {facts['mae']:.4f}, MSE {facts['mse']:.5f}"
    lines = [f"{figures} in {facts['body_voxels']} voxels of the body", facts["normalisation"], *facts["notes"]]
    if "difference" in facts:
        lines.append(f"wrote {facts['difference']}")
    return "\n".join(lines)
