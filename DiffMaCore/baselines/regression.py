"""A baseline that is not in Table 2: a deterministic 2.5D regression, neighbouring CT slices in, the MR slice out.

A plain U-Net in pixel space (Ronneberger et al. 2015, with residual blocks). It is trained by mean absolute error
and sees no noise, so it answers in one pass and gives no uncertainty.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

MULTIPLES = (1, 2, 4)


class RegressionUNet(ModelMixin, ConfigMixin):
    """Source pixels of three neighbouring slices (B, C, S, S) in [-1, 1] to target pixels (B, S, S) in [-1, 1].

    Args:
        in_channels: C, three slices times the windows of one.
        image_size: S, a multiple of 4; the third level is left out where S is not one of 8.
        channels: of the first level, a multiple of 4; the second and third have two and four times as many.
        bottom: channels of the last level, a multiple of 4; None is eight times ``channels``.
    """

    @register_to_config
    def __init__(
        self, in_channels: int = 3, image_size: int = 224, channels: int = 64, bottom: int | None = None
    ) -> None:
        super().__init__()
        if channels < 4 or channels % 4 or (bottom or 4) % 4:
            raise ValueError(f"a U-Net of {channels} channels, {bottom} below, cannot be built; take multiples of 4")
        if image_size % 4:
            raise ValueError(f"an image of {image_size} px cannot be halved twice; take a multiple of 4")
        multiples = MULTIPLES if image_size % 8 == 0 else MULTIPLES[:2]
        widths = [*(channels * multiple for multiple in multiples), bottom or 8 * channels]
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList(_Stage(first, last) for first, last in pairwise([channels, *widths]))
        self.shrink = nn.ModuleList(Downsample2D(width, use_conv=True, name="op") for width in widths[:-1])
        self.grow = nn.ModuleList(Upsample2D(width, use_conv=True) for width in reversed(widths[1:]))
        self.up = nn.ModuleList(_Stage(below + width, width) for width, below in reversed(list(pairwise(widths))))
        self.head = nn.Sequential(
            nn.GroupNorm(math.gcd(channels, 32), channels), nn.SiLU(), nn.Conv2d(channels, 1, 3, padding=1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        h = self.stem(pixels)
        skips = []
        for i, stage in enumerate(self.down):
            h = stage(h)
            if i < len(self.shrink):
                skips.append(h)
                h = self.shrink[i](h)
        for grow, stage in zip(self.grow, self.up, strict=True):
            h = stage(torch.cat([grow(h), skips.pop()], dim=1))
        return self.head(h)[:, 0]


class _Stage(nn.Module):
    """Two residual blocks at one size."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResnetBlock2D(
                in_channels=width,
                out_channels=last,
                temb_channels=None,
                groups=math.gcd(width, 32),
                groups_out=math.gcd(last, 32),
            )
            for width in (first, last)
        )

    def forward(self, h: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h, None)
        return h
