"""The baseline without diffusion: from three neighbouring source slices straight to the target's pixels, by L1."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.baselines.systems import TITLES, build_denoiser, build_regression, count_parameters
from DiffMaCore.training.bundling import system_title
from DiffMaCore.training.cache import PairedCache, SliceDataset, pixel_channels
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.sharded_rng import ShardedRNG
from DiffMaCore.training.task import Rows, Sample
from DiffMaCore.training.tasks.denoiser import size_of
from DiffMaCore.training.tasks.rows import training_rows
from DiffMaCore.training.tasks.summary import write_trained
from DiffMaCore.training.triplets import FixedSlices, triplet_picture

KEYS = ("ct_pixels", "target")
_HELD_OUT = 16  # slices of the held-out loss


class RegressionTask:
    """A U-Net of as many parameters as the experiment's DiffMa."""

    name = "regression"
    whole_batch = False

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        self.experiment, self.cache = experiment, cache
        with torch.device("meta"):
            diffma = build_denoiser("diffma", **size_of(experiment.denoiser, cache))
        parameters = count_parameters(diffma)
        size = {"in_channels": pixel_channels(cache.data), "image_size": cache.data.image_size}
        self.model: nn.Module = build_regression(**size, parameters=parameters)
        self.dataset: Rows = training_rows(experiment, folders, cache, KEYS, contrasts=(0,))
        self.settings: Mapping[str, Any] = {**size, "parameters": parameters, "data": cache.fingerprint}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean absolute error in [-1, 1]."""
        return F.l1_loss(model(batch["ct_pixels"]), batch["target"]), {}

    @torch.no_grad()
    def sample(self, model: nn.Module) -> Sample:
        """Triplets of the fixed slices, and the loss on held-out ones."""
        device = next(model.parameters()).device
        shown = self.fixed.batch(self.cache, ("ct_pixels",))["ct_pixels"]
        generated = model(shown.to(device)).clamp(-1, 1).cpu().numpy()
        caption = f"{TITLES['regression']}, {self.experiment.title}"
        picture = triplet_picture(self.fixed, generated, self.cache.data, caption)
        return Sample(picture, self.fixed.arrays(generated), {"held_out_loss": self._held_out_loss(model, device)})

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/`` and ``summary.json``."""
        write_trained(folder, model, "regression", system_title("regression"), held_out=self.fixed.split)

    @cached_property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        return FixedSlices.choose(self.cache)

    def _held_out_loss(self, model: nn.Module, device: torch.device) -> float:
        ids = self.cache.split["validation"] or self.cache.ids("train")
        dataset = SliceDataset(self.cache, [id for id in ids if self.cache.case(id).contrast == 0], KEYS)
        batch = dataset.spread(_HELD_OUT)
        source, target = (batch[key].to(device) for key in KEYS)
        return float(F.l1_loss(model(source), target))
