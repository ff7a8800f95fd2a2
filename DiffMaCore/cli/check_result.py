"""``diffma check-result``: whether a synthetic MRI follows the CT that it was made from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from DiffMaCore.cli.reporting import add_progress_option, answer
from DiffMaCore.errors import InputError

if TYPE_CHECKING:
    from DiffMaCore.imaging.agreement import Agreement

DESCRIPTION = """\
Say whether a synthetic MRI of a head follows the CT that it was made from. No true MRI is needed: what a CT shows
beyond doubt, fluid inside the skull, bone, and the scalp, must stand at the same place in the MRI."""

EPILOG = """\
examples:
  diffma check-result head_ct.nii.gz head_mr.nii.gz
  diffma check-result DICOM_FOLDER mr.nrrd --contrast t2 --json

how to read it:
  agreement   overlap (Dice coefficient) of what the CT and what the MR show: 1 the same voxels, 0 none in common.
              The true MRI of a rendered head reaches 0.83 to 0.89, a real one may stay lower;
              below 0.6 the MR shows another anatomy
  fluid       below 16 HU in the CT; the darkest class of the MR (the brightest in T2); not within 4 mm of bone
  skull       compact bone in the CT; darkness in the MR
  NMI         information that the two share, 1 to 2, beside that of the MR mirrored right to left: at the mirrored
              one's level the MR shows a head, and not this one
  slices      change of the MR from slice to slice over that at the same distance within a slice: about 1; far above,
              the volume flickers

It says nothing of what a CT cannot show: grey against white matter may be wrong where all of this agrees."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "check-result",
        help="say whether a synthetic MRI follows its CT: fluid, skull, scalp",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ct", type=Path, metavar="CT", help="the head CT, as for `diffma convert`")
    parser.add_argument("mr", type=Path, metavar="MR", help="the MRI made from it, on the same grid")
    parser.add_argument(
        "--contrast", choices=("t1", "t2", "flair"), help="of the MRI (default: what its file says, else t1)"
    )
    parser.add_argument("--series", metavar="S", help="which DICOM series of the CT: its number or the end of its UID")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell how well the MRI follows; returns 0 whatever the answer, raises InputError for unusable files."""
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
    facts = {**found.to_dict(), "notes": notes}
    answer(args, facts, json.dumps(facts, indent=2) if args.json else "\n".join([_text(found), *notes]))
    return 0


def _text(a: Agreement) -> str:
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
