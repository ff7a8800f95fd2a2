"""A visual state space block (Liu et al. 2024, VMamba, Figures 2 and 3): four straight routes over the grid.

As in MzeroMiko/VMamba's first version ("v0", without an MLP): depthwise 3 x 3 convolution, SS2D with a separate
model for each route, their sum through a LayerNorm, SiLU gate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.models.ssm import GridConvolution, StackedSSM, TokenOrders
from DiffMaCore.ops.dense import Dense


def routes(grid: int) -> list[np.ndarray]:
    """Raster indices of the four routes: along rows, along columns, and both backwards."""
    rows = np.arange(grid * grid)
    columns = rows.reshape(grid, grid).T.flatten()
    return [rows, columns, rows[::-1].copy(), columns[::-1].copy()]


class SS2D(StackedSSM):
    """Tokens (B, L, D) to tokens (B, L, D).

    ``orders`` gathers tokens (B, L, E) into four sequences (B, L', 4, E) and merges these into tokens.
    """

    def __init__(self, width: int, orders: nn.Module, *, inner: int, state_size: int) -> None:
        super().__init__(width, inner, state_size, sets=4)
        self.orders: Any = orders
        self.in_proj = Dense(width, 2 * inner, bias=False)
        self.conv = GridConvolution(inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = Dense(inner, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, z = self.in_proj(tokens).chunk(2, dim=2)
        y = self.orders.merge(self.scan(self.orders.gather(F.silu(self.conv(x)))))
        return self.out_proj(self.out_norm(y) * F.silu(z))


class VMambaBlock(ResidualFrame):
    def __init__(self, width: int, grid: int, *, inner: int, state_size: int = 16) -> None:
        super().__init__(width, nn.LayerNorm(width))
        self.mixer = SS2D(width, TokenOrders(routes(grid)), inner=inner, state_size=state_size)
