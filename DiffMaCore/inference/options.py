"""What decides how a volume is converted: one object, which the command line, a batch and the pipeline hand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from DiffMaCore.diffusion.schedulers import DEFAULT_STEPS, check_sampling


@dataclass(frozen=True)
class Sampling:
    """How slices are made, as :class:`DiffMaCore.DiffMaPipeline` is asked for them; None leaves it to the bundle, or
    to the memory. Raises InputError for numbers out of range and for a scheduler that does not exist."""

    mode: str | None = None
    steps: int = DEFAULT_STEPS
    scheduler: str | None = None
    seed: int = 0
    samples: int = 1
    decoder: str | None = None
    batch_size: int | None = None
    start_slice: int | None = None
    uncertainty: bool = False

    def __post_init__(self) -> None:
        check_sampling(self.steps, self.seed, self.samples, self.batch_size, self.scheduler)

    @property
    def uncertainty_of(self) -> Literal["samples", "decoder"] | None:
        """What tells the uncertainty: what the samples differ by, or of one image its decoder; None: nobody asked."""
        if self.samples > 1:
            return "samples"
        return "decoder" if self.uncertainty else None

    @property
    def draws(self) -> int:
        """Noises that a slice is made from: in mean mode only where a deviation is asked for."""
        return 0 if self.mode == "mean" and self.samples == 1 else self.samples

    @property
    def images(self) -> int:
        """That are decoded for a slice."""
        return self.draws + (self.mode == "mean")

    @property
    def evaluations(self) -> int:
        """Of the denoiser for a slice."""
        return self.draws * self.steps + (self.mode == "mean")


@dataclass(frozen=True)
class ConvertOptions(Sampling):
    """What else decides the result of a file; see ``diffma convert --help``."""

    series: str | None = None
    mask: Path | None = None
    slices: str | None = None
    soft_mask: Path | None = None
