"""A trained experiment in, held-out slices out, with all that sampling them in many ways needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from DiffMaCore.diffusion.conditions import Conditions, encode, mr_to_pixels
from DiffMaCore.errors import InputError
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.evaluation.models import is_trained, load_predictor
from DiffMaCore.training.evaluation.predictors import DiffusionPredictor, RegressionPredictor
from DiffMaCore.training.experiment import Folders


@dataclass
class Problem:
    """Slices with all that the ways need, and what they are measured against.

    Attributes:
        pipe: the bundle.
        labels: "case a, slice n" of each of the N slices.
        conditions: of the slices.
        neighbours: of the slice next to each.
        truth: (N, S, S) in [0, 1], 0 outside the body.
        body: bool (N, S, S).
        target: latents (N, 4, s, s) of the truth.
        regression: latents of the 2.5D regression's answer, and its checksum; None where it is not trained.
    """

    pipe: DiffMaPipeline
    split: str
    labels: list[str]
    conditions: Conditions
    neighbours: Conditions
    truth: np.ndarray
    body: np.ndarray
    target: Tensor
    regression: tuple[Tensor, str] | None

    @cached_property
    def count(self) -> int:
        return len(self.labels)


def make_problem(folders: Folders, cache: PairedCache, count: int, device: str) -> Problem:
    """``count`` slices spread over the test patients (over others where none test).

    Raises InputError where DiffMa is not trained yet.
    """
    if not is_trained(folders, "diffma"):
        raise InputError(
            f"DiffMa is not trained yet ({folders.system('diffma')}); run `diffma train denoiser --backbone diffma`"
        )
    predictor = load_predictor(folders, "diffma", cache, device)
    assert isinstance(predictor, DiffusionPredictor)
    pipe = predictor.pipe
    split = next(name for name in ("test", "validation", "train") if cache.split[name])
    ids = cache.split[split]
    dataset = SliceDataset(cache, ids, ("source", "target", "body", "target_latent", "ct_pixels"))
    rows = _spread_rows(ids, cache, count)
    items = [dataset[row] for row in rows]
    stacked = {key: torch.stack([item[key] for item in items]) for key in dataset.keys}
    neighbours = torch.stack([dataset[_neighbour(dataset, row)]["source"] for row in rows])
    body = stacked["body"].bool().numpy()
    return Problem(
        pipe=pipe,
        split=split,
        labels=[dataset.where(row) for row in rows],
        conditions=pipe.conditions(stacked["source"]),
        neighbours=pipe.conditions(neighbours),
        truth=np.where(body, (stacked["target"].numpy() + 1) / 2, 0),
        body=body,
        target=stacked["target_latent"].to(pipe.device),
        regression=_regression(folders, cache, pipe, stacked["ct_pixels"], device),
    )


@torch.inference_mode()
def _regression(
    folders: Folders, cache: PairedCache, pipe: DiffMaPipeline, ct_pixels: Tensor, device: str
) -> tuple[Tensor, str] | None:
    if not is_trained(folders, "regression"):
        return None
    predictor = load_predictor(folders, "regression", cache, device)
    assert isinstance(predictor, RegressionPredictor)
    pixels = predictor.model(ct_pixels.to(pipe.device)).clamp(-1, 1)
    return encode(pipe.vae, mr_to_pixels(pixels)), predictor.identity


def _spread_rows(ids: Sequence[str], cache: PairedCache, count: int) -> list[int]:
    """``count`` rows with some body, evenly over all slices."""
    filled = np.flatnonzero(torch.cat([cache.case(id).body().flatten(1).any(1) for id in ids]).numpy())
    count = min(count, len(filled))
    return [int(filled[(2 * k + 1) * len(filled) // (2 * count)]) for k in range(count)]


def _neighbour(dataset: SliceDataset, row: int) -> int:
    """The next slice of the same case, the previous one at its end; the slice itself where a case has no other."""
    case = dataset.place(row)[0]
    neighbours = (
        other for other in (row + 1, row - 1) if 0 <= other < len(dataset) and dataset.place(other)[0] == case
    )
    return next(neighbours, row)
