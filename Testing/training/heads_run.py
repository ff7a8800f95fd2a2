"""A tiny experiment of rendered heads: one trains, one validates, two contrasts, every network its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from DiffMaCore.training.experiment import (
    AutoencoderConfig,
    CardConfig,
    DataConfig,
    DenoiserConfig,
    EmbedderConfig,
    EvaluationConfig,
    Experiment,
    GuidedDecoderConfig,
    HeadsConfig,
    ImageEncoderConfig,
    JointConfig,
    PartsConfig,
    SmallDecoderConfig,
    TrainConfig,
)
from Testing.heads import TRAINING_HEAD

_TRAIN = TrainConfig(steps=2, batch_size=4, precision="fp32", log_every=1, sample_every=2, checkpoint_every=2)


def heads_folder(root: Path) -> Path:
    """A folder of label maps that holds one."""
    folder = root / "heads"
    folder.mkdir(exist_ok=True)
    (folder / TRAINING_HEAD.name).symlink_to(TRAINING_HEAD)
    return folder


def heads_data(root: Path) -> DataConfig:
    """32 pixels of 7 mm; a volume has 13 slices, and is replaced after about as many rows."""
    heads = HeadsConfig(str(heads_folder(root)), draws=1, slice_spacing=14.0, slice_shows=0.5, pool=2)
    return DataConfig(
        anatomy="brain",
        image_size=32,
        pixel_spacing=7.0,
        contrasts=("t1", "t2"),
        neighbour_distance=7.0,
        hu_windows=((-1000.0, 1200.0), (-150.0, 250.0), (-10.0, 80.0)),
        heads=heads,
    )


def heads_experiment(root: Path) -> Experiment:
    """Latents of 4 x 8 x 8, patch 2, width 32; every training takes two steps."""
    return Experiment(
        name="tiny",
        title="TINY head CT to {contrast}",
        data=heads_data(root),
        card=CardConfig("One rendered head.", "MIT", "Untrained."),
        demo=True,
        parts=PartsConfig("trained", "trained"),
        autoencoder=AutoencoderConfig(latent_channels=4, channels=8, blocks=1, train=_TRAIN),
        image_encoder=ImageEncoderConfig(width=32, layers=1, head_width=16, train=_TRAIN),
        embedder=EmbedderConfig(mask_hidden=8, train=_TRAIN),
        denoiser=DenoiserConfig(
            width=32,
            depth=2,
            state_size=4,
            ct_conditioning="pixels",
            mean_share=0.5,
            prediction_type="v_prediction",
            train=_TRAIN,
        ),
        guided_decoder=GuidedDecoderConfig(channels=(8, 8, 16), blocks=1, error_channels=(8, 8, 8), train=_TRAIN),
        joint=JointConfig(train=_TRAIN),
        small_decoder=SmallDecoderConfig(channels=8, blocks=(1, 1, 1), train=_TRAIN),
        evaluation=EvaluationConfig(steps=2, samples=2, bootstrap=20),
        systems=("diffma", "unet", "regression"),
    )


def write_config(path: Path, experiment: Experiment) -> Path:
    """The experiment as a YAML file."""
    path.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(experiment)))), encoding="utf-8")
    return path
