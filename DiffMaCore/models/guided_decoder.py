"""The guided decoder: from an MR latent and the CT's own pixels to the MR slice.

The MR's edges are the CT's edges, so a decoder that sees both needs the latent only for what the CT does not show.
A small U-Net: the CT's pixels go down to the latent's size, the latent joins them there, and both come up together.
It may also say how far off it expects its own slice to be.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.layers import ResidualBlock

_SMALL = -3.0  # errors begin at softplus of it, 0.05


class Decoded(NamedTuple):
    """MR slices (B, S, S) in about [-1, 1], and the absolute error that is expected of each pixel, in the same units;
    None of a decoder that was not trained to tell."""

    slices: Tensor
    expected_error: Tensor | None


class GuidedDecoder(ModelMixin, ConfigMixin):
    """MR latents (B, C, S / f, S / f) and CT pixels (B, P, S, S) in [-1, 1] to MR slices: see :class:`Decoded`.

    Args:
        latent_channels: C.
        pixel_channels: P, neighbouring slices times HU windows.
        channels: of the levels from the slice's size to the latent's, each half as large as the one before; f is 2 to
            their number less one.
        blocks: residual blocks at the latent's size.
        expects_error: whether it tells what error to expect.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        pixel_channels: int = 9,
        channels: tuple[int, ...] = (16, 32, 64),
        blocks: int = 3,
        expects_error: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(pixel_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.join = nn.Conv2d(latent_channels, channels[-1], 3, padding=1)
        self.middle = nn.ModuleList(ResidualBlock(channels[-1]) for _ in range(blocks))
        self.up = nn.ModuleList(_Up(below, width) for width, below in reversed(list(pairwise(channels))))
        self.head = nn.Conv2d(channels[0], 1, 3, padding=1)
        self.error_head: nn.Sequential | None = None
        if expects_error:
            last = nn.Conv2d(channels[0], 1, 3, padding=1)
            nn.init.constant_(last.get_parameter("bias"), _SMALL)
            self.error_head = nn.Sequential(ResidualBlock(channels[0]), nn.SiLU(), last, nn.Softplus())

    @property
    def factor(self) -> int:
        """Pixels of the slice along one side of a latent's pixel."""
        return 2 ** len(self.down)

    def forward(self, latents: Tensor, pixels: Tensor) -> Decoded:
        h = self.stem(pixels)
        skips = []
        for shrink in self.down:
            skips.append(h)
            h = shrink(F.silu(h))
        h = h + self.join(latents)
        for block in self.middle:
            h = block(h)
        for up in self.up:
            h = up(h, skips.pop())
        slices = self.head(F.silu(h))[:, 0]
        return Decoded(slices, None if self.error_head is None else self.error_head(h)[:, 0])


class _Up(nn.Module):
    """One level up, concatenated to what came down there."""

    def __init__(self, below: int, width: int) -> None:
        super().__init__()
        self.grow = nn.Conv2d(below, 4 * width, 1)
        self.merge = nn.Conv2d(2 * width, width, 3, padding=1)
        self.block = ResidualBlock(width)

    def forward(self, h: Tensor, skip: Tensor) -> Tensor:
        grown = F.pixel_shuffle(self.grow(h), 2)
        return self.block(self.merge(F.silu(torch.cat([grown, skip], dim=1))))
