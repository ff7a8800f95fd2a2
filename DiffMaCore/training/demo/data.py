"""Training slices: phantoms made once, kept on disk, and read back as paired CT (HU) and MR ([-1, 1]) slices."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore.phantom import head_phantom
from DiffMaCore.training.demo.progress import Progress
from DiffMaCore.training.files import replacing
from DiffMaCore.volumes.intensity import normalise


@dataclass(frozen=True)
class DataConfig:
    """Which phantoms a run sees. Seeds ``first_seed`` onward train; ``held_out`` seeds are never trained on."""

    phantoms: int
    first_seed: int
    held_out: tuple[int, ...]
    image_size: int
    pixel_spacing: float  # mm, in plane
    slice_spacing: float  # mm
    slices: int  # per phantom, over the whole head
    mr_low: float  # percentiles inside the body that become -1 and 1
    mr_high: float
    workers: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "held_out", tuple(self.held_out))
        if set(self.held_out) & set(self.seeds):
            raise ValueError("held_out seeds are also trained on; choose seeds outside the trained range")

    @property
    def seeds(self) -> range:
        """Seeds of the phantoms that train."""
        return range(self.first_seed, self.first_seed + self.phantoms)


@dataclass(frozen=True)
class Slices:
    """Paired slices: ``ct`` int16 (N, S, S) in HU, ``mr`` float16 (N, S, S) in [-1, 1], ``body`` bool."""

    ct: Tensor
    mr: Tensor
    body: Tensor

    def __len__(self) -> int:
        return len(self.ct)

    def pair(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """CT in HU and MR in [-1, 1], float32 (B, S, S)."""
        return self.ct[index].float(), self.mr[index].float()


def phantom_slices(seed: int, config: DataConfig) -> Slices:
    """The slices of one phantom that hold some of the body."""
    spacing = (config.pixel_spacing, config.pixel_spacing, config.slice_spacing)
    phantom = head_phantom(seed, spacing, (config.image_size, config.image_size, config.slices))
    body = phantom.body
    mr = normalise(phantom.mr, body, config.mr_low, config.mr_high)
    keep = body.sum(axis=(1, 2)) > 0.02 * config.image_size**2
    ct = np.round(phantom.ct[keep]).astype(np.int16)
    return Slices(torch.from_numpy(ct), torch.from_numpy(mr[keep].astype(np.float16)), torch.from_numpy(body[keep]))


def _store(job: tuple[int, DataConfig, Path]) -> int:
    seed, config, target = job
    torch.set_num_threads(1)
    slices = phantom_slices(seed, config)
    with replacing(target) as part:
        torch.save({"ct": slices.ct, "mr": slices.mr, "body": slices.body}, part)
    return seed


def make_phantoms(config: DataConfig, folder: Path) -> Slices:
    """All training slices; phantoms not yet in ``folder`` are made there first, several at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {seed: folder / f"phantom_{seed}.pt" for seed in config.seeds}
    jobs = [(seed, config, file) for seed, file in files.items() if not file.is_file()]
    if jobs:
        progress = Progress("phantoms", len(jobs))
        with ProcessPoolExecutor(max_workers=config.workers) as pool:
            for done, _ in enumerate(pool.map(_store, jobs), start=1):
                progress.update(done)
    parts = [torch.load(file, weights_only=True) for file in files.values()]
    return Slices(*(torch.cat([part[key] for part in parts]) for key in ("ct", "mr", "body")))


def batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """``steps`` batches of indices out of ``count``, epoch after epoch in a new order."""
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(queue) < size:
            queue = torch.cat([queue, torch.randperm(count, generator=generator)])
        yield queue[:size]
        queue = queue[size:]


def random_affine(images: Tensor, fill: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Images (B, C, S, S) turned, scaled, shifted and half of them mirrored; all channels move together.

    ``fill`` (C,) is what comes in from outside the slice.
    """
    count = len(images)

    def draw(scale: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * scale * strength

    angle, zoom = draw(0.2), 1 + draw(0.08)
    mirror = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([cos * mirror, -sin, draw(0.08), sin * mirror, cos, draw(0.08)], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
    shift = fill.view(1, -1, 1, 1)
    return F.grid_sample(images - shift, grid, align_corners=False) + shift


def augment_pair(ct: Tensor, mr: Tensor, generator: torch.Generator, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """The same random placement for CT (B, S, S) in HU and MR (B, S, S) in [-1, 1]."""
    both = torch.stack([ct, mr], dim=1)
    moved = random_affine(both, both.new_tensor([-1000.0, -1.0]), generator, strength)
    return moved[:, 0], moved[:, 1]
