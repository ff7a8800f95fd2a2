"""Whatever makes a target volume of a source volume: a bundle that samples, the regression that does not, and
references that need no training, for judging the others: what the VAE allows, and what is for free."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from DiffMaCore.bundles import manifest
from DiffMaCore.bundles.config import read_config
from DiffMaCore.devices import choose_batch, choose_device
from DiffMaCore.diffusion import conditions as cond
from DiffMaCore.diffusion.pipeline import noise_seed
from DiffMaCore.diffusion.precision import choose_precision
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.autoencoders import Autoencoder, maps_per_slice
from DiffMaCore.models.components import load_network
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import Case, PairedCache, SliceDataset, source_pixels
from DiffMaCore.training.experiment import EvaluationConfig

if TYPE_CHECKING:
    from DiffMaCore.baselines.regression import RegressionUNet

SLICES = 64
"""Training slices of each patient that the fits of references look at, spread over the volume."""

Kind = Literal["system", "bundle", "reference"]  # a model of the experiment, a foreign one, no model
VOLUMES = ("mean", "first", "deviation")
"""Of a prediction, (N, S, S) float32 in [0, 1]: the expected image, else the mean over the samples, or the one answer
there is; where there are several, also the first sample alone and their deviation, calibrated as the bundle says."""

Prediction = dict[str, NDArray[np.float32]]


class Predictor:
    """One row of a table, by its ``key`` (its folder's name too) and its ``title`` for people; by itself one that gives
    the same answer every time, batch by batch. ``identity`` changes with whatever decides its answers."""

    precision = "float32"  # or "bfloat16", in which its denoiser computes
    stochastic = False  # whether another seed gives another answer
    parameters = 0  # trainable ones of what makes the image; 0 where nothing is trained by gradients
    expects = False  # whether it gives the expected image as well as its samples, by the bundle's mean mode

    def __init__(self, key: str, title: str, kind: Kind, identity: str, device: str = "auto") -> None:
        self.key, self.title, self.kind, self.identity = key, title, kind, identity
        self.device = choose_device(device)

    def ticks(self, slices: int, sampling: EvaluationConfig) -> int:
        """How often :meth:`predict` advances the reporter for a volume of so many slices."""
        return slices

    def predict(self, case: Case, sampling: EvaluationConfig, reporter: Reporter) -> Prediction:
        """The target volume of a case, out of :data:`VOLUMES`."""
        parts = []
        for rows in torch.arange(len(case)).split(self.batch_size()):
            parts.append(self.slices(case, rows.tolist()).clamp(0, 1).numpy().astype(np.float32))
            for _ in rows:
                reporter.advance()
        return {"mean": np.concatenate(parts)}

    def batch_size(self) -> int:
        return 16

    def slices(self, case: Case, rows: list[int]) -> Tensor:
        """The predicted slices (B, S, S) in [0, 1] of some rows of a case."""
        raise NotImplementedError


def parameters_in(folder: Path) -> int:
    """How many numbers a network's files hold, which is not loaded; our networks store nothing but parameters."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


class DiffusionPredictor(Predictor):
    """A bundle, asked as the Slicer module asks it: the same conditions, the same noise, the same decoder."""

    stochastic = True

    def __init__(self, folder: Path, key: str, title: str, kind: Kind, device: str = "auto") -> None:
        super().__init__(key, title, kind, manifest.bundle_checksum(folder), device)
        self.folder, self._asked = folder, device
        self.expects = "mean" in read_config(folder).modes
        self.parameters = parameters_in(folder / "denoiser")  # the other networks are the same for every model
        self.precision = choose_precision("auto", self.device)

    @cached_property
    def pipe(self) -> DiffMaPipeline:
        pipe = DiffMaPipeline.from_pretrained(self.folder)
        pipe.set_device(self._asked, precision=self.precision)
        return pipe

    def ticks(self, slices: int, sampling: EvaluationConfig) -> int:
        batches = -(-slices // self.pipe.batch_size())
        return batches * (self._draws(sampling) * sampling.steps + self.expects)

    def _draws(self, sampling: EvaluationConfig) -> int:
        return 0 if self.expects and sampling.samples == 1 else sampling.samples

    def predict(self, case: Case, sampling: EvaluationConfig, reporter: Reporter) -> Prediction:
        """Batch by batch; every slice starts from the same noise, as in ``diffma convert``."""
        parts = [
            self._batch(case, rows.tolist(), sampling, reporter)
            for rows in torch.arange(len(case)).split(self.pipe.batch_size())
        ]
        kept = VOLUMES if sampling.samples > 1 else VOLUMES[:1]
        return dict(zip(kept, map(np.concatenate, zip(*parts, strict=True)), strict=False))

    def _batch(
        self, case: Case, rows: list[int], sampling: EvaluationConfig, reporter: Reporter
    ) -> tuple[NDArray, NDArray, NDArray]:
        pipe, slices, distance = self.pipe, case.source(rows), self.pipe.bundle.neighbour_distance
        if distance is not None:  # (B, 3, S, S) in place of (B, S, S)
            slices = torch.stack([case.neighbours(row, distance) for row in rows])
        low, high = pipe.bundle.output_range
        conditions = pipe.conditions(slices)

        def image(decoded: Tensor) -> NDArray[np.float32]:
            return ((decoded.numpy() - low) / (high - low)).astype(np.float32)

        def sample(seed: int) -> NDArray[np.float32]:
            latents = pipe.denoise(conditions, sampling.steps, sampling.scheduler, seed, reporter.advance)
            return image(pipe.decode(latents, ct_pixels=conditions.ct_pixels))

        expected: list[NDArray[np.float32]] = []
        if self.expects:
            expected.append(image(pipe.decode_expected(pipe.expected(slices, conditions))[0]))
            reporter.advance()
        stack = np.stack([sample(noise_seed(sampling.seed, k)) for k in range(self._draws(sampling))] or expected)
        deviation = stack.std(axis=0, ddof=1) * pipe.bundle.uncertainty_scale if len(stack) > 1 else 0 * stack[0]
        return expected[0] if expected else stack.mean(axis=0), stack[0], deviation


class RegressionPredictor(Predictor):
    """The deterministic 2.5D regression, through the very rows that training reads."""

    def __init__(
        self, folder: Path, key: str, title: str, kind: Kind, cache: PairedCache, device: str = "auto"
    ) -> None:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
        identity = hashlib.sha256("".join(map(manifest.sha256_of, files)).encode()).hexdigest()
        super().__init__(key, title, kind, identity, device)
        self.folder, self.cache, self.parameters = folder, cache, parameters_in(folder)

    @cached_property
    def model(self) -> RegressionUNet:
        from DiffMaCore.baselines.regression import RegressionUNet

        return load_network(RegressionUNet, self.folder, "regression").requires_grad_(False).to(self.device)

    def batch_size(self) -> int:
        side = self.cache.data.image_size
        return choose_batch(self.device, 24 * 4 * side * side * 64)  # a dozen maps of 64 channels, twice

    @torch.inference_mode()
    def slices(self, case: Case, rows: list[int]) -> Tensor:
        pixels = SliceDataset(self.cache, (case.id,), ("ct_pixels",)).batch(rows)["ct_pixels"]
        return (self.model(pixels.to(self.device)).float().cpu() + 1) / 2


class Reference(Predictor):
    """What rests on the prepared data alone, whose checksum it has."""

    def __init__(self, key: str, title: str, cache: PairedCache, device: str = "auto") -> None:
        words = (key, cache.fingerprint, *cache.split["train"])
        super().__init__(key, title, "reference", hashlib.sha256("\n".join(words).encode()).hexdigest(), device)
        self.cache = cache


class VaeCeiling(Reference):
    """The truth through the VAE and back: no latent diffusion with this VAE can be expected to do better."""

    @cached_property
    def vae(self) -> Autoencoder:
        return self.cache.load_vae().requires_grad_(False).to(self.device)

    def batch_size(self) -> int:
        side = self.cache.data.image_size
        return choose_batch(self.device, 4 * side * side * sum(maps_per_slice(self.vae)))

    @torch.inference_mode()
    def slices(self, case: Case, rows: list[int]) -> Tensor:
        pixels = cond.mr_to_pixels(case.target(rows).to(self.device))
        return (cond.decode(self.vae, cond.encode(self.vae, pixels)).float().cpu() + 1) / 2


class MeanImage(Reference):
    """The mean of the training slices, whatever the source shows."""

    @cached_property
    def mean(self) -> Tensor:
        """(S, S) in [0, 1]."""
        total, count = torch.zeros(()), 0
        for case, rows in _training_slices(self.cache):
            total, count = total + (case.target(rows).double().sum(dim=0) + len(rows)) / 2, count + len(rows)
        return total / count

    def slices(self, case: Case, rows: list[int]) -> Tensor:
        return self.mean.expand(len(rows), -1, -1)


class LinearSource(Reference):
    """The source's own grey values (every HU window's), scaled by least squares over the training patients' bodies."""

    @cached_property
    def weights(self) -> NDArray[np.floating]:
        """(4) of the three channels and the constant."""
        square, right = np.zeros((4, 4)), np.zeros(4)
        for case, rows in _training_slices(self.cache):
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


def _training_slices(cache: PairedCache) -> Iterator[tuple[Case, list[int]]]:
    for case in map(cache.case, cache.split["train"]):
        yield case, np.linspace(0, len(case) - 1, min(SLICES, len(case))).round().astype(int).tolist()


def references(cache: PairedCache, device: str = "auto") -> list[Predictor]:
    """All of them; the fits are left out where the cache holds no training cases."""
    found: list[Predictor] = [VaeCeiling("vae_ceiling", "VAE ceiling (the truth, encoded and decoded)", cache, device)]
    if cache.split["train"]:
        found.append(MeanImage("mean_image", "mean training image", cache))
        found.append(LinearSource("linear_source", "linear fit of the source's grey values", cache))
    return found
