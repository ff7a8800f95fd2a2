"""What the trainer asks of whatever is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor, nn

from DiffMaCore.training.sharded_rng import ShardedRNG


class Rows(Protocol):
    """What a task trains on: ``cache.SliceDataset``, or anything like it.

    One with a true ``in_order`` is read row after row, and never again from the start (``fresh.FreshSlices``).
    """

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Mapping[str, Any]: ...

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The same of several rows, stacked (B, ...); float16 may stay what it is."""
        ...

    def where(self, row: int) -> str:
        """What a row is called in an error: "case brain_03, slice 41"."""
        ...


@dataclass(frozen=True)
class Sample:
    """What a task shows of itself now and then.

    Attributes:
        picture: for a person: CT | generated | true of a few fixed slices.
        arrays: what the report needs, kept as ``.npz`` beside the picture.
        figures: numbers such as the loss on the validation slices, logged with the rest.
    """

    picture: Image.Image | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """What is trained.

    Attributes:
        name: "denoiser diffma", for progress and errors.
        model: float32, on the CPU, with its starting weights; moved by the trainer.
        dataset: its rows; batches hold its tensors as (B, ...) on the device, and "row" (B,).
        settings: everything that decides the result beside TrainConfig and seed, as plain JSON values: sizes, data
            fingerprint, hash of the embedder. A checkpoint made under other settings is refused.
        whole_batch: the loss needs the whole batch (``ShardedRNG.gather``), so that it cannot be accumulated.
    """

    name: str
    model: nn.Module
    dataset: Rows
    settings: Mapping[str, Any]
    whole_batch: bool

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of the part of a batch, and figures to log (scalars, detached; averaged over the parts).

        ``model`` is ``self.model`` as accelerate wraps it: call it once and as a whole (views concatenated), not
        its submodules. It runs under the run's precision, and its outputs are float32.
        """
        ...

    def sample(self, model: nn.Module) -> Sample | None:
        """Pictures and figures of the averaged weights; process 0 only, without gradients, model in eval mode."""
        ...

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write what the run was for (``bundle/`` or ``model/``) into the run's folder, averaged weights on the CPU;
        process 0 only. Called again after a run has been made longer: replaces what is there."""
        ...
