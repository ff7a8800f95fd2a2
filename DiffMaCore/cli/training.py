"""``diffma prepare``, ``train`` and ``bundle``: data sets in, cached slices, trained networks and bundles out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from DiffMaCore.cli.commands import GROUPS, Option, answer, command, silence_other_bars
from DiffMaCore.cli.options import CLUSTER, DATASET, experiment_options, read_cluster, read_experiment
from DiffMaCore.configuring import build
from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import DenoiserConfig, Experiment


@command(
    "prepare",
    *DATASET,
    *experiment_options(required=False),
    Option(
        "--template", type=Path, metavar="FOLDER", help="write a commented experiment and an example CSV there, no more"
    ),
    *CLUSTER,
)
def prepare(args: argparse.Namespace) -> int:
    """Check, slice, split and encode a data set for training.

    Paired volumes are checked, sliced as inference does, and split by patient; the VAE's latents and the image
    encoder's embeddings are computed once.

    DATASET is one or more of
      a folder of SynthRAD2023 or 2025 task 1 as it unpacks (Task1/brain, Task1/pelvis, or the patients themselves)
      the processed folders of .npy slices of the paper's authors
      a .csv that names paired volumes: columns id, centre, mask, and one for each modality, such as ct and mr
      .npz files, one a patient, with one array of slices for each modality
      nothing, where the configuration asks for phantoms

    Every case is checked (grids, HU, NaN, registration) and what is left out is named, with the reason, in report.md.
    Patients, never slices, are split into train, validation and test, centre by centre, by the experiment's seed; the
    split stands in split.json. The slices are laid as `diffma convert` lays them.
    Stopped at any moment, the same command goes on with the next case; a changed configuration makes again what it
    changes, and says so.

    examples:
      diffma prepare Task1/brain --config Training/brain.yaml
      diffma prepare pairs.csv --config mine.yaml --out /data/mine --cluster local --workers 4
      diffma prepare brain_*.npz --config mine.yaml --split split.json    whose patients train and test is given
      diffma prepare --config Training/heads.yaml                         rendered heads, no data set needed
    """
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
        experiment, folders, args.dataset, args.reporter, device=args.device, split_file=args.split, cluster=cluster
    )
    counts = {name: len(ids) for name, ids in cache.split.items()}
    left_out = cache.manifest["left_out"]
    slices = sum(case["slices"] for case in cache.manifest["cases"])
    facts = {"folder": str(folders.data), "cases": counts, "slices": slices, "left_out": left_out}
    cases = ", ".join(f"{count} {name}" for name, count in counts.items())
    text = (
        f"{slices} slices of {sum(counts.values())} cases ({cases}); {len(left_out)} left out\n"
        f"read {folders.data / 'report.md'}; next: diffma train embedder --config {args.config}"
    )
    answer(args, {**facts, "fingerprint": cache.fingerprint}, text + (f" --out {args.out}" if args.out else ""))
    return 0


EXAMPLES = """\
The data of the experiment is prepared before (diffma prepare), and the embedder is trained before a denoiser:

  diffma train autoencoder --config demo.yaml                where the experiment makes its own networks; then
  diffma train image-encoder --config demo.yaml              diffma prepare again
  diffma train embedder --config brain.yaml
  diffma train denoiser --config brain.yaml                  the backbone that the configuration names
  diffma train denoiser --config brain.yaml --backbone vim   another model of Table 2
  diffma train denoiser --config brain.yaml --steps 300000   longer: goes on from where it had ended

Stopped by Ctrl-C, SIGTERM, a power cut or a full disk, the same command goes on from the last checkpoint, with the
losses it would have had.

On several GPUs or nodes, with the same batch_size over all of them (Training/slurm.sh has a whole example):

  accelerate launch --multi_gpu --num_processes 4 -m DiffMaCore train denoiser --config brain.yaml"""

GROUPS["train"] = (
    f"Train a denoiser of an experiment, or a network around it, on prepared data; research only.\n\n{EXAMPLES}"
)

NETWORKS = {
    "autoencoder": "the image autoencoder, where parts.vae is `trained`",
    "image-encoder": "the image encoder, as CLIP is trained, where parts.image_encoder is `trained`",
    "embedder": "the Vision Embedder, by contrast of slices (InfoNCE)",
    "denoiser": "a model: diffusion in the latents, or the 2.5D regression",
    "guided-decoder": "the decoder that sees the CT as well, for a denoiser with a mean mode",
    "joint": "denoiser and guided decoder, both trained already, on together by the image that they make",
    "small-decoder": "a small decoder that gives what the VAE's gives, in less time",
}


def train(args: argparse.Namespace) -> int:
    """Train the network ``args.what`` on the experiment's prepared data, and answer where it is."""
    experiment, folders = read_experiment(args)
    experiment = _changed(experiment, args)
    if not folders.data.is_dir():  # said before torch is loaded
        raise InputError(
            f"the experiment's data is not prepared, {folders.data} is missing; run `diffma prepare` with the same"
            " configuration first"
        )
    args.reporter.stage("loading")

    from DiffMaCore.devices import keep_freed_memory
    from DiffMaCore.training.tasks import train_part

    keep_freed_memory()
    silence_other_bars()
    folder = train_part(experiment, folders, args.what, args.reporter, args.device, args.words)
    result = folder / ("bundle" if (folder / "bundle").is_dir() else "model")
    answer(args, {"run": str(folder), "result": str(result)}, f"{result} is ready; {folder / 'run.json'} tells of it")
    return 0


STEPS = Option("--steps", type=int, metavar="N", help="train for N steps, whatever the configuration says")
BACKBONE = Option("--backbone", metavar="NAME", help="another model than the configuration's, such as vim")
for name, text in NETWORKS.items():
    special = (BACKBONE,) if name == "denoiser" else ()
    page = f"Train {text}.\n\n{EXAMPLES}"
    command(f"train {name}", *special, *experiment_options(), STEPS, page=page, what=name)(train)


def _changed(experiment: Experiment, args: argparse.Namespace) -> Experiment:
    """The experiment with the options in place of what the file says."""
    name = args.what.replace("-", "_")
    part = getattr(experiment, name)
    if getattr(args, "backbone", None):
        backbone = build(DenoiserConfig, {"backbone": args.backbone}, "--backbone").backbone
        part = replace(part, backbone=backbone)
    if args.steps is not None:
        if args.steps < 1:
            raise InputError(f"{args.steps} steps cannot work; give at least 1 or leave --steps out")
        part = replace(part, train=replace(part.train, steps=args.steps))
    return replace(experiment, **{name: part})


@command("bundle", *experiment_options())
def bundle(args: argparse.Namespace) -> int:
    """Write the bundles of an experiment's denoiser anew from what is trained, one a contrast.

    Every training of a denoiser or a decoder ends with its bundles. This writes them anew where only what they say has
    changed: the title, the card, the scale of the uncertainty, or the precision of the stored weights.

      diffma bundle --config Training/demo.yaml
    """
    experiment, folders = read_experiment(args)
    args.reporter.stage("loading")

    from DiffMaCore.training.bundling import write_bundles
    from DiffMaCore.training.cache import PairedCache

    silence_other_bars()
    written = write_bundles(experiment, folders, PairedCache.open(folders.data))
    answer(args, {"bundles": [str(folder) for folder in written]}, "\n".join(f"wrote {folder}" for folder in written))
    return 0
