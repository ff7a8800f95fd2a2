"""A prepared tiny experiment with systems that were never trained: what `diffma evaluate` finds after training."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from DiffMaCore.baselines.registry import build_denoiser, build_regression
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.bundling import build_pipeline
from DiffMaCore.training.cache import PairedCache, pixel_channels
from DiffMaCore.training.experiment import Experiment, Folders
from Testing.training.tiny_cache import make_tiny_cache


def make_tiny_systems(root: Path) -> tuple[Experiment, Folders, Path]:
    """Experiment, folders and configuration file; DiffMa, DiT and the regression lie where training leaves them."""
    experiment, folders = make_tiny_cache(root)
    cache = PairedCache.open(folders.data)
    for seed, backbone in enumerate(("diffma", "dit")):
        put_bundle(experiment, folders, cache, backbone, seed)
    torch.manual_seed(3)
    model = build_regression(pixel_channels(cache.data), cache.data.image_size, 20_000)
    model.save_pretrained(folders.system("regression") / "model")
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(plain(experiment)), encoding="utf-8")
    return experiment, folders, config


def put_bundle(experiment: Experiment, folders: Folders, cache: PairedCache, backbone: str, seed: int) -> None:
    """A bundle of random weights in the place of a trained one."""
    torch.manual_seed(seed)
    sizes = experiment.denoiser
    denoiser = build_denoiser(
        backbone,
        latent_size=cache.latent_shape[-1],
        patch_size=sizes.patch_size,
        width=sizes.width,
        depth=sizes.depth,
        state_size=sizes.state_size,
    )
    for parameter in denoiser.parameters():
        if parameter.ndim > 1 and not parameter.any():  # zero gates would make every system the same
            torch.nn.init.normal_(parameter, std=0.05)
    embedder = VisionEmbedder(latent_size=cache.latent_shape[-1], patch_size=sizes.patch_size, width=sizes.width)
    pipe = build_pipeline(experiment, cache, embedder, denoiser, backbone)
    pipe.save_pretrained(folders.system(backbone) / "bundle")


def plain(value: object) -> object:
    """A configuration as YAML holds it."""
    from dataclasses import fields, is_dataclass

    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
