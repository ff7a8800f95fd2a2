"""``diffma phantom``: a head rendered from real anatomy to try things on, free of any patient's scan."""

from __future__ import annotations

import argparse
from pathlib import Path

from DiffMaCore.cli.reporting import add_progress_option, answer

METADATA = {
    "content": "rendered head phantom",
    "notice": "Rendered from a label map of a head, no patient's scan; research only",
}
CONTRASTS = ("t1", "t2", "flair")  # phantom.signal.CONTRASTS, which takes a second to import


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "phantom",
        help="render a head phantom: CT, and MRI if you like",
        description="Render a head of real anatomy: a CT, and the MRI of the same head (no patient's scan).",
    )
    parser.add_argument("ct", type=Path, metavar="CT", help="the CT to write (.nii.gz, .nii, .nrrd or .mha)")
    parser.add_argument("--mr", type=Path, metavar="FILE", help="also write its MRI")
    parser.add_argument("--contrast", choices=CONTRASTS, default="t1", help="of the MRI (default t1)")
    parser.add_argument("--seed", type=int, default=1, help="which head (default 1); the same seed gives the same head")
    parser.add_argument(
        "--head", metavar="NAME", help="one of the heads that come along, or a label map; without it the seed picks"
    )
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the phantom; raises OutputError where it cannot be written."""
    from DiffMaCore.errors import InputError

    if args.seed < 0:
        raise InputError(f"seed is {args.seed}; it must be 0 or more")
    args.reporter.stage("making a phantom")
    from DiffMaCore.imaging.phantom import head_phantom
    from DiffMaCore.imaging.writing import check_output, write_volume

    phantom = head_phantom(args.seed, head=args.head)
    images = {"ct": (args.ct, phantom.ct_image())}
    if args.mr:
        images["mr"] = (args.mr, phantom.mr_image(args.contrast))
    for path, image in images.values():
        check_output(path, like=image, n_volumes=len(images))
    args.reporter.stage("writing")
    for path, image in images.values():
        write_volume(image, path, like=image, metadata=METADATA)
    facts = {name: str(path) for name, (path, _) in images.items()}
    shape = list(phantom.ct.shape)
    wrote = " and ".join(facts.values())
    facts_of_head = {"seed": args.seed, "head": phantom.head, "shape": shape, "spacing_mm": list(phantom.spacing)}
    if args.mr:
        facts_of_head["contrast"] = args.contrast
    answer(args, {**facts, **facts_of_head}, f"wrote {wrote} (a rendered head, no patient's scan; research only)")
    return 0
