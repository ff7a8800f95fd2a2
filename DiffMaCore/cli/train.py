"""``diffma train``: the Vision Embedder, then one system of the experiment; stopped and gone on at any time."""

from __future__ import annotations

import argparse
from typing import Any

from DiffMaCore.cli.experiment import add_experiment_options, read_experiment
from DiffMaCore.cli.reporting import add_progress_option, answer
from DiffMaCore.errors import InputError

EXPLANATION = """\
The data of the experiment is prepared before (diffma prepare), and the embedder is trained before a denoiser:

  diffma train autoencoder --config demo.yaml                where the experiment makes its own networks; then
  diffma train image-encoder --config demo.yaml              diffma prepare again
  diffma train embedder --config brain.yaml
  diffma train denoiser --config brain.yaml                  the backbone that the configuration names
  diffma train denoiser --config brain.yaml --backbone vim   another system of Table 2
  diffma train denoiser --config brain.yaml --steps 300000   longer: goes on from where it had ended

Stopped by Ctrl-C, SIGTERM, a power cut or a full disk, the same command goes on from the last checkpoint, with the
losses it would have had.

On several GPUs or nodes, with the same batch_size over all of them (Training/slurm.sh has a whole example):

  accelerate launch --multi_gpu --num_processes 4 -m DiffMaCore train denoiser --config brain.yaml"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a denoiser of an experiment, or a network around it",
        description="Train a part of an experiment on its prepared data; research only.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(title="what to train", metavar="WHAT", dest="what", required=True)
    texts = {
        "autoencoder": "the image autoencoder, where parts.vae is `trained`",
        "image-encoder": "the image encoder, as CLIP is trained, where parts.image_encoder is `trained`",
        "embedder": "the Vision Embedder, by contrast of slices (InfoNCE)",
        "denoiser": "a system: diffusion in the latents, or the 2.5D regression",
        "guided-decoder": "the decoder that sees the CT as well, for a denoiser with a mean mode",
        "small-decoder": "a small decoder that gives what the VAE's gives, in less time",
    }
    for name, text in texts.items():
        kind = kinds.add_parser(
            name,
            help=text,
            description=f"Train {text}.",
            epilog=EXPLANATION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "denoiser":
            kind.add_argument("--backbone", metavar="NAME", help="another system than the configuration's, such as vim")
        add_experiment_options(kind)
        kind.add_argument("--steps", type=int, metavar="N", help="train for N steps, whatever the configuration says")
        add_progress_option(kind)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    experiment, folders = read_experiment(args)
    experiment = _changed(experiment, args)
    if not folders.data.is_dir():  # told before torch is loaded
        raise InputError(
            f"the experiment's data is not prepared, {folders.data} is missing; run `diffma prepare` with the same"
            " configuration first"
        )
    args.reporter.stage("loading")

    from DiffMaCore.devices import keep_freed_memory
    from DiffMaCore.training.tasks import train_part

    keep_freed_memory()
    folder = train_part(experiment, folders, args.what, args.reporter, args.device, args.words)
    result = folder / ("bundle" if (folder / "bundle").is_dir() else "model")
    answer(args, {"run": str(folder), "result": str(result)}, f"{result} is ready; {folder / 'run.json'} tells of it")
    return 0


def _changed(experiment: Any, args: argparse.Namespace) -> Any:
    """The experiment with the options in place of what the file says."""
    from dataclasses import replace

    from DiffMaCore.configuring import build
    from DiffMaCore.training.experiment import DenoiserConfig

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
