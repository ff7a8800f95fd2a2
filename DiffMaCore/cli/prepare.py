"""``diffma prepare``: a data set on disk to what the training commands read."""

from __future__ import annotations

import argparse
from pathlib import Path

from DiffMaCore.cli.cluster import add_cluster_options, read_cluster
from DiffMaCore.cli.experiment import add_dataset_options, add_experiment_options, read_experiment
from DiffMaCore.cli.reporting import add_progress_option, answer
from DiffMaCore.errors import InputError

EPILOG = """\
DATASET is one or more of
  a folder of SynthRAD2023 or 2025 task 1 as it unpacks (Task1/brain, Task1/pelvis, or the patients themselves)
  the processed folders of .npy slices of the paper's authors
  a .csv that names paired volumes: columns id, centre, mask, and one for each modality, such as ct and mr
  .npz files, one a patient, with one array of slices for each modality
  nothing, where the configuration asks for phantoms

Every case is checked (grids, HU, NaN, registration) and what is left out is named, with the reason, in report.md.
Patients, never slices, are split into train, validation and test, centre by centre, by the experiment's seed; the
split stands in split.json. The slices are laid as `diffma convert` lays them, and VAE and image encoder run once.
Stopped at any moment, the same command goes on with the next case; a changed configuration makes again what it
changes, and says so.

examples:
  diffma prepare Task1/brain --config Training/brain.yaml
  diffma prepare pairs.csv --config mine.yaml --out /data/mine --cluster local --workers 4
  diffma prepare brain_*.npz --config mine.yaml --split split.json    whose patients train and test is given
  diffma prepare --config Training/heads.yaml                         rendered heads, no data set needed"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="check, slice, split and encode a data set for training",
        description="Check a data set of paired volumes, slice it as inference does, split it by patient, and compute"
        " the VAE's latents and the image encoder's embeddings once.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_dataset_options(parser)
    add_experiment_options(parser, required=False)
    parser.add_argument(
        "--template", type=Path, metavar="FOLDER", help="write a commented experiment and an example CSV there, no more"
    )
    add_cluster_options(parser)
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare; raises InputError before long work for what cannot be used."""
    if args.template is not None:
        from DiffMaCore.training.experiment import write_template

        written = [str(path) for path in write_template(args.template)]
        answer(args, {"written": written}, "wrote " + " and ".join(written))
        return 0
    if args.config is None:
        raise InputError("no experiment is given; name it with --config, or write one with --template FOLDER")
    experiment, folders = read_experiment(args)
    cluster = read_cluster(args)
    args.reporter.stage("loading")

    from DiffMaCore.training.prepare import prepare

    cache = prepare(
        experiment,
        folders,
        args.dataset,
        args.reporter,
        device=args.device,
        split_file=args.split,
        cluster=cluster,
    )
    counts = {name: len(ids) for name, ids in cache.split.items()}
    left_out = cache.manifest["left_out"]
    slices = sum(case["slices"] for case in cache.manifest["cases"])
    facts = {"folder": str(folders.data), "cases": counts, "slices": slices, "left_out": left_out}
    cases = ", ".join(f"{count} {name}" for name, count in counts.items())
    lines = [
        f"{slices} slices of {sum(counts.values())} cases ({cases}); {len(left_out)} left out",
        f"read {folders.data / 'report.md'}; next: diffma train embedder --config {args.config}"
        + (f" --out {args.out}" if args.out else ""),
    ]
    answer(args, {**facts, "fingerprint": cache.fingerprint}, "\n".join(lines))
    return 0
