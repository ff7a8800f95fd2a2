"""A whole prepared experiment in a second: tiny random networks, five head phantoms of 32 pixels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from diffusers import AutoencoderKL

from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.training.experiment import (
    CardConfig,
    DataConfig,
    DenoiserConfig,
    EmbedderConfig,
    EvaluationConfig,
    Experiment,
    Folders,
    PartsConfig,
    TrainConfig,
)
from DiffMaCore.training.prepare import prepare_cases
from DiffMaCore.training.sources.case import RawCase, RawPair
from Testing.heads import rendered

SPLIT = {"train": ["head_0", "head_1", "head_2"], "validation": ["head_3"], "test": ["head_4"]}
_TRAIN = TrainConfig(steps=4, batch_size=4, precision="fp32", log_every=1, sample_every=4, checkpoint_every=2)


def make_tiny_cache(root: Path, **changes: Any) -> tuple[Experiment, Folders]:
    """Prepare the experiment of :func:`tiny_experiment` in ``root / "run"``."""
    experiment = tiny_experiment(root, **changes)
    folders = Folders(root / "run")
    prepare_cases(experiment, folders, tiny_cases(experiment.data.source), SPLIT, device="cpu")
    return experiment, folders


def tiny_experiment(root: Path, **changes: Any) -> Experiment:
    """Latents of 4 x 8 x 8, patch 2, width 32; ``changes`` replace fields of it. Its networks go to ``root``."""
    make_tiny_parts(root / "networks")
    experiment = Experiment(
        name="tiny",
        title="TINY untrained networks (for tests)",
        data=DataConfig(
            anatomy="brain",
            image_size=32,
            pixel_spacing=7.0,
            hu_windows=((-1000.0, 1000.0), (-150.0, 250.0), (-20.0, 80.0)),
        ),
        card=CardConfig("Five head phantoms.", "MIT", "Untrained."),
        demo=True,
        parts=PartsConfig(str(root / "networks" / "vae"), str(root / "networks" / "image_encoder")),
        embedder=EmbedderConfig(mask_hidden=8, train=_TRAIN),
        denoiser=DenoiserConfig(width=32, depth=2, patch_size=2, state_size=4, train=_TRAIN),
        evaluation=EvaluationConfig(steps=2, samples=2, bootstrap=50),
    )
    return replace(experiment, **changes)


def make_tiny_parts(folder: Path) -> None:
    """A VAE of factor 4 and an image encoder of width 32, random, in ``vae`` and ``image_encoder``."""
    if (folder / "image_encoder" / "config.json").is_file():
        return
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=1.0,
    )
    vae.save_pretrained(folder / "vae")
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    ImageEncoder(32, vision).save_pretrained(folder / "image_encoder")


def tiny_cases(source: str = "ct") -> list[RawCase]:
    """Five head phantoms as cases of two centres, without files."""
    return [RawCase(f"head_{k}", "AB"[k % 2], partial(tiny_pair, k, source)) for k in range(5)]


def tiny_pair(seed: int, source: str = "ct") -> RawPair:
    """CT and MR (the MR first where the CT is not the ``source``) and mask of a head phantom of 32 x 32 x 15 voxels."""
    phantom = rendered(seed, (7.0, 7.0, 14.0), (32, 32, 15))
    body = sitk.GetImageFromArray(phantom.body.astype("uint8"))
    ct = sitk.Cast(phantom.ct_image(), sitk.sitkFloat32)
    body.CopyInformation(ct)
    mr = phantom.mr_image()
    return RawPair(ct, mr, body) if source == "ct" else RawPair(mr, ct, body)
