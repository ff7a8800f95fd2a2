"""What gives images and learns by their difference from the truth: the image autoencoder, the guided and the small
decoder, and the regression, the baseline without diffusion."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.baselines.registry import TITLES, build_denoiser, build_regression, count_parameters
from DiffMaCore.diffusion.conditions import decode, encode, mr_to_pixels
from DiffMaCore.diffusion.objective import mean_of, schedule
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import Decoded, GuidedDecoder
from DiffMaCore.models.patch_autoencoder import PatchAutoencoder
from DiffMaCore.training.batches import Batch, ShardedRNG
from DiffMaCore.training.bundling import model_title, write_bundles
from DiffMaCore.training.cache import PairedCache, SliceDataset, pixel_channels
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.run_folder import Sample, write_trained
from DiffMaCore.training.task import Task, device_of, settings_of
from DiffMaCore.training.tasks.denoiser import HELD_OUT, conditions_of, keys_of, size_of

SSIM_WINDOW = 7  # pixels
SQUARED = 5.0  # times the squared error, which so is as steep as the absolute one where that is 0.1
_FITTED_TO = 512  # slices
_REGRESSION_KEYS = ("ct_pixels", "target")
_REGRESSION_HELD_OUT = 16  # slices


def image_loss(
    output: Tensor, target: Tensor, gradient_weight: float, ssim_weight: float = 0.0, squared: bool = False
) -> Tensor:
    """Mean absolute (or squared, times 5) error of (..., S, S) pixels in [-1, 1] and of their differences from the next
    row and column, and what their SSIM lacks to 1."""
    output = output.float()
    off = output - target
    errors = [(1.0, off), *((gradient_weight, off.diff(dim=axis)) for axis in (-1, -2))]
    loss = torch.stack([w * (SQUARED * e**2 if squared else e.abs()).mean() for w, e in errors]).sum()
    return loss + ssim_weight * (1 - ssim(output, target)) if ssim_weight else loss


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM (Wang et al. 2004, square window) of (B, S, S) images in [-1, 1], to be differentiated."""
    moments = F.avg_pool2d(torch.stack([a, b, a * a, b * b, a * b], dim=1), SSIM_WINDOW, stride=1)
    mean_a, mean_b, square_a, square_b, product = moments.unbind(dim=1)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    both = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    likeness = (2 * both + c1) * (2 * (product - both) + c2)
    return (likeness / ((squares + c1) * (square_a + square_b - squares + c2))).mean()


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], over everything."""
    return -10 * math.log10(max(float(((output - target).float() ** 2).mean()) / 4, 1e-12))


class AutoencoderTask(Task):
    """Latents for the targets: components are fitted, then the decoder learns the rest. The source goes through the
    same encoder, for the Vision Embedder alone."""

    name = "autoencoder"

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        super().__init__(experiment, folders, cache)
        self.settings = settings_of(experiment.autoencoder, data=cache.data_fingerprint)
        vae = PatchAutoencoder(**{k: v for k, v in self.settings.items() if k not in ("gradient_weight", "data")})
        vae.fit(SliceDataset(cache, cache.ids("train"), ("target",)).spread(_FITTED_TO)["target"])
        self.model = _Rebuilding(vae)
        self.dataset = self.rows(("target",))

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 of pixels and of their differences."""
        pixels = mr_to_pixels(batch["target"])
        return image_loss(model(pixels), pixels, self.experiment.autoencoder.gradient_weight), {}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """The fixed slices through the autoencoder and back, and how near they come."""
        vae: Any = model.vae
        target = torch.from_numpy(self.fixed.target).to(device_of(model))
        rebuilt = decode(vae, encode(vae, mr_to_pixels(target)))
        return self.triplets(rebuilt, "Autoencoder", psnr=psnr(rebuilt, target))

    def finish(self, model: nn.Module, folder: Path) -> None:
        write_trained(folder, model.vae, "autoencoder", "Image autoencoder")


