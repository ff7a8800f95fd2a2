"""Training of a denoiser, of whatever backbone, on cached latents and conditions; the result is a bundle."""

from __future__ import annotations

from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.baselines.registry import TITLES, build_denoiser
from DiffMaCore.diffusion import objective
from DiffMaCore.diffusion.conditions import Conditions, decode
from DiffMaCore.diffusion.pipeline import noise_seed
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.autoencoders import Autoencoder
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.batches import Batch, ShardedRNG
from DiffMaCore.training.bundling import build_pipeline, model_title, write_bundles
from DiffMaCore.training.cache import PairedCache, embedder_hash, pixel_channels
from DiffMaCore.training.experiment import DenoiserConfig, Experiment, Folders
from DiffMaCore.training.run_folder import Sample, write_trained
from DiffMaCore.training.task import Task, device_of, settings_of

KEYS = ("target_latent", "source_latent", "clip_embedding")
HELD_OUT = 24  # slices of the held-out loss


def keys_of(experiment: Experiment) -> tuple[str, ...]:
    """What a denoiser's rows hold."""
    contrast = ("contrast",) if len(experiment.data.targets) > 1 else ()
    pixels = ("ct_pixels",) if experiment.denoiser.ct_conditioning == "pixels" else ()
    return (*KEYS, *pixels, *contrast)


def conditions_of(batch: Batch, embedder: VisionEmbedder) -> tuple[Conditions, Tensor | None]:
    """Conditions of a batch, and its contrasts where there are several.

    The embedder answers in every step: that takes a hundredth of the denoiser's time or less, and what it makes of a
    slice is fifteen times as large as the latents.
    """
    latent = batch["source_latent"]
    with torch.no_grad():
        soft_mask, ct_embedding = embedder.to(latent.device)(latent)
    given = Conditions(batch["clip_embedding"], ct_embedding, soft_mask, latent, batch.get("ct_pixels"))
    return given, batch.get("contrast")


def size_of(config: DenoiserConfig, cache: PairedCache) -> dict[str, Any]:
    """What :func:`build_denoiser` is given with the backbone."""
    own = ("patch_size", "width", "depth", "state_size", "expand", "ct_conditioning", "learn_sigma")
    channels, side, _ = cache.latent_shape
    return {
        **{key: getattr(config, key) for key in own},
        "latent_size": side,
        "in_channels": channels,
        "pixel_channels": pixel_channels(cache.data),
        "pixel_factor": cache.data.image_size // side,
        "contrasts": len(cache.data.targets),
    }


class DenoiserTask(Task):
    """The noise in target latents, given everything known of the source slice; the embedder stays as it is (paper)."""

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache, embedder: VisionEmbedder) -> None:
        super().__init__(experiment, folders, cache)
        self.config, self.embedder = experiment.denoiser, embedder
        self.name = f"denoiser {self.config.backbone}"
        self.model = build_denoiser(self.config.backbone, **size_of(self.config, cache))
        self.keys = keys_of(experiment)
        self.dataset = self.rows(self.keys)
        self.settings = settings_of(self.config, data=cache.fingerprint, embedder=embedder_hash(embedder)[:12])
        self._alphas = objective.schedule()
        self._pipeline: DiffMaPipeline | None = None

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """Epsilon's squared error (paper, Eq. 9) or v's, and the bound where the variance is learned.

        A share of the batch may learn the conditional mean: v of no noise at the last timestep. That error is squared,
        too: of absolute errors the median is best, which in doubt takes a side and paints islands into noisy CTs.
        """
        x0 = batch["target_latent"]
        alphas = self._alphas = self._alphas.to(x0.device)
        noise = rng.normal("noise", *x0.shape[1:])
        place = torch.arange(rng.first, rng.first + rng.count, device=x0.device)
        of_mean = round(self.config.mean_share * rng.total)
        # one draw in every stratum of the timesteps, over the whole batch and so over all processes
        t = objective.spread_timesteps((place - of_mean + rng.uniform("timestep")).clamp(min=0) / (rng.total - of_mean))
        xt = objective.add_noise(x0, noise, t, alphas)
        expected = place < of_mean
        if of_mean:
            t, nothing = torch.where(expected, len(alphas) - 1, t), expected.view(-1, 1, 1, 1)
            xt, noise = xt.masked_fill(nothing, 0), noise.masked_fill(nothing, 0)
        conditions, contrast = conditions_of(batch, self.embedder)
        prediction = model(xt, t, *conditions, contrast=contrast).sample
        if not of_mean:
            weight = self.config.vlb_weight
            return objective.diffusion_loss(prediction, x0, noise, t, alphas, self.config.prediction_type, weight)
        error = ((prediction - objective.target(x0, noise, t, alphas, "v_prediction")) ** 2).mean(dim=(1, 2, 3))
        return error.mean(), {"mean_mse": _average(error, expected), "mse": _average(error, ~expected)}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """Triplets of the fixed slices, and the loss on held-out slices with noises that are always the same."""
        generated = self._generate(model)
        batch = self.held_out(self.keys, HELD_OUT, model)
        count = len(batch["target_latent"])
        # a step that training never reaches: these draws are its own
        rng = ShardedRNG(self.experiment.seed, -1, 0, count, count, device_of(model))
        loss, metrics = self.loss(model, batch, rng)
        found = {"held_out_mean_mse": float(metrics["mean_mse"])} if "mean_mse" in metrics else {}
        return self.triplets(generated, TITLES[self.config.backbone], held_out_loss=float(loss), **found)

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/``, the bundles and ``summary.json``."""
        backbone = self.config.backbone
        write_trained(folder, model, backbone, model_title(backbone), held_out=self.fixed.split)
        write_bundles(self.experiment, self.folders, self.cache)

    def _generate(self, model: Any) -> Tensor:
        """The fixed slices (n, S, S) in [-1, 1], made as `convert` makes slices, on the CPU."""
        device = device_of(model)
        batch = self.fixed.batch(self.cache, self.keys, device)
        conditions, contrast = conditions_of(batch, self.embedder)
        if self.config.mean_share:
            given = self._alphas, self.cache.latent_shape, self.experiment.grid_shift
            return decode(self.vae.to(device), objective.mean_of(model, conditions, contrast, *given)).float().cpu()
        if self._pipeline is None:
            self._pipeline = build_pipeline(self.experiment, self.cache, self.embedder, model, self.config.backbone)
        pipe = self._pipeline
        pipe.to(device)
        sampling = self.experiment.evaluation
        wanted = sampling.steps, sampling.scheduler, noise_seed(sampling.seed, 0)
        if contrast is None:
            pipe.denoiser = model
            latents = pipe.denoise(conditions, *wanted)
        else:
            latents = torch.empty_like(batch["target_latent"])
            for index in contrast.unique().tolist():
                pipe.denoiser = model.for_contrast(index)
                chosen = contrast == index
                latents[chosen] = pipe.denoise(conditions.map(itemgetter(chosen)), *wanted)
        pixels = decode(pipe.vae, latents).float().cpu()
        for network in (pipe.vae, pipe.image_encoder):
            network.cpu()  # the memory is the training's
        return pixels

    @cached_property
    def vae(self) -> Autoencoder:
        return self.cache.load_vae()


def _average(values: Tensor, chosen: Tensor) -> Tensor:
    return ((values * chosen).sum() / chosen.sum().clamp(min=1)).detach()
