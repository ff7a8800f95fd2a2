"""``diffma check``, ``check-result``, ``compare``, ``export-dicom``: volumes in, what they are, how well they agree, or
a DICOM series out."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore.bundles.config import read_config
from DiffMaCore.cli.commands import Option, answer, command
from DiffMaCore.cli.options import JSON, SERIES
from DiffMaCore.errors import InputError

if TYPE_CHECKING:
    from DiffMaCore.imaging.agreement import Agreement


@command(
    "check",
    Option("input", type=Path, metavar="INPUT", help="as for `diffma convert`"),
    SERIES,
    Option(
        "--model",
        default="demo",
        metavar="NAME|FOLDER",
        help="whose kind of volume and body part is asked for (default: the bundled demo)",
    ),
)
def check(args: argparse.Namespace) -> int:
    """Say whether a volume is one that a model can convert.

    It names the size, spacing, HU range, the body in it, and why it may not be a fit CT; nothing is converted. The exit
    status is 1 for a volume that the model cannot convert.
    """
    from DiffMaCore.bundles import store

    config = read_config(store.resolve(args.model))
    args.reporter.stage("reading")
    from DiffMaCore.imaging.checks import check_ct, describe_source
    from DiffMaCore.imaging.reading import read_volume
    from DiffMaCore.imaging.training_range import training_words

    volume = read_volume(args.input, args.series, modality="CT" if config.takes_ct else None)
    args.reporter.stage("checking")
    facts = describe_source(volume.image, config.anatomy, config.takes_ct)
    facts = {**facts, "notes": [*volume.notes, *facts["notes"]], "resampled": volume.resampled}
    if config.takes_ct and facts["source_problem"] is None:
        facts["training_words"] = training_words(check_ct(volume.image)[0], config.trained_on)[0]
    facts.update(model=config.name, anatomy=config.anatomy, source_modality=config.source_modality)
    answer(args, facts, _volume_text(facts))
    return 1 if facts["source_problem"] else 0


def _volume_text(facts: dict[str, Any]) -> str:
    size, spacing = (" x ".join(f"{n:g}" for n in facts[key]) for key in ("size", "spacing_mm"))
    lines = [f"{size} voxels of {spacing} mm"]
    if facts["hu_range"]:
        lines.append("values from {:g} to {:g}".format(*facts["hu_range"]))
    if facts["body_mm"]:
        lines.append("body {:g} mm right-left, {:g} mm front-back, {:g} mm head-foot".format(*facts["body_mm"]))
    if facts["source_modality"] == "CT":
        lines.append("a CT in HU" if facts["looks_like_ct"] else f"NOT a CT in HU: {facts['problem']}")
    else:
        problem = facts["source_problem"]
        lines.append(f"NOT for this model: {problem}" if problem else f"an MRI ({facts['source_modality']} is wanted)")
    if "training_words" in facts:
        lines.append(facts["training_words"])
    return "\n".join([*lines, *facts["notes"], *facts["anatomy_notes"]])


@command(
    "check-result",
    Option("ct", type=Path, metavar="CT", help="the head CT, as for `diffma convert`"),
    Option("mr", type=Path, metavar="MR", help="the MRI made from it, on the same grid"),
    Option("--contrast", choices=("t1", "t2", "flair"), help="of the MRI (default: what its file says, else t1)"),
    SERIES,
    JSON,
)
def check_result(args: argparse.Namespace) -> int:
    """Say whether a synthetic MRI of a head follows its CT: fluid, skull, scalp.

    No true MRI is needed: what a CT shows beyond doubt, fluid inside the skull, bone, and the scalp, must stand at the
    same place in the MRI. The exit status is 0 whatever the answer.

    examples:
      diffma check-result head_ct.nii.gz head_mr.nii.gz
      diffma check-result DICOM_FOLDER mr.nrrd --contrast t2 --json

    how to read it:
      agreement   overlap (Dice coefficient) of what the CT and what the MR show: 1 the same voxels, 0 none in common.
                  The true MRI of a rendered head reaches 0.83 to 0.89, a real one may stay lower;
                  below 0.6 the MR shows another anatomy
      fluid       below 16 HU in the CT; the darkest class of the MR (the brightest in T2); not within 4 mm of bone
      skull       compact bone in the CT; darkness in the MR
      NMI         information that the two share, 1 to 2, and that of the MR mirrored right to left: at the mirrored
                  one's level the MR shows a head, and not this one
      slices      change of the MR from slice to slice over that at the same distance within a slice: about 1; far
                  above, the volume flickers

    It says nothing of what a CT cannot show: grey against white matter may be wrong where all of this agrees.
    """
    args.reporter.stage("reading")
    from DiffMaCore.imaging.agreement import agreement
    from DiffMaCore.imaging.checks import check_ct
    from DiffMaCore.imaging.reading import read_volume
    from DiffMaCore.imaging.writing import written_modality

    modality = args.contrast or written_modality(args.mr) or "t1"
    if modality == "CT":
        raise InputError(f"{args.mr} is a synthetic CT; only MRIs can be judged by their CT")
    volume = read_volume(args.ct, args.series)
    ct, notes = check_ct(volume.image)
    mr = read_volume(args.mr, modality=None).image
    args.reporter.stage("comparing")
    found = agreement(ct, mr, modality)
    notes = [*volume.notes, *notes]
    answer(args, {**found.to_dict(), "notes": notes}, "\n".join([_agreement_text(found), *notes]))
    return 0


def _agreement_text(a: Agreement) -> str:
    from DiffMaCore.imaging.agreement import agreement_words

    change = "" if a.csf_volume_error is None else f" ({100 * a.csf_volume_error:+.0f} %)"
    lines = [
        agreement_words(a),
        f"fluid    {a.csf_ct_ml:.0f} ml in the CT, {a.csf_mr_ml:.0f} ml in the MR{change}, of"
        f" {a.intracranial_ml:.0f} ml inside the skull",
        f"scalp    {_mm(a.scalp_ct_mm)} in the CT, {_mm(a.scalp_mr_mm)} in the MR",
        f"NMI      {a.nmi:.3f}, of the mirrored MR {a.nmi_mirrored:.3f}",
        "slices   " + ("only one" if a.slice_change is None else f"change of {a.slice_change:.2f} (about 1 is right)"),
        f"contrast {a.contrast.upper()}",
    ]
    if a.hu_shift:
        lines.append(f"The brain of this CT lies {a.hu_shift:+.0f} HU beyond what is usual: fluid was sought there.")
    return "\n".join(lines)


def _mm(value: float | None) -> str:
    return "not to be measured" if value is None else f"{value:.1f} mm"


@command(
    "compare",
    Option("synthetic", type=Path, metavar="SYNTHETIC", help="a synthetic MRI"),
    Option("true", type=Path, metavar="TRUE", help="the true MRI"),
    Option("--ct", type=Path, metavar="CT", help="the CT it was made from: the body is found in it"),
    Option("--mask", type=Path, metavar="FILE", help="label volume: only voxels inside it are compared"),
    Option("--difference", type=Path, metavar="FILE", help="write synthetic minus true, each normalised (-1 to 1)"),
)
def compare(args: argparse.Namespace) -> int:
    """Compare a synthetic MRI with the true one: SSIM, PSNR, MAE inside the body, difference map.

    The true MRI is one of the same patient that is registered to the CT. It is resampled onto the synthetic one's grid;
    the metrics are taken inside the body.
    """
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
    quality, psnr = found.quality, found.quality.psnr if math.isfinite(found.quality.psnr) else None
    facts: dict[str, Any] = {
        "ssim": quality.ssim,
        "psnr_db": psnr,
        "mae": quality.mae,
        "mse": quality.mse,
        "body_voxels": found.body_voxels,
        "normalisation": NORMALISATION,
        "data_range": DATA_RANGE,
        "notes": [*found.notes, *found.warnings],
    }
    lines = [
        f"SSIM {quality.ssim:.4f}, {'no PSNR' if psnr is None else f'PSNR {psnr:.2f} dB'}, MAE {quality.mae:.4f}, "
        f"MSE {quality.mse:.5f} in {found.body_voxels} voxels of the body",
        NORMALISATION,
        *facts["notes"],
    ]
    if args.difference:
        reporter.stage("writing")
        metadata = {"content": "normalised synthetic minus normalised true MRI, -1 to 1"}
        write_volume(found.difference, args.difference, like=synthetic, metadata=metadata)
        facts["difference"] = str(args.difference)
        lines.append(f"wrote {args.difference}")
    answer(args, facts, "\n".join(lines))
    return 0


PROVENANCE = (
    "notice", "model", "model_title", "model_size", "model_sha256", "source_modality", "target_modality",
    "output_units", "mode", "steps", "scheduler", "seed", "samples", "decoder", "batch_size", "device", "scan_backend",
    "precision", "scan_order", "software", "training_words", "agreement_words",
)  # fmt: skip
"""What is written of a result event: how an image was made; its paths stay out, since they may hold names."""


@command(
    "export-dicom",
    Option("volume", type=Path, metavar="VOLUME", help="a synthetic MRI (.nii.gz, .nii, .nrrd or .mha)"),
    Option("folder", type=Path, metavar="FOLDER", help="new, empty, or holding an earlier export"),
    Option(
        "--source",
        type=Path,
        metavar="FOLDER|LIST",
        help="the CT's DICOM files, or a .txt with one path a line: patient, study and frame of reference are taken"
        " from them, and they are referenced; without it the series is anonymous",
    ),
    SERIES,
    Option(
        "--metadata", type=Path, metavar="FILE", help="JSON object that tells how it was made, such as a result event"
    ),
)
def export_dicom(args: argparse.Namespace) -> int:
    """Write a synthetic MRI as a derived DICOM series (DERIVED, SECONDARY, synthetic, research only)."""
    metadata = _metadata(args.metadata) if args.metadata else None
    if metadata and metadata.get("target_modality") == "CT":
        raise InputError(f"{args.volume} is a synthetic CT, and only MRIs are written as DICOM; keep the file as it is")
    args.reporter.stage("reading")
    from DiffMaCore.imaging.dicom_writing import check_source, write_dicom_series
    from DiffMaCore.imaging.reading import read_dicom_source, read_volume
    from DiffMaCore.imaging.writing import check_output

    image = read_volume(args.volume).image
    source = read_dicom_source(args.source, args.series) if args.source else None
    if source is not None:
        check_source(image, source)
    check_output(args.folder, like=image, inputs=[args.source] if args.source else [])
    args.reporter.stage("writing")
    write_dicom_series(image, args.folder, source=source, metadata=metadata)
    files = len(list(args.folder.glob("*.dcm")))
    text = f"wrote {files} files into {args.folder} (a synthetic image, research only)"
    answer(args, {"folder": str(args.folder), "files": files, "anonymous": source is None}, text)
    return 0


def _metadata(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a file with one JSON object") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; give one such as the result of a conversion")
    return {key: content[key] for key in PROVENANCE if key in content}
