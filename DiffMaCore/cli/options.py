"""Options that several commands share, and what is read from them: the experiment, the cluster, a dataclass."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from DiffMaCore.cli.commands import Option
from DiffMaCore.cluster import Cluster
from DiffMaCore.configuring import load_config
from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import Experiment, Folders, experiment_folders

_Options = TypeVar("_Options")

JSON = Option("--json", action="store_true", help="print JSON for machines")
SERIES = Option("--series", metavar="S", help="which DICOM series: its number or the end of its UID")
DEVICE = Option("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:1 or mps")

DATASET = (
    Option("dataset", nargs="*", type=Path, metavar="DATASET", help="folders or files of paired volumes"),
    Option("--split", type=Path, metavar="FILE.json", help="a split.json to use in place of a seeded one"),
)
PARTS = (
    Option("--vae", metavar="FOLDER|ID", help="Stable Diffusion VAE in diffusers' layout"),
    Option("--image-encoder", metavar="FOLDER|ID", help="BiomedCLIP in open_clip's layout"),
    Option(
        "--small-decoder",
        metavar="FOLDER|ID",
        help="a diffusers AutoencoderTiny for the VAE's latents, as a faster, approximate choice to its decoder; for"
        " Stable Diffusion's VAE madebyollin/taesd (default: none)",
    ),
)
CLUSTER = (
    Option(
        "--cluster",
        metavar="local|slurm|ADDRESS",
        help="share them among the workers of a Dask cluster that see the same files: on this machine, by SLURM (as"
        " ~/.config/dask/jobqueue.yaml says), or of the scheduler at tcp://HOST:PORT. Default: no workers",
    ),
    Option(
        "--workers",
        type=int,
        metavar="N",
        help="processes of --cluster local (default: one a GPU, else one) or jobs of slurm (default 1)",
    ),
)


def experiment_options(required: bool = True) -> tuple[Option, ...]:
    """``--config``, ``--out`` and ``--device``; ``required``: whether a command does nothing without an experiment."""
    return (
        Option("--config", type=Path, required=required, metavar="FILE.yaml", help="the experiment"),
        Option("--out", type=Path, metavar="FOLDER", help="the experiment's folder (default runs/<name>)"),
        DEVICE,
    )


def read_experiment(args: argparse.Namespace) -> tuple[Experiment, Folders]:
    """What ``--config`` holds, and where the experiment lives; imports no torch.

    Raises InputError naming the key of the file that cannot be meant.
    """
    experiment = load_config(args.config, Experiment)
    return experiment, experiment_folders(experiment, args.out)


def read_cluster(args: argparse.Namespace) -> Cluster | None:
    """What :data:`CLUSTER` asks for; workers without a cluster are local, and neither: Dask is not needed.

    Raises InputError where they cannot be meant.
    """
    if args.workers is not None and args.workers < 0:
        raise InputError(f"{args.workers} workers cannot work; give 1 or more, or leave --workers out")
    if args.cluster is None and not args.workers:
        return None
    if args.cluster not in (None, "local", "slurm") and args.workers is not None:
        raise InputError("the scheduler at the address of --cluster has its own workers; leave --workers out")
    return Cluster(args.cluster or "local", args.workers)


def read_into(cls: type[_Options], args: argparse.Namespace) -> _Options:
    """A dataclass of the options that have its fields' names."""
    names = [field.name for field in dataclasses.fields(cls) if hasattr(args, field.name)]  # type: ignore[arg-type]
    return cls(**{name: getattr(args, name) for name in names})


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options out of ``names`` that were given."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
