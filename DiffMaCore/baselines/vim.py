"""A Vision Mamba block (Zhu et al. 2024, Figure 2 and Algorithm 1): the sequence forwards and backwards.

As in hustvl/Vim ("v2", ``if_divide_out``): one in_proj; each direction has its own convolution, step sizes,
A and D; the outputs, gated alike, are averaged before the one out_proj.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.models.ssm import OrderedMamba


class BidirectionalMamba(OrderedMamba):
    """Tokens (B, L, D) to tokens (B, L, D)."""

    def __init__(self, width: int, grid: int, *, inner: int, state_size: int, conv_size: int) -> None:
        raster = np.arange(grid * grid)
        super().__init__(width, [raster, raster[::-1].copy()], inner, state_size, conv_size)


class VimBlock(ResidualFrame):
    def __init__(self, width: int, grid: int, *, inner: int, state_size: int = 16, conv_size: int = 4) -> None:
        super().__init__(width, nn.RMSNorm(width, eps=1e-5))
        self.mixer = BidirectionalMamba(width, grid, inner=inner, state_size=state_size, conv_size=conv_size)
