"""A Vision Mamba block (Zhu et al. 2024, Figure 2 and Algorithm 1): the sequence forwards and backwards.

As in hustvl/Vim ("v2", ``if_divide_out``): one in_proj; each direction has its own convolution, step sizes,
A and D; the outputs, gated alike, are averaged before the one out_proj.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.models.ssm import CausalConvolution, StackedSSM, TokenOrders
from DiffMaCore.ops.dense import Dense


class BidirectionalMamba(StackedSSM):
    """Tokens (B, L, D) to tokens (B, L, D)."""

    def __init__(self, width: int, grid: int, *, inner: int, state_size: int, conv_size: int) -> None:
        super().__init__(width, inner, state_size, sets=2)
        raster = np.arange(grid * grid)
        self.orders = TokenOrders([raster, raster[::-1].copy()])
        self.in_proj = Dense(width, 2 * inner, bias=False)
        self.conv = CausalConvolution(2, inner, conv_size)
        self.out_proj = Dense(inner, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, z = self.in_proj(tokens).chunk(2, dim=2)
        both = self.scan(self.conv(self.orders.gather(x), self.backend))
        # a token's gate is the same in both directions, so their mean is gated once
        return self.out_proj(self.orders.merge(both) / 2 * F.silu(z))


class VimBlock(ResidualFrame):
    """RMSNorm, and a Mamba in both directions of the raster order."""

    def __init__(self, width: int, grid: int, *, inner: int, state_size: int = 16, conv_size: int = 4) -> None:
        super().__init__(width, nn.RMSNorm(width, eps=1e-5))
        self.mixer = BidirectionalMamba(width, grid, inner=inner, state_size=state_size, conv_size=conv_size)

    def mix(self, h: Tensor, soft_mask: Tensor, residual: int) -> Tensor:
        return self.mixer(h)
