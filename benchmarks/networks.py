"""Names and sizes in, networks of the true architectures with random weights out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL

from DiffMaCore.bundles.config import BundleConfig, ModelCard
from DiffMaCore.diffusion.schedulers import make_scheduler
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.presets import preset


def random_pipeline(
    name: str, image_size: int, vae: Mapping[str, Any], vision: Mapping[str, Any], **bundle: Any
) -> DiffMaPipeline:
    """A DiffMa of Table 1, the same at every call, between a VAE and an image encoder as the paper joins them.

    Args:
        name: configuration of Table 1.
        image_size: side of a slice in pixels.
        vae, vision: arguments of diffusers' ``AutoencoderKL`` and of open_clip's vision tower.
        bundle: fields of the ``BundleConfig`` in place of a millimetre's pixels and one window.
    """
    size = preset(name, image_size)
    torch.manual_seed(0)
    settings: dict[str, Any] = {"anatomy": "none", "pixel_spacing": 1.0, "hu_windows": ((-1000.0, 1000.0),), **bundle}
    config = BundleConfig(
        name="benchmark",
        title="random weights",
        image_size=image_size,
        mr_normalisation={"method": "percentile", "low": 0.5, "high": 99.5, "mask": "body"},
        output_units="arbitrary",
        card=ModelCard("none", "MIT", "random weights", "python -m benchmarks", "0"),
        **settings,
    )
    return DiffMaPipeline(
        denoiser=DiffMa(**size),
        embedder=VisionEmbedder(size["latent_size"], size["patch_size"], size["width"]),
        vae=AutoencoderKL(**vae),
        image_encoder=ImageEncoder(size["width"], dict(vision)),
        scheduler=make_scheduler(),
        bundle=config.to_dict(),
    )
