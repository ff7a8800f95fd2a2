"""``diffma check``: what a volume is, and whether a model can convert it; nothing is converted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from DiffMaCore.cli.reporting import add_progress_option, answer


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "check",
        help="say whether a volume is one that a model can convert",
        description="Say what a volume is: size, spacing, HU range, the body in it, and why it may not be a fit CT.",
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="as for `diffma convert`")
    parser.add_argument("--series", metavar="S", help="which DICOM series: its number or the end of its UID")
    parser.add_argument(
        "--model",
        default="demo",
        metavar="NAME|FOLDER",
        help="whose kind of volume and body part is asked for (default: the bundled demo)",
    )
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell what the volume is; returns 1 for one that the model cannot convert."""
    from DiffMaCore.bundles import store
    from DiffMaCore.bundles.config import read_config

    config = read_config(store.resolve(args.model))
    args.reporter.stage("reading")
    from DiffMaCore.imaging.checks import describe_source
    from DiffMaCore.imaging.reading import read_volume

    volume = read_volume(args.input, args.series, modality="CT" if config.takes_ct else None)
    args.reporter.stage("checking")
    facts = describe_source(volume.image, config.anatomy, config.takes_ct)
    facts = {**facts, "notes": [*volume.notes, *facts["notes"]], "resampled": volume.resampled}
    if config.takes_ct and facts["source_problem"] is None:
        from DiffMaCore.imaging.checks import check_ct
        from DiffMaCore.imaging.training_range import training_words

        facts["training_words"] = training_words(check_ct(volume.image)[0], config.trained_on)[0]
    facts.update(model=config.name, anatomy=config.anatomy, source_modality=config.source_modality)
    answer(args, facts, _text(facts))
    return 1 if facts["source_problem"] else 0


def _text(facts: dict[str, Any]) -> str:
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
