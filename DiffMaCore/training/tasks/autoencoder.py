"""Training of the image autoencoder on targets alone: diffusers' AutoencoderKL, L1 of pixels and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from DiffMaCore.conditions import decode, encode, mr_to_pixels
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.draws import Draws
from DiffMaCore.training.experiment import AutoencoderConfig, Experiment, Folders
from DiffMaCore.training.files import replacing_folder
from DiffMaCore.training.task import Rows, Sample
from DiffMaCore.training.tasks.image_loss import image_loss, psnr
from DiffMaCore.training.tasks.rows import training_rows
from DiffMaCore.training.tasks.summary import write_summary
from DiffMaCore.training.triplets import FixedSlices, triplet_picture

_SCALED_BY = 128  # latents of so many slices have unit variance together


class AutoencoderTask:
    """Encoder and decoder for the targets; the source goes through the same encoder, for the Vision Embedder alone."""

    name = "autoencoder"
    whole_batch = False

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        self.experiment, self.config, self.cache = experiment, experiment.autoencoder, cache
        self.model: nn.Module = _Autoencoder(build_autoencoder(self.config, cache.data.image_size))
        self.dataset: Rows = training_rows(experiment, folders, cache, ("target",))
        own = {key: value for key, value in asdict(self.config).items() if key != "train"}
        self.settings: Mapping[str, Any] = {**own, "data": cache.data_fingerprint}
        self._fixed: FixedSlices | None = None

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 of pixels and of their differences, and the divergence of the latents from a normal distribution."""
        pixels = mr_to_pixels(batch["target"])
        noise = draws.normal("latent", *_latent_shape(self.config, pixels))
        rebuilt, mean, log_variance = model(pixels, noise)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        error = image_loss(rebuilt, pixels, self.config.gradient_weight)
        return error + self.config.kl_weight * divergence, {"error": error.detach(), "divergence": divergence.detach()}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """The fixed slices through the autoencoder and back, and how near they come."""
        vae: Any = model.vae
        device = next(vae.parameters()).device
        target = torch.from_numpy(self.fixed.target).to(device)
        rebuilt = decode(vae, encode(vae, mr_to_pixels(target)))
        generated = rebuilt.float().cpu().numpy()
        picture = triplet_picture(self.fixed, generated, self.cache.data, f"Autoencoder, {self.experiment.title}")
        return Sample(picture, self.fixed.arrays(generated), {"psnr": psnr(rebuilt, target)})

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/`` and ``summary.json``; the scaling factor gives target latents unit variance."""
        vae: Any = model.vae
        vae.register_to_config(scaling_factor=self._scaling_factor(vae))
        with replacing_folder(folder / "model") as part:
            vae.save_pretrained(part)
        parameters = sum(p.numel() for p in vae.parameters())
        write_summary(folder, system="autoencoder", title="Image autoencoder", parameters=parameters)

    @property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        self._fixed = self._fixed or FixedSlices.choose(self.cache)
        return self._fixed

    @torch.inference_mode()
    def _scaling_factor(self, vae: Any) -> float:
        prepared = SliceDataset(self.cache, self.cache.ids("train"), ("target",))
        rows = torch.linspace(0, len(prepared) - 1, min(len(prepared), _SCALED_BY)).long().tolist()
        targets = prepared.batch(rows)["target"].float()
        latents = [vae.encode(mr_to_pixels(part)).latent_dist.mode() for part in targets.split(16)]
        return float(1.0 / torch.cat(latents).std())


class _Autoencoder(nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae.to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist
        latents = posterior.mean + posterior.std * noise
        return self.vae.decode(latents).sample, posterior.mean, posterior.logvar


def build_autoencoder(config: AutoencoderConfig, image_size: int) -> AutoencoderKL:
    """A convolutional VAE without attention."""
    levels = len(config.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.channels),
        layers_per_block=config.layers,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=image_size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def _latent_shape(config: AutoencoderConfig, pixels: Tensor) -> tuple[int, int, int]:
    side = pixels.shape[-1] // 2 ** (len(config.channels) - 1)
    return config.latent_channels, side, side
