"""Two disturbed views of every slice, so that InfoNCE (paper, Eqs. 7 and 8) has something to agree on.

A batch against itself can be told apart without looking at what is in a slice. Two views make it a task: what tells
slices apart must survive noise, drift of the intensities and missing patches.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class Random(Protocol):
    """Where random numbers come from; ``ShardedRNG`` is one. ``name`` keeps two draws of one step apart."""

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers (B, *shape)."""
        ...

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers from 0 to below 1 (B, *shape)."""
        ...


def disturbed(latents: Tensor, rng: Random, name: str, noise: float, gain: float, dropped: float) -> Tensor:
    """One view of latents (B, C, S, S) of about unit variance: gain and offset a channel, noise, square holes.

    Args:
        latents: clean.
        rng: random numbers.
        name: of this view.
        noise: standard deviation of the noise.
        gain: of the channels' gains about 1, and of their offsets.
        dropped: share of the cells, eight latent pixels wide, that are blanked with the channel's mean over the slice.
    """
    channels, side = latents.shape[1], latents.shape[-1]
    moved = latents * (1 + gain * rng.normal(f"{name} gain", channels, 1, 1))
    moved = moved + gain * rng.normal(f"{name} offset", channels, 1, 1)
    moved = moved + noise * rng.normal(f"{name} noise", *latents.shape[1:])
    cells = max(side // 8, 1)
    holes = (rng.uniform(f"{name} holes", 1, cells, cells) < dropped).to(latents.dtype)
    holes = F.interpolate(holes, (side, side), mode="nearest")
    return moved * (1 - holes) + latents.mean(dim=(2, 3), keepdim=True) * holes
