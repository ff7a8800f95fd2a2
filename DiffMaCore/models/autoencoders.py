"""The image autoencoders that a bundle may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

from diffusers import AutoencoderKL

from DiffMaCore.models.patch_autoencoder import PatchAutoencoder

Autoencoder: TypeAlias = AutoencoderKL | PatchAutoencoder


def load_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder in a folder, in eval mode on the CPU; raises OSError or ValueError where it cannot be read."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'} is no JSON object")
    named = config.get("_class_name")
    cls = PatchAutoencoder if named == PatchAutoencoder.__name__ else AutoencoderKL
    return cls.from_pretrained(str(folder), local_files_only=True).eval().requires_grad_(False)


def factor_of(vae: Autoencoder) -> int:
    """Pixels that one pixel of a latent stands for, along one side."""
    if isinstance(vae, PatchAutoencoder):
        return vae.config["factor"]
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def maps_per_slice(vae: Autoencoder) -> tuple[int, int]:
    """Maps as large as the slice that encoding and decoding hold at once, about, as measured on a CPU."""
    if isinstance(vae, PatchAutoencoder):
        return 6, 6 + 8 * vae.config["channels"] // vae.config["factor"] ** 2
    levels = vae.config["block_out_channels"]
    return 12 * levels[0], 8 * max(levels[:2])
