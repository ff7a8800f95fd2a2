"""``--cluster`` and ``--workers``: who does the volumes or cases of a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from DiffMaCore.errors import InputError

if TYPE_CHECKING:
    from DiffMaCore.cluster import Cluster


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Both options; without them this process does all, one after the other, and Dask is not needed."""
    parser.add_argument(
        "--cluster",
        metavar="local|slurm|ADDRESS",
        help="share them among the workers of a Dask cluster that see the same files: on this machine, by SLURM (as"
        " ~/.config/dask/jobqueue.yaml says), or of the scheduler at tcp://HOST:PORT. Default: no workers",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes of --cluster local (default: one a GPU, else one) or jobs of slurm (default 1)",
    )


def read_cluster(args: argparse.Namespace) -> Cluster | None:
    """What the options ask for; workers without a cluster are local. Raises InputError where they cannot be meant."""
    if args.workers is not None and args.workers < 0:
        raise InputError(f"{args.workers} workers cannot work; give 1 or more, or leave --workers out")
    if args.cluster is None and not args.workers:
        return None
    if args.cluster not in (None, "local", "slurm") and args.workers is not None:
        raise InputError("the scheduler at the address of --cluster has its own workers; leave --workers out")
    from DiffMaCore.cluster import Cluster

    return Cluster(args.cluster or "local", args.workers)
