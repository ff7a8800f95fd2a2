"""Answers that need no trained system, for judging those that do: what the VAE allows, and what is for free."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from DiffMaCore.devices import choose_batch, choose_device
from DiffMaCore.diffusion import conditions as cond
from DiffMaCore.models.autoencoders import Autoencoder, maps_per_slice
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import Case, PairedCache, source_pixels
from DiffMaCore.training.evaluation.predictors import Kind, Prediction, Predictor, Sampling

SLICES = 64
"""Training slices of each patient that the two fits look at, spread over the volume."""


class Reference:
    """What all references share: no sampling, no parameters, a checksum over the data they rest on."""

    kind: Kind = "reference"
    precision = "float32"
    stochastic = False
    expects = False
    parameters = 0

    def __init__(self, key: str, title: str, cache: PairedCache) -> None:
        self.key, self.title, self.cache = key, title, cache
        words = (key, cache.fingerprint, *cache.split["train"])
        self.identity = hashlib.sha256("\n".join(words).encode()).hexdigest()

    def ticks(self, slices: int, sampling: Sampling) -> int:
        return slices

    def predict(self, case: Case, sampling: Sampling, reporter: Reporter) -> Prediction:
        """The volume, batch by batch."""
        began = time.monotonic()
        parts = []
        size = self.batch_size()
        for first in range(0, len(case), size):
            part = list(range(first, min(first + size, len(case))))
            parts.append(self.slices(case, part).clamp(0, 1).numpy().astype(np.float32))
            for _ in part:
                reporter.advance()
        return Prediction(np.concatenate(parts), seconds=time.monotonic() - began)

    def batch_size(self) -> int:
        """Slices at once."""
        return 16

    def slices(self, case: Case, rows: list[int]) -> Tensor:
        """The predicted slices (B, S, S) in [0, 1] of some rows of a case."""
        raise NotImplementedError


class VaeCeiling(Reference):
    """The truth through the VAE and back: no latent diffusion with this VAE can be expected to do better."""

    def __init__(self, cache: PairedCache, device: str = "auto") -> None:
        super().__init__("vae_ceiling", "VAE ceiling (the truth, encoded and decoded)", cache)
        self._device = choose_device(device)

    @cached_property
    def vae(self) -> Autoencoder:
        """The data's own."""
        return self.cache.load_vae().requires_grad_(False).to(self._device)

    def batch_size(self) -> int:
        side = self.cache.data.image_size
        return choose_batch(self._device, 4 * side * side * sum(maps_per_slice(self.vae)))

    @torch.inference_mode()
    def slices(self, case: Case, rows: list[int]) -> Tensor:
        pixels = cond.mr_to_pixels(case.target(rows).to(self._device))
        return (cond.decode(self.vae, cond.encode(self.vae, pixels)).float().cpu() + 1) / 2


class MeanImage(Reference):
    """The mean of the training slices, whatever the source shows."""

    def __init__(self, cache: PairedCache) -> None:
        super().__init__("mean_image", "mean training image", cache)

    @cached_property
    def mean(self) -> Tensor:
        """(S, S) in [0, 1]."""
        total, count = torch.zeros(()), 0
        for case, rows in training_slices(self.cache):
            total, count = total + (case.target(rows).double().sum(dim=0) + len(rows)) / 2, count + len(rows)
        return total / count

    def slices(self, case: Case, rows: list[int]) -> Tensor:
        return self.mean.expand(len(rows), -1, -1)


class LinearSource(Reference):
    """The source's own grey values (every HU window's), scaled by least squares over the training patients' bodies."""

    def __init__(self, cache: PairedCache) -> None:
        super().__init__("linear_source", "linear fit of the source's grey values", cache)

    @cached_property
    def weights(self) -> NDArray[np.floating]:
        """(4) of the three channels and the constant."""
        square, right = np.zeros((4, 4)), np.zeros(4)
        for case, rows in training_slices(self.cache):
            inside = case.body(rows).numpy()
            terms = self._terms(case.source(rows))[inside]
            wanted = ((case.target(rows).double().numpy() + 1) / 2)[inside]
            square, right = square + terms.T @ terms, right + terms.T @ wanted
        return np.linalg.lstsq(square, right, rcond=None)[0]

    def slices(self, case: Case, rows: list[int]) -> Tensor:
        return torch.from_numpy(self._terms(case.source(rows)) @ self.weights)

    def _terms(self, source: Tensor) -> NDArray[np.float64]:
        """(B, S, S, 4): the three channels and a constant."""
        pixels = source_pixels(source, self.cache.data).permute(0, 2, 3, 1).double().numpy()
        return np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)


def training_slices(cache: PairedCache) -> Iterator[tuple[Case, list[int]]]:
    """Every training case with the rows that are looked at."""
    for name in cache.split["train"]:
        case = cache.case(name)
        yield case, np.linspace(0, len(case) - 1, min(SLICES, len(case))).round().astype(int).tolist()


def references(cache: PairedCache, device: str = "auto") -> list[Predictor]:
    """All of them; the fits are left out where the cache holds no training cases."""
    found: list[Predictor] = [VaeCeiling(cache, device)]
    if cache.split["train"]:
        found += [MeanImage(cache), LinearSource(cache)]
    return found