class _Rebuilding(nn.Module):
    def __init__(self, vae: PatchAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample


class GuidedDecoderTask(Task):
    """What the denoiser expects of a slice, and the CT's pixels, to the true target; denoiser and embedder stay as they
    are."""

    name = "guided-decoder"

    def __init__(
        self, experiment: Experiment, folders: Folders, cache: PairedCache, denoiser: DiffMa, embedder: VisionEmbedder
    ) -> None:
        super().__init__(experiment, folders, cache)
        self.config, self.denoiser, self.embedder = experiment.guided_decoder, denoiser, embedder
        self.model = GuidedDecoder(
            latent_channels=cache.latent_shape[0],
            pixel_channels=pixel_channels(cache.data),
            channels=tuple(self.config.channels),
            blocks=self.config.blocks,
            error_channels=self.config.error_channels,
        ).to(memory_format=torch.channels_last)
        self.keys = (*keys_of(experiment), "target")
        self.dataset = self.rows(self.keys)
        self.settings = settings_of(self.config, grid_shift=experiment.grid_shift, data=cache.fingerprint)
        self._alphas = schedule()

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """How far slices are from the truth, out of a share of mean latents and of true ones with noise on them; of the
        former also how wrong the expected error is, whose least squared error is at the mean."""
        latents, chosen = noised(batch["target_latent"], rng, self.config.noise), self.expected_rows(rng)
        if chosen.any():
            latents[chosen] = self._mean({key: value[chosen] for key, value in batch.items()})
        return self.loss_of(model(latents, batch["ct_pixels"]), batch, chosen, rng)

    def expected_rows(self, rng: ShardedRNG) -> Tensor:
        """Which of these rows (n,) of the batch are mean latents: its first ones."""
        place = torch.arange(rng.first, rng.first + rng.count, device=rng.device)
        return place < self.expected_count(rng)

    def expected_count(self, rng: ShardedRNG) -> int:
        """So many rows of the whole batch are."""
        return math.ceil(self.config.mean_share * rng.total)

    def loss_of(self, made: Decoded, batch: Batch, chosen: Tensor, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """How far slices are from the truth, and how wrong the error is that is expected of the ``chosen`` ones."""
        loss = self._error(made.slices, batch)
        if made.expected_error is None:
            return loss, {}
        off = (made.slices.detach().float().clamp(-1, 1) - batch["target"]).abs()
        squared = ((made.expected_error.float() - off) ** 2).mean(dim=(1, 2))[chosen]
        told = SQUARED * rng.mean_over(squared, self.expected_count(rng))
        return loss + told, {"expected_error": told.detach()}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """The fixed slices by their mean latents, how near they come, and the loss on held-out slices."""
        shown = self.fixed.batch(self.cache, self.keys, device_of(model))
        stored = self.held_out(self.keys, HELD_OUT, model)
        made, others = (model(self._mean(batch), batch["ct_pixels"]).slices for batch in (shown, stored))
        made = made.clamp(-1, 1)
        metrics = {"psnr": psnr(made, shown["target"]), "held_out_loss": float(self._error(others, stored))}
        return self.triplets(made, "Guided decoder", **metrics)

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/`` and ``summary.json``, and the model's bundles anew, with this decoder."""
        write_trained(folder, model, "guided_decoder", "Guided decoder")
        write_bundles(self.experiment, self.folders, self.cache)

    @torch.no_grad()
    def _mean(self, batch: Batch) -> Tensor:
        device, shift = batch["source_latent"].device, self.experiment.grid_shift
        conditions, contrast = conditions_of(batch, self.embedder)
        latent_shape = self.cache.latent_shape
        return mean_of(self.denoiser.to(device), conditions, contrast, self._alphas, latent_shape, shift)

    def _error(self, made: Tensor, batch: Batch) -> Tensor:
        return image_loss(made, batch["target"], self.config.gradient_weight, self.config.ssim_weight, squared=True)


def noised(latents: Tensor, rng: ShardedRNG, most: float) -> Tensor:
    """Latents (B, C, s, s) with noise of up to ``most`` on them."""
    return latents + most * rng.uniform("level", 1, 1, 1) * rng.normal("noise", *latents.shape[1:])


class SmallDecoderTask(Task):
    """diffusers' AutoencoderTiny taught to give what the VAE's decoder gives, in less time.

    It takes latents as the denoiser leaves them: ``scaling_factor`` 1, as the published ones. Its encoder, which
    diffusers wants with it, is as small as it can be and never used.
    """

    name = "small-decoder"

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        super().__init__(experiment, folders, cache)
        self.config = experiment.small_decoder
        levels = len(self.config.blocks)
        tiny = AutoencoderTiny(
            latent_channels=cache.latent_shape[0],
            encoder_block_out_channels=(1,) * levels,
            num_encoder_blocks=(0,) * levels,
            decoder_block_out_channels=(self.config.channels,) * levels,
            num_decoder_blocks=tuple(self.config.blocks),
        )
        tiny.encoder.requires_grad_(False)
        self.model = _Decoding(tiny.to(memory_format=torch.channels_last))
        self.vae = cache.load_vae().requires_grad_(False)
        self.dataset = self.rows(("target_latent", "target"))
        self.settings = settings_of(self.config, data=cache.fingerprint)

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 to the full decoder's image and its differences, and a little to the target itself."""
        latents = noised(batch["target_latent"], rng, self.config.noise)
        with torch.no_grad():
            full = decode(self.vae.to(latents.device), latents)
        made = model(latents)
        error = image_loss(made, full, self.config.gradient_weight)
        return error + self.config.target_weight * (made - batch["target"]).abs().mean(), {"error": error.detach()}

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/`` and ``summary.json``, and the model's bundles anew where it is trained."""
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


class RegressionTask(Task):
    """From three neighbouring source slices straight to the target's pixels, by L1: a U-Net of as many parameters as
    the experiment's DiffMa."""

    name = "regression"

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        super().__init__(experiment, folders, cache)
        with torch.device("meta"):
            parameters = count_parameters(build_denoiser("diffma", **size_of(experiment.denoiser, cache)))
        size = {"in_channels": pixel_channels(cache.data), "image_size": cache.data.image_size}
        self.model = build_regression(**size, parameters=parameters)
        self.dataset = self.rows(_REGRESSION_KEYS, contrasts=(0,))
        self.settings = {**size, "parameters": parameters, "data": cache.fingerprint}

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean absolute error in [-1, 1]."""
        return F.l1_loss(model(batch["ct_pixels"]), batch["target"]), {}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """Triplets of the fixed slices, and the loss on held-out ones."""
        shown = self.fixed.batch(self.cache, ("ct_pixels",), device_of(model))["ct_pixels"]
        stored = self.held_out(_REGRESSION_KEYS, _REGRESSION_HELD_OUT, model, first=True)
        loss = float(F.l1_loss(model(stored["ct_pixels"]), stored["target"]))
        return self.triplets(model(shown).clamp(-1, 1), TITLES["regression"], held_out_loss=loss)

    def finish(self, model: nn.Module, folder: Path) -> None:
        write_trained(folder, model, "regression", model_title("regression"), held_out=self.fixed.split)
