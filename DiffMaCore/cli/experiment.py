"""What every command on an experiment is told: its configuration, its folder and a device."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from DiffMaCore.training.experiment import Experiment, Folders


def add_experiment_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """``--config``, ``--out`` and ``--device``; ``required``: whether a command does nothing without an experiment."""
    parser.add_argument("--config", type=Path, required=required, metavar="FILE.yaml", help="the experiment")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the experiment's folder (default runs/<name>)")
    parser.add_argument(
        "--device", default="auto", help="where the networks run: auto (default), cuda, cuda:1, mps, cpu"
    )


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """DATASET and ``--split``, where data is prepared."""
    parser.add_argument("dataset", nargs="*", type=Path, metavar="DATASET", help="folders or files of paired volumes")
    parser.add_argument("--split", type=Path, metavar="FILE.json", help="a split.json to use in place of a seeded one")


def read_experiment(args: argparse.Namespace) -> tuple[Experiment, Folders]:
    """What ``--config`` holds, and where the experiment lives; imports no torch.

    Raises InputError naming the key of the file that cannot be meant.
    """
    from DiffMaCore.configuring import load_config
    from DiffMaCore.training.experiment import Experiment, experiment_folders

    experiment = load_config(args.config, Experiment)
    return experiment, experiment_folders(experiment, args.out)
