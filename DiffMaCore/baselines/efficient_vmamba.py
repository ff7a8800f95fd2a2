"""An EfficientVMamba block (Pei et al. 2024, Figures 3 and 4): atrous scans in parallel with a convolution.

As in TerryPei/EfficientVMamba: ES2D takes every second token of every second row, which makes four sub-grids,
each scanned once by its own model (two of them along columns); a convolutional branch sees what ES2D sees; one
channel attention weighs both branches before they are added. One thing differs: the branch's BatchNorm is a
GroupNorm of one group, because a denoiser's batch mixes noise levels and is spread over processes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.baselines.vmamba import SS2D
from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.models.ssm import to_grid, to_tokens
from DiffMaCore.ops.dense import Dense

STEP = 2
REDUCTION = 8


def sub_grids(grid: int) -> np.ndarray:
    """Raster indices (4, L/4) of the sub-grids of an even grid, in scan order; together they visit each cell once."""
    cells = np.arange(grid * grid).reshape(grid, grid)
    parts = (cells[::2, ::2], cells[1::2, ::2].T, cells[::2, 1::2], cells[1::2, 1::2].T)
    return np.stack([part.flatten() for part in parts])


class SubGrids(nn.Module):
    """Tokens to four sub-grids' sequences and back; a grid of odd side is padded with a row and a column of zeros."""

    order: Tensor
    position: Tensor

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid, self.padding = grid, -grid % STEP
        order = sub_grids(grid + self.padding)
        self.register_buffer("order", torch.from_numpy(order.flatten()), persistent=False)
        self.register_buffer("position", torch.from_numpy(np.argsort(order.flatten())), persistent=False)

    def gather(self, x: Tensor) -> Tensor:
        """Tokens (B, L, E) to the sub-grids' sequences (B, L/4, 4, E)."""
        padding = (0, 0, 0, self.padding, 0, self.padding)
        padded = F.pad(x.unflatten(1, (self.grid, self.grid)), padding).flatten(1, 2)
        return padded.index_select(1, self.order).unflatten(1, (STEP * STEP, -1)).transpose(1, 2).contiguous()

    def merge(self, y: Tensor) -> Tensor:
        """Inverse of :meth:`gather`."""
        side = self.grid + self.padding
        padded = y.transpose(1, 2).flatten(1, 2).index_select(1, self.position).unflatten(1, (side, side))
        return padded[:, : self.grid, : self.grid].flatten(1, 2)


class ChannelAttention(nn.Module):
    """Tokens (B, L, D) times a weight for each channel, out of their mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        hidden = max(1, width // REDUCTION)
        self.weights = nn.Sequential(Dense(width, hidden), nn.GELU(), Dense(hidden, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(self.norm(x).mean(dim=1, keepdim=True))


class EfficientVMambaBlock(ResidualFrame):
    """LayerNorm, then SS2D over the sub-grids and the convolutional branch side by side."""

    def __init__(self, width: int, grid: int, *, inner: int, state_size: int = 16) -> None:
        super().__init__(width, nn.LayerNorm(width, eps=1e-6))
        self.mixer = SS2D(width, SubGrids(grid), inner=inner, state_size=state_size)
        self.convolution = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
        )
        self.channel_attention = ChannelAttention(width)

    def mix(self, h: Tensor, residual: int) -> Tensor:
        local = to_tokens(self.convolution(to_grid(h)))
        return self.channel_attention(self.mixer(h)) + self.channel_attention(local)
