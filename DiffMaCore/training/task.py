"""What is trained: a network, the slices that it learns from, its loss, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.training.batches import Batch, Rows, ShardedRNG
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.fresh import FreshSlices, fresh_spec
from DiffMaCore.training.pictures import FixedSlices, triplet_picture
from DiffMaCore.training.run_folder import Sample

_OF_LATENTS = {"target_latent", "source_latent", "clip_embedding"}


class Task:
    """What the trainer asks of whatever is trained."""

    name: str  # "denoiser diffma", for progress and errors
    model: nn.Module  # float32, on the CPU, with its starting weights; moved by the trainer
    dataset: Rows  # batches hold its tensors as (B, ...) on the device, and "row" (B,)
    settings: Mapping[str, Any]  # what decides the result besides TrainConfig and seed; checkpoints keep it
    whole_batch = False  # whether the loss needs the whole batch (ShardedRNG.gather), so that it cannot be accumulated

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        self.experiment, self.folders, self.cache = experiment, folders, cache

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of the part of a batch, and metrics to log (scalars, detached; averaged over the parts).

        ``model`` is ``self.model`` as accelerate wraps it: call it once and as a whole (views concatenated), not
        its submodules. It runs under the run's precision, and its outputs are float32.
        """
        raise NotImplementedError

    def sample(self, model: nn.Module) -> Sample | None:
        """Pictures and metrics of the averaged weights; process 0 only, without gradients, model in eval mode."""
        return None

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write what the run was for (``bundle/`` or ``model/``) into the run's folder, averaged weights on the CPU;
        process 0 only. Called again after a run has been made longer: replaces what is there."""
        raise NotImplementedError

    def rows(self, keys: Sequence[str], contrasts: Sequence[int] | None = None) -> Rows:
        """Rows with ``keys`` of those who train: prepared, or fresh renderings, of ``contrasts`` where these are given.

        Raises InputError where latents are asked for and the data is prepared without.
        """
        if self.experiment.data.heads is None:
            return SliceDataset(self.cache, self.cache.ids("train"), keys)
        encoded = bool(_OF_LATENTS & set(keys))
        if encoded:
            _ = self.cache.latent_shape  # tells where there are none
        spec = fresh_spec(self.experiment, self.folders, self.cache.fingerprint, encoded)
        return FreshSlices(spec, keys, contrasts)

    def held_out(self, keys: Sequence[str], count: int, model: nn.Module, first: bool = False) -> Batch:
        """Up to ``count`` slices of those who validate (train, where nobody does), spread over them, on the model's
        device; of several contrasts only the ``first``."""
        ids = self.cache.split["validation"] or self.cache.ids("train")
        ids = tuple(id for id in ids if not first or self.cache.case(id).contrast == 0)
        return SliceDataset(self.cache, ids, keys).spread(count, device_of(model))

    @cached_property
    def fixed(self) -> FixedSlices:
        """The slices that are shown."""
        return FixedSlices.choose(self.cache)

    def triplets(self, generated: Tensor, caption: str, **metrics: float) -> Sample:
        """The fixed slices (n, S, S) in [-1, 1] as they are generated, between source and truth."""
        made = generated.float().cpu().numpy()
        picture = triplet_picture(self.fixed, made, self.cache.data, f"{caption}, {self.experiment.title}")
        return Sample(picture, self.fixed.arrays(made), metrics)


def settings_of(config: Any, **facts: Any) -> dict[str, Any]:
    """A part of the experiment without its training run, and other ``facts``, for ``Task.settings``."""
    return {**{key: value for key, value in asdict(config).items() if key != "train"}, **facts}


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
