"""Training of the guided decoder: what the denoiser expects of a slice, and the CT's pixels, to the true target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.diffusion.objective import mean_of, schedule
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import GuidedDecoder
from DiffMaCore.training.bundling import write_bundles
from DiffMaCore.training.cache import PairedCache, SliceDataset, pixel_channels
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.feeding import to_device
from DiffMaCore.training.sharded_rng import ShardedRNG
from DiffMaCore.training.task import Rows, Sample
from DiffMaCore.training.tasks.denoiser import HELD_OUT, conditions_of, keys_of
from DiffMaCore.training.tasks.image_loss import image_loss, psnr
from DiffMaCore.training.tasks.rows import training_rows
from DiffMaCore.training.tasks.summary import write_trained
from DiffMaCore.training.triplets import FixedSlices, triplet_picture


class GuidedDecoderTask:
    """The decoder of a trained denoiser with a mean mode, which stays as it is."""

    name = "guided-decoder"
    whole_batch = False

    def __init__(
        self, experiment: Experiment, folders: Folders, cache: PairedCache, denoiser: DiffMa, embedder: VisionEmbedder
    ) -> None:
        self.experiment, self.config, self.cache, self.folders = experiment, experiment.guided_decoder, cache, folders
        self.denoiser, self.embedder = denoiser, embedder
        self.model: nn.Module = GuidedDecoder(
            latent_channels=cache.latent_shape[0],
            pixel_channels=pixel_channels(cache.data),
            channels=tuple(self.config.channels),
            blocks=self.config.blocks,
        ).to(memory_format=torch.channels_last)
        self.keys = (*keys_of(experiment, embedded=False), "target")
        self.dataset: Rows = training_rows(experiment, folders, cache, self.keys)
        own = {key: value for key, value in asdict(self.config).items() if key != "train"}
        self.settings: Mapping[str, Any] = {**own, "grid_shift": experiment.grid_shift, "data": cache.fingerprint}
        self._alphas = schedule()

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """How far slices are from the truth, out of mean latents and out of true ones with noise on them."""
        latents = self._given(batch, rng)
        return self._error(model(latents, batch["ct_pixels"]), batch), {}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """The fixed slices by their mean latents, and how near they come."""
        device = next(model.parameters()).device
        batch = to_device(self.fixed.batch(self.cache, self.keys), device)
        made = model(self._mean(batch), batch["ct_pixels"]).clamp(-1, 1)
        generated = made.float().cpu().numpy()
        picture = triplet_picture(self.fixed, generated, self.cache.data, f"Guided decoder, {self.experiment.title}")
        return Sample(
            picture, self.fixed.arrays(generated), {"psnr": psnr(made, batch["target"]), **self._held_out(model)}
        )

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/`` and ``summary.json``, and the system's bundles anew, with this decoder."""
        write_trained(folder, model, "guided_decoder", "Guided decoder")
        write_bundles(self.experiment, self.folders, self.cache)

    @cached_property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        return FixedSlices.choose(self.cache)

    @torch.no_grad()
    def _given(self, batch: dict[str, Tensor], rng: ShardedRNG) -> Tensor:
        """A share of mean latents, the rest true ones with noise."""
        true = batch["target_latent"]
        noised = true + self.config.noise * rng.uniform("level", 1, 1, 1) * rng.normal("noise", *true.shape[1:])
        place = torch.arange(rng.first, rng.first + rng.count, device=true.device)
        chosen = place < self.config.mean_share * rng.total
        noised[chosen] = self._mean({key: value[chosen] for key, value in batch.items()})
        return noised

    @torch.no_grad()
    def _mean(self, batch: dict[str, Tensor]) -> Tensor:
        device = batch["source_latent"].device
        self.denoiser.to(device)
        conditions, contrast = conditions_of(batch, self.embedder.to(device))
        shift = self.experiment.grid_shift
        return mean_of(self.denoiser, conditions, contrast, self._alphas, self.cache.latent_shape, shift)

    def _held_out(self, model: nn.Module) -> dict[str, float]:
        ids = self.cache.split["validation"] or self.cache.ids("train")
        device = next(model.parameters()).device
        batch = to_device(SliceDataset(self.cache, ids, self.keys).spread(HELD_OUT), device)
        made = model(self._mean(batch), batch["ct_pixels"])
        return {"held_out_loss": float(self._error(made, batch))}

    def _error(self, made: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return image_loss(made, batch["target"], self.config.gradient_weight, self.config.ssim_weight, squared=True)
