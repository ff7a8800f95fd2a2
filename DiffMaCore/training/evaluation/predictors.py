"""Whatever makes a target volume of a source volume: a bundle that samples, or the regression that does not."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from DiffMaCore.bundles import manifest
from DiffMaCore.bundles.config import read_config
from DiffMaCore.devices import choose_batch, choose_device
from DiffMaCore.diffusion.pipeline import noise_seed
from DiffMaCore.diffusion.precision import choose_precision
from DiffMaCore.errors import ModelError, loading
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import Case, PairedCache, SliceDataset, with_neighbours

if TYPE_CHECKING:
    from DiffMaCore.baselines.regression import RegressionUNet

Kind = Literal["system", "bundle", "reference"]


@dataclass(frozen=True)
class Sampling:
    """How a stochastic system is asked: solver steps, scheduler, number of samples, and the seed of their noise."""

    steps: int
    scheduler: str
    samples: int
    seed: int


@dataclass(frozen=True)
class Prediction:
    """One predicted volume, (N, S, S) float32 in [0, 1].

    Attributes:
        mean: the expected image, else the mean over the samples, or the one answer there is.
        first: the first sample alone; None where there is one answer.
        deviation: sample standard deviation, calibrated as the bundle says; None where there is one answer.
        seconds: that it took, without loading the networks.
    """

    mean: NDArray[np.float32]
    first: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None
    seconds: float = 0.0


class Predictor(Protocol):
    """One row of a table.

    Attributes:
        key: of the row, and the name of its folder.
        title: for people.
        kind: what it is: a system of the experiment, a foreign bundle, or a reference that is no system.
        identity: a checksum that changes with whatever decides its answers.
        precision: "float32" or "bfloat16", in which its denoiser computes.
        stochastic: whether another seed gives another answer.
        expects: whether it gives the expected image beside its samples, by the bundle's mean mode.
    """

    key: str
    title: str
    kind: Kind
    identity: str
    precision: str
    stochastic: bool
    expects: bool

    @property
    def parameters(self) -> int:
        """Trainable parameters of what makes the image; 0 where nothing is trained by gradients."""
        ...

    def ticks(self, slices: int, sampling: Sampling) -> int:
        """How often :meth:`predict` advances the reporter for a volume of so many slices."""
        ...

    def predict(self, case: Case, sampling: Sampling, reporter: Reporter) -> Prediction:
        """The target volume of a case."""
        ...


class DiffusionPredictor:
    """A bundle, asked as the Slicer module asks it: the same conditions, the same noise, the same decoder."""

    stochastic = True

    def __init__(self, folder: Path, key: str, title: str, kind: Kind, device: str = "auto") -> None:
        self.folder, self.key, self.title, self.kind = folder, key, title, kind
        self.identity = manifest.bundle_checksum(folder)
        self.expects = "mean" in read_config(folder).modes
        self._device = device
        self.precision = choose_precision("auto", choose_device(device))

    @cached_property
    def pipe(self) -> DiffMaPipeline:
        """The networks, loaded when the first volume is asked for."""
        pipe = DiffMaPipeline.from_pretrained(self.folder)
        pipe.set_device(self._device, precision=self.precision)
        return pipe

    @property
    def parameters(self) -> int:
        """The denoiser's; VAE, image encoder and embedder are the same for every system."""
        return sum(p.numel() for p in self.pipe.denoiser.parameters())

    def ticks(self, slices: int, sampling: Sampling) -> int:
        batches = -(-slices // self.pipe.batch_size())
        return batches * (self._draws(sampling) * sampling.steps + self.expects)

    def _draws(self, sampling: Sampling) -> int:
        return 0 if self.expects and sampling.samples == 1 else sampling.samples

    def predict(self, case: Case, sampling: Sampling, reporter: Reporter) -> Prediction:
        """Batch by batch; every slice starts from the same noise, as in ``diffma convert``."""
        began = time.monotonic()
        parts = [
            self._batch(self._sources(case, rows.tolist()), sampling, reporter)
            for rows in torch.arange(len(case)).split(self.pipe.batch_size())
        ]
        volumes = [np.concatenate(volume) for volume in zip(*parts, strict=True)]
        seconds = time.monotonic() - began
        if sampling.samples == 1:
            return Prediction(volumes[0], seconds=seconds)
        return Prediction(volumes[0], volumes[1], volumes[2], seconds)

    def _sources(self, case: Case, rows: list[int]) -> torch.Tensor:
        """Slices with their neighbours (B, 3, S, S) where the bundle takes them, else alone (B, S, S)."""
        distance = self.pipe.bundle.neighbour_distance
        if distance is None:
            return case.source(rows)
        whole, index = case.source(), case.slice_index().numpy()
        return torch.stack([with_neighbours(whole, row, index, case.spacing, distance) for row in rows])

    def _batch(self, slices: torch.Tensor, sampling: Sampling, reporter: Reporter) -> tuple[NDArray, NDArray, NDArray]:
        pipe = self.pipe
        low, high = pipe.bundle.output_range
        conditions = pipe.conditions(slices)

        def image(latents: torch.Tensor) -> NDArray[np.float32]:
            decoded = pipe.decode(latents, ct_pixels=conditions.ct_pixels).numpy()
            return ((decoded - low) / (high - low)).astype(np.float32)

        expected: list[NDArray[np.float32]] = []
        if self.expects:
            expected.append(image(pipe.mean(conditions)))
            reporter.advance()
        samples = [
            image(
                pipe.denoise(
                    conditions, sampling.steps, sampling.scheduler, noise_seed(sampling.seed, k), reporter.advance
                )
            )
            for k in range(self._draws(sampling))
        ]
        stack = np.stack(samples or expected)
        deviation = stack.std(axis=0, ddof=1) * pipe.bundle.uncertainty_scale if len(stack) > 1 else 0 * stack[0]
        return expected[0] if expected else stack.mean(axis=0), stack[0], deviation


class RegressionPredictor:
    """The deterministic 2.5D regression."""

    precision = "float32"
    stochastic = False
    expects = False

    def __init__(
        self, folder: Path, key: str, title: str, kind: Kind, cache: PairedCache, device: str = "auto"
    ) -> None:
        self.folder, self.key, self.title, self.kind = folder, key, title, kind
        self._cache = cache
        self._device = choose_device(device)
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
        self.identity = hashlib.sha256("".join(map(manifest.sha256_of, files)).encode()).hexdigest()

    @cached_property
    def model(self) -> RegressionUNet:
        """The network, loaded when the first volume is asked for."""
        from DiffMaCore.baselines.regression import RegressionUNet

        try:
            with loading(f"the regression in {self.folder}"):
                return RegressionUNet.from_pretrained(self.folder).eval().requires_grad_(False).to(self._device)
        except (OSError, ValueError, RuntimeError) as problem:
            raise ModelError(
                f"the regression in {self.folder} cannot be loaded ({str(problem).splitlines()[0]});"
                " train it again with `diffma train denoiser --backbone regression`"
            ) from problem

    @property
    def parameters(self) -> int:
        """All of the network's."""
        return sum(p.numel() for p in self.model.parameters())

    def _batch_size(self) -> int:
        side = self._cache.data.image_size
        return choose_batch(self._device, 24 * 4 * side * side * 64)  # a dozen maps of 64 channels, twice

    def ticks(self, slices: int, sampling: Sampling) -> int:
        return -(-slices // self._batch_size())

    @torch.inference_mode()
    def predict(self, case: Case, sampling: Sampling, reporter: Reporter) -> Prediction:
        """Through the very rows that training reads; the sampling does not matter."""
        began = time.monotonic()
        rows = SliceDataset(self._cache, (case.id,), ("ct_pixels",))
        parts = []
        for batch in DataLoader(rows, self._batch_size()):
            pixels = self.model(batch["ct_pixels"].to(self._device)).float().cpu()
            parts.append(((pixels.clamp(-1, 1) + 1) / 2).numpy())
            reporter.advance()
        return Prediction(np.concatenate(parts), seconds=time.monotonic() - began)
