"""Training of a small decoder: diffusers' AutoencoderTiny taught to give what the VAE's decoder gives, in less time.

It takes latents as the denoiser leaves them: ``scaling_factor`` 1, as the published ones. Its encoder, which diffusers
wants beside it, is as small as it can be and never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from DiffMaCore.diffusion.conditions import decode
from DiffMaCore.training.bundling import write_bundles
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.sharded_rng import ShardedRNG
from DiffMaCore.training.task import Rows
from DiffMaCore.training.tasks.image_loss import image_loss
from DiffMaCore.training.tasks.rows import training_rows
from DiffMaCore.training.tasks.summary import write_trained


class SmallDecoderTask:
    """The VAE is left as it is."""

    name = "small-decoder"
    whole_batch = False

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        self.experiment, self.config, self.cache, self.folders = experiment, experiment.small_decoder, cache, folders
        levels = len(self.config.blocks)
        tiny = AutoencoderTiny(
            latent_channels=cache.latent_shape[0],
            encoder_block_out_channels=(1,) * levels,
            num_encoder_blocks=(0,) * levels,
            decoder_block_out_channels=(self.config.channels,) * levels,
            num_decoder_blocks=tuple(self.config.blocks),
        )
        tiny.encoder.requires_grad_(False)
        self.model: nn.Module = _Decoding(tiny.to(memory_format=torch.channels_last))
        self.vae = cache.load_vae().requires_grad_(False)
        self.dataset: Rows = training_rows(experiment, folders, cache, ("target_latent", "target"))
        own = {key: value for key, value in asdict(self.config).items() if key != "train"}
        self.settings: Mapping[str, Any] = {**own, "data": cache.fingerprint}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 to the full decoder's image and its differences, and a little to the target itself."""
        true = batch["target_latent"]
        latents = true + self.config.noise * rng.uniform("level", 1, 1, 1) * rng.normal("noise", *true.shape[1:])
        with torch.no_grad():
            full = decode(self.vae.to(true.device), latents)
        made = model(latents)
        error = image_loss(made, full, self.config.gradient_weight)
        return error + self.config.target_weight * (made - batch["target"]).abs().mean(), {"error": error.detach()}

    def sample(self, model: nn.Module) -> None:
        """Its images are the VAE's."""
        return None

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/`` and ``summary.json``, and the system's bundles anew where it is trained."""
        tiny: Any = model.tiny
        write_trained(folder, tiny, "small_decoder", "Small decoder", counted=tiny.decoder)
        if (self.folders.system("diffma") / "model" / "config.json").is_file():
            write_bundles(self.experiment, self.folders, self.cache)


class _Decoding(nn.Module):
    """The decoder alone, which diffusers reaches by a method that accelerate does not wrap."""

    def __init__(self, tiny: AutoencoderTiny) -> None:
        super().__init__()
        self.tiny = tiny

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, C, s, s) to slices (B, S, S)."""
        return self.tiny.decode(latents).sample.mean(dim=1)
