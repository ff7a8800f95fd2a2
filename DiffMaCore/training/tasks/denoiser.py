"""Training of a denoiser, of whatever backbone, on cached latents and conditions; the result is a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.conditions import Conditions, decode
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.systems import TITLES, build_denoiser, count_parameters
from DiffMaCore.pipeline import DiffMaPipeline, noise_seed
from DiffMaCore.training.bundling import build_pipeline, system_title
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.draws import Draws
from DiffMaCore.training.experiment import DenoiserConfig, Experiment
from DiffMaCore.training.files import replacing_folder
from DiffMaCore.training.objective import add_noise, diffusion_loss, schedule, spread_timesteps
from DiffMaCore.training.task import Rows, Sample
from DiffMaCore.training.tasks.summary import trained_steps, write_summary
from DiffMaCore.training.triplets import FixedSlices, triplet_picture

KEYS = ("target_latent", "source_latent", "clip_embedding", "ct_embedding", "soft_mask")
_HELD_OUT = 16  # slices of the held-out loss


def size_of(config: DenoiserConfig, latent_shape: tuple[int, int, int]) -> dict[str, Any]:
    """What :func:`build_denoiser` is given beside the backbone."""
    return {
        "latent_size": latent_shape[1],
        "in_channels": latent_shape[0],
        "patch_size": config.patch_size,
        "width": config.width,
        "depth": config.depth,
        "state_size": config.state_size,
        "ct_conditioning": config.ct_conditioning,
        "learn_sigma": config.learn_sigma,
    }


class DenoiserTask:
    """The noise in target latents, given everything known of the source slice; the embedder stays as it is (paper).

    Args:
        experiment: its ``denoiser`` says what is trained.
        cache: the prepared data.
        embedder: pre-trained.
        embeddings: what it made of the cache.
    """

    whole_batch = False

    def __init__(self, experiment: Experiment, cache: PairedCache, embedder: VisionEmbedder, embeddings: Path) -> None:
        self.experiment, self.config, self.cache = experiment, experiment.denoiser, cache
        self.embedder, self.embeddings = embedder, embeddings
        self.name = f"denoiser {self.config.backbone}"
        self.model: nn.Module = build_denoiser(self.config.backbone, **size_of(self.config, cache.latent_shape))
        self.dataset: Rows = SliceDataset(cache, cache.ids("train"), KEYS, embeddings)
        own = {key: value for key, value in asdict(self.config).items() if key != "train"}
        self.settings: Mapping[str, Any] = {**own, "data": cache.fingerprint, "embedder": embeddings.name}
        self._alphas = schedule()
        self._fixed: FixedSlices | None = None
        self._pipeline: DiffMaPipeline | None = None

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Epsilon's squared error (paper, Eq. 9) or v's, and the bound where the variance is learned."""
        x0 = batch["target_latent"]
        self._alphas = self._alphas.to(x0.device)
        noise = draws.normal("noise", *x0.shape[1:])
        # one draw in every stratum of the timesteps, over the whole batch and so over all processes
        place = torch.arange(draws.first, draws.first + draws.count, device=x0.device) + draws.uniform("timestep")
        t = spread_timesteps(place / draws.total)
        xt = add_noise(x0, noise, t, self._alphas)
        prediction = model(xt, t, *_conditions(batch)).sample
        weight = self.config.vlb_weight
        return diffusion_loss(prediction, x0, noise, t, self._alphas, self.config.prediction_type, weight)

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """Triplets of the fixed slices, and the loss on held-out slices with noises that are always the same."""
        generated = self._generate(model).numpy()
        caption = f"{TITLES[self.config.backbone]}, {self.experiment.title}"
        picture = triplet_picture(self.fixed, generated, self.cache.data, caption)
        return Sample(picture, self.fixed.arrays(generated), {"held_out_loss": self._held_out_loss(model)})

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``bundle/`` and ``summary.json``."""
        steps = trained_steps(folder)
        pipe = build_pipeline(self.experiment, self.cache, self.embedder, model, self.config.backbone, steps)
        with replacing_folder(folder / "bundle") as part:
            pipe.save_pretrained(part)
        write_summary(
            folder,
            system=self.config.backbone,
            title=system_title(self.config.backbone),
            parameters=count_parameters(self.model),
            held_out=self.fixed.split,
        )

    @property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        self._fixed = self._fixed or FixedSlices.choose(self.cache)
        return self._fixed

    def _generate(self, model: Any) -> Tensor:
        """The fixed slices (n, S, S) in [-1, 1], made as `convert` makes slices, on the CPU."""
        if self._pipeline is None:
            self._pipeline = build_pipeline(self.experiment, self.cache, self.embedder, model, self.config.backbone)
        pipe, device = self._pipeline, next(model.parameters()).device
        pipe.denoiser = model
        pipe.to(device)
        batch = {key: value.to(device) for key, value in self.fixed.batch(self.cache, KEYS, self.embeddings).items()}
        sampling = self.experiment.evaluation
        seed = noise_seed(sampling.seed, 0)
        latents = pipe.denoise(_conditions(batch), sampling.steps, sampling.scheduler, seed)
        pixels = decode(pipe.vae, latents).float().cpu()
        for network in (pipe.embedder, pipe.vae, pipe.image_encoder):
            network.cpu()  # the memory is the training's
        return pixels

    def _held_out_loss(self, model: nn.Module) -> float:
        ids = self.cache.split["validation"] or self.cache.ids("train")
        dataset = SliceDataset(self.cache, ids, KEYS, self.embeddings)
        count = min(_HELD_OUT, len(dataset))
        device = next(model.parameters()).device
        items = [dataset[row] for row in torch.linspace(0, len(dataset) - 1, count).long().tolist()]
        batch = {key: torch.stack([item[key] for item in items]).to(device) for key in KEYS}
        # a step that training never reaches: these draws are its own
        draws = Draws(self.experiment.seed, -1, 0, count, count, device)
        return float(self.loss(model, batch, draws)[0])


def _conditions(batch: dict[str, Tensor]) -> Conditions:
    """The conditions of a batch of the cache."""
    return Conditions(batch["clip_embedding"], batch["ct_embedding"], batch["soft_mask"], batch["source_latent"])
