"""``diffma bundle``: the bundles of an experiment, written anew from what is trained."""

from __future__ import annotations

import argparse

from DiffMaCore.cli.experiment import add_experiment_options, read_experiment
from DiffMaCore.cli.reporting import add_progress_option, answer

EPILOG = """\
Every training of a denoiser or a decoder ends with its bundles. This writes them anew where only what they say has
changed: the title, the card, the scale of the uncertainty, or the precision of the stored weights.

  diffma bundle --config Training/demo.yaml"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "bundle",
        help="write an experiment's bundles anew from what is trained",
        description="Write the bundles of an experiment's denoiser anew, one a contrast.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_options(parser)
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write them; raises InputError where nothing is trained."""
    experiment, folders = read_experiment(args)
    args.reporter.stage("loading")

    from DiffMaCore.training.bundling import write_bundles
    from DiffMaCore.training.cache import PairedCache

    written = write_bundles(experiment, folders, PairedCache.open(folders.data))
    answer(args, {"bundles": [str(folder) for folder in written]}, "\n".join(f"wrote {folder}" for folder in written))
    return 0
