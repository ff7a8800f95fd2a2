"""What a task trains on: the prepared slices, or fresh renderings of heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.fresh import FreshSlices, fresh_spec
from DiffMaCore.training.task import Rows

_OF_LATENTS = {"target_latent", "source_latent", "clip_embedding"}


def training_rows(
    experiment: Experiment,
    folders: Folders,
    cache: PairedCache,
    keys: Sequence[str],
    embeddings: Path | None = None,
    contrasts: Sequence[int] | None = None,
) -> Rows:
    """Rows with ``keys`` of those who train; of rendered heads only ``contrasts``, where these are given.

    Raises InputError where latents are asked for and the data is prepared without.
    """
    if experiment.data.heads is None:
        return SliceDataset(cache, cache.ids("train"), keys, embeddings)
    encoded = bool(_OF_LATENTS & set(keys))
    if encoded:
        _ = cache.latent_shape  # tells where there are none
    return FreshSlices(fresh_spec(experiment, folders, cache.fingerprint, encoded), keys, contrasts)
