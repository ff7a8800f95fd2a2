"""Pre-training of the Vision Embedder by InfoNCE (paper, Eqs. 7 and 8), and what its masks came to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.models.embedder import VisionEmbedder, info_nce
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.embeddings import ensure_embeddings
from DiffMaCore.training.experiment import Experiment
from DiffMaCore.training.files import replacing
from DiffMaCore.training.sharded_rng import ShardedRNG
from DiffMaCore.training.soft_masks import MaskFigures, calibrate_mask, mask_figures, mask_picture
from DiffMaCore.training.task import Rows, Sample
from DiffMaCore.training.tasks.summary import write_trained
from DiffMaCore.training.triplets import FixedSlices, source_window
from DiffMaCore.training.views import disturbed

_MANY = 512  # slices that figures and calibration are taken from


class EmbedderTask:
    """A batch of CT latents against itself ("paper"), or two disturbed views of every slice ("two_views")."""

    name = "embedder"
    whole_batch = True

    def __init__(self, experiment: Experiment, cache: PairedCache, reporter: Reporter, device: str = "auto") -> None:
        self.config, self.cache = experiment.embedder, cache
        self.reporter, self.device = reporter, device
        channels, side, _ = cache.latent_shape
        size = {"latent_size": side, "patch_size": experiment.denoiser.patch_size, "width": cache.embed_dim}
        self.model: nn.Module = VisionEmbedder(**size, in_channels=channels, mask_hidden=self.config.mask_hidden)
        self.dataset: Rows = SliceDataset(cache, cache.ids("train"), ("source_latent",))
        own = {key: value for key, value in asdict(self.config).items() if key != "train"}
        self.settings: Mapping[str, Any] = {**own, **size, "data": cache.fingerprint}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE over the whole batch, which every process computes alike."""
        latents = batch["source_latent"]
        if self.config.views == "paper":
            loss = info_nce(rng.gather(model(latents).ct_embedding), None, self.config.temperature)
        else:
            strength = (self.config.noise, self.config.gain, self.config.dropped)
            views = [disturbed(latents, rng, f"view {name}", *strength) for name in "ab"]
            a, b = model(torch.cat(views)).ct_embedding.chunk(2)
            loss = info_nce(rng.gather(a), rng.gather(b), self.config.temperature)
        return loss, {}

    def sample(self, model: nn.Module) -> Sample:
        """Figure 1, and the share of the mask's variance that follows the slice."""
        figures, fixed = self._figures(model), self.fixed
        masks = _masks(model, fixed.batch(self.cache, ("source_latent",))["source_latent"])
        caption = f"Soft mask, {figures.share:.1%} of its variance follows the slice; {fixed.split} slices"
        picture = mask_picture(fixed.source, masks, fixed.labels, source_window(self.cache.data), caption)
        return Sample(picture=picture, figures={f"mask_{name}": value for name, value in asdict(figures).items()})

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/``, ``figure1.png`` and ``summary.json``, and the embeddings of all slices."""
        final: Any = copy.deepcopy(model).eval().requires_grad_(False)
        before = self._figures(final)
        if self.config.calibrate_mask:
            calibrate_mask(final, self._latents(self.cache.ids("train")))
        sample, figures = self.sample(final), self._figures(final)
        with replacing(folder / "figure1.png") as part:
            assert sample.picture is not None
            sample.picture.save(part, format="png")
        write_trained(
            folder,
            final,
            "embedder",
            "Vision Embedder",
            views=self.config.views,
            mask={**asdict(figures), "split": self.fixed.split},
            calibrated=self.config.calibrate_mask,
            mask_before_calibration=asdict(before) if self.config.calibrate_mask else None,
        )
        earlier = f" ({before.share:.1%} before calibration)" if self.config.calibrate_mask else ""
        self.reporter.note(
            f"{figures.share:.1%} of the soft mask's variance comes from the slice{earlier}, the rest from the token's"
            " place"
        )
        if figures.closed > 0.5 and not self.config.calibrate_mask:
            self.reporter.warning(
                f"{figures.closed:.0%} of the soft mask's weights are below 0.01, and a denoiser's masked branch sees"
                " next to nothing through them; embedder.calibrate_mask: true spreads them"
            )
        ensure_embeddings(self.cache, final, self.reporter, self.device)

    @cached_property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        return FixedSlices.choose(self.cache)

    def _figures(self, model: nn.Module) -> MaskFigures:
        return mask_figures(_masks(model, self._latents(self.cache.split["validation"] or self.cache.ids("train"))))

    def _latents(self, ids: Sequence[str]) -> Tensor:
        """Source latents of slices spread over ``ids``."""
        return SliceDataset(self.cache, ids, ("source_latent",)).spread(_MANY)["source_latent"]


@torch.no_grad()
def _masks(model: nn.Module, latents: Tensor) -> Tensor:
    device = next(model.parameters()).device
    return torch.cat([model(part.to(device)).soft_mask.float().cpu() for part in latents.split(64)])
