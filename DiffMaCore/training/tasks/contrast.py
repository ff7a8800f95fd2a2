"""What learns by contrast: the Vision Embedder by InfoNCE (paper, Eqs. 7 and 8), the image encoder as CLIP does."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.diffusion.conditions import encoder_pixels, mr_to_pixels
from DiffMaCore.models.embedder import VisionEmbedder, info_nce
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import Batch, ShardedRNG
from DiffMaCore.training.cache import PairedCache, SliceDataset, source_pixels
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.files import replacing
from DiffMaCore.training.pictures import MaskMeasures, mask_measures, mask_picture, source_window
from DiffMaCore.training.run_folder import Sample, write_trained
from DiffMaCore.training.task import Task, device_of, settings_of

SPREAD = 1.3  # standard deviation of calibrated logits about each token's mean
PLACES = 0.3  # the same of the tokens' means
_MANY = 512  # slices that metrics and calibration are taken from
_LATENT = ("source_latent",)
_TEMPERATURE = 0.07  # of the image encoder, to begin with
_SCALED_BY = 256  # embeddings of so many slices have unit variance together


class EmbedderTask(Task):
    """A batch of CT latents against itself ("paper"), or two disturbed views of every slice ("two_views")."""

    name = "embedder"
    whole_batch = True

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache, reporter: Reporter) -> None:
        super().__init__(experiment, folders, cache)
        self.config, self.reporter = experiment.embedder, reporter
        channels, side, _ = cache.latent_shape
        size = {"latent_size": side, "patch_size": experiment.denoiser.patch_size, "width": cache.embed_dim}
        self.model = VisionEmbedder(**size, in_channels=channels, mask_hidden=self.config.mask_hidden)
        self.dataset = self._training = SliceDataset(cache, cache.ids("train"), _LATENT)
        self.settings = settings_of(self.config, **size, data=cache.fingerprint)

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE over the whole batch, which every process computes alike."""
        latents, config = batch["source_latent"], self.config
        if config.views == "paper":
            return info_nce(rng.gather(model(latents).ct_embedding), None, config.temperature), {}
        strength = (config.noise, config.gain, config.dropped)
        views = [disturbed(latents, rng, f"view {name}", *strength) for name in "ab"]
        a, b = model(torch.cat(views)).ct_embedding.chunk(2)
        return info_nce(rng.gather(a), rng.gather(b), config.temperature), {}

    def sample(self, model: nn.Module) -> Sample:
        """Figure 1, and the share of the mask's variance that follows the slice."""
        metrics, fixed = self._metrics(model), self.fixed
        masks = _masks(model, fixed.batch(self.cache, _LATENT, device_of(model))["source_latent"])
        caption = f"Soft mask, {metrics.share:.1%} of its variance follows the slice; {fixed.split} slices"
        picture = mask_picture(fixed.source, masks, fixed.labels, source_window(self.cache.data), caption)
        return Sample(picture, metrics={f"mask_{name}": value for name, value in asdict(metrics).items()})

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/``, ``figure1.png`` and ``summary.json``."""
        final: Any = copy.deepcopy(model).eval().requires_grad_(False)
        before, calibrate = self._metrics(final), self.config.calibrate_mask
        if calibrate:
            calibrate_mask(final, self._training.spread(_MANY)["source_latent"])
        sample, metrics = self.sample(final), self._metrics(final)
        assert sample.picture is not None
        with replacing(folder / "figure1.png") as part:
            sample.picture.save(part, format="png")
        facts: dict[str, Any] = {"views": self.config.views, "mask": {**asdict(metrics), "split": self.fixed.split}}
        facts |= {"calibrated": calibrate, "mask_before_calibration": asdict(before) if calibrate else None}
        write_trained(folder, final, "embedder", "Vision Embedder", **facts)
        earlier = f" ({before.share:.1%} before calibration)" if calibrate else ""
        share = f"{metrics.share:.1%} of the soft mask's variance comes from the slice{earlier}"
        self.reporter.note(f"{share}, the rest from the token's place")
        if metrics.closed > 0.5 and not calibrate:
            self.reporter.warning(
                f"{metrics.closed:.0%} of the soft mask's weights are below 0.01, and a denoiser's masked branch sees"
                " next to nothing through them; embedder.calibrate_mask: true spreads them"
            )

    def _metrics(self, model: nn.Module) -> MaskMeasures:
        return mask_measures(_masks(model, self.held_out(_LATENT, _MANY, model)["source_latent"]))


@torch.no_grad()
def _masks(model: nn.Module, latents: Tensor) -> Tensor:
    return torch.cat([model(part).soft_mask.float().cpu() for part in latents.split(64)])


def disturbed(latents: Tensor, rng: ShardedRNG, name: str, noise: float, gain: float, dropped: float) -> Tensor:
    """One view of latents (B, C, S, S) of about unit variance: gain and offset a channel, noise, square holes.

    A batch against itself can be told apart without looking at what is in a slice. Two views make it a task: what
    tells slices apart must survive noise, drift of the intensities and missing patches.

    ``name`` keeps two views of one step apart. ``noise`` is a standard deviation, ``gain`` that of the channels' gains
    about 1 and of their offsets, ``dropped`` the share of the cells, eight latent pixels wide, that are blanked with
    the channel's mean over the slice.
    """
    channels, side = latents.shape[1], latents.shape[-1]
    moved = latents * (1 + gain * rng.normal(f"{name} gain", channels, 1, 1))
    moved = moved + gain * rng.normal(f"{name} offset", channels, 1, 1)
    moved = moved + noise * rng.normal(f"{name} noise", *latents.shape[1:])
    cells = max(side // 8, 1)
    holes = (rng.uniform(f"{name} holes", 1, cells, cells) < dropped).to(latents.dtype)
    holes = F.interpolate(holes, (side, side), mode="nearest")
    return moved * (1 - holes) + latents.mean(dim=(2, 3), keepdim=True) * holes


@torch.no_grad()
def calibrate_mask(embedder: VisionEmbedder, latents: Tensor, spread: float = SPREAD, places: float = PLACES) -> None:
    """Shift and scale the mask's logits, token by token, without changing what they rank highest.

    InfoNCE drives masks to 0 and 1, and what a mask of 0 covers is lost to the denoiser's masked branch, and to the
    CT embedding once its LayerNorm sees nothing but rounding. Here the logits get a mean of 0, the given ``spread``
    over slices and the given spread of their means over ``places``; so the share that follows the slice is set, too.
    """
    logits = torch.logit(embedder(latents).soft_mask[..., 0].double(), eps=1e-7).float()
    means = logits.mean(dim=0)
    scale = spread / float((logits - means).std().clamp(min=1e-6))
    place = means - means.mean()
    place = place * (places / place.std().clamp(min=1e-6))
    last = embedder.mask_mlp[2]
    assert isinstance(last, nn.Linear)
    last.weight.mul_(scale)
    # the MLP runs twice, on means and maxima, so that its bias counts twice
    last.bias.mul_(scale).add_((place - scale * means) / 2)


class ImageEncoderTask(Task):
    """The source slice against the target of the same slice, by two towers; the target's is thrown away."""

    name = "image-encoder"
    whole_batch = True

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        super().__init__(experiment, folders, cache)
        own = settings_of(experiment.image_encoder)
        image_size = cache.data.image_size // own["patch_size"] * own["patch_size"]
        self.model = _Towers(experiment.denoiser.width, {"image_size": image_size, **own})
        self.dataset = self.rows(("source", "target"))
        self.settings = {**own, "embed_dim": experiment.denoiser.width, "data": cache.data_fingerprint}

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE over the whole batch, both ways, with a temperature that is learned (Radford et al. 2021)."""
        a, b, scale = model(self._pixels(batch["source"]), self._scaled(mr_to_pixels(batch["target"])))
        similarity = F.normalize(rng.gather(a), dim=1) @ F.normalize(rng.gather(b), dim=1).T * scale
        target = torch.arange(len(similarity), device=similarity.device)
        matched = (similarity.argmax(dim=1) == target).float().mean()
        loss = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        return loss, {"matched": matched.detach()}

    @torch.no_grad()
    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/``, embeddings scaled to about unit variance a component, and ``summary.json``."""
        towers: Any = copy.deepcopy(model).eval()
        encoder = towers.source
        prepared = SliceDataset(self.cache, self.cache.ids("train"), ("source",)).spread(_SCALED_BY)
        spread = encoder(self._pixels(prepared["source"])).std()
        encoder.visual.proj.mul_(1.0 / spread.clamp(min=1e-6))
        write_trained(folder, encoder, "image_encoder", "Image encoder")

    def _pixels(self, source: Tensor) -> Tensor:
        return self._scaled(source_pixels(source, self.cache.data))

    def _scaled(self, pixels: Tensor) -> Tensor:
        towers: Any = self.model
        return encoder_pixels(pixels, towers.source.image_size)


class _Towers(nn.Module):
    def __init__(self, embed_dim: int, vision: dict[str, Any]) -> None:
        super().__init__()
        self.source, self.target = (ImageEncoder(embed_dim, dict(vision)) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / _TEMPERATURE)))

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.source(source), self.target(target), self.log_scale.exp().clamp(max=100)
