"""Training of the image autoencoder on targets alone: components are fitted, then the decoder learns the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.diffusion.conditions import decode, encode, mr_to_pixels
from DiffMaCore.models.patch_autoencoder import PatchAutoencoder
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.sharded_rng import ShardedRNG
from DiffMaCore.training.task import Rows, Sample
from DiffMaCore.training.tasks.image_loss import image_loss, psnr
from DiffMaCore.training.tasks.rows import training_rows
from DiffMaCore.training.tasks.summary import write_trained
from DiffMaCore.training.triplets import FixedSlices, triplet_picture

_FITTED_TO = 512  # slices


class AutoencoderTask:
    """Latents for the targets; the source goes through the same encoder, for the Vision Embedder alone."""

    name = "autoencoder"
    whole_batch = False

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        self.experiment, self.config, self.cache = experiment, experiment.autoencoder, cache
        sizes = {key: value for key, value in asdict(self.config).items() if key not in ("train", "gradient_weight")}
        vae = PatchAutoencoder(**sizes)
        vae.fit(self._prepared())
        self.model: nn.Module = _Rebuilding(vae)
        self.dataset: Rows = training_rows(experiment, folders, cache, ("target",))
        own = {**sizes, "gradient_weight": self.config.gradient_weight}
        self.settings: Mapping[str, Any] = {**own, "data": cache.data_fingerprint}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 of pixels and of their differences."""
        pixels = mr_to_pixels(batch["target"])
        return image_loss(model(pixels), pixels, self.config.gradient_weight), {}

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
        """Write ``model/`` and ``summary.json``."""
        write_trained(folder, model.vae, "autoencoder", "Image autoencoder")

    @cached_property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        return FixedSlices.choose(self.cache)

    def _prepared(self) -> Tensor:
        """Target slices (N, S, S) spread over those who train."""
        return SliceDataset(self.cache, self.cache.ids("train"), ("target",)).spread(_FITTED_TO)["target"]


class _Rebuilding(nn.Module):
    def __init__(self, vae: PatchAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
