"""``diffma export-dicom``: a synthetic MRI in, a derived DICOM series that says what it is out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from DiffMaCore.cli.commands import Option, answer, command
from DiffMaCore.cli.options import SERIES
from DiffMaCore.errors import InputError

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
