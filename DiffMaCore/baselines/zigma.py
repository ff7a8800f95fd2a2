"""A ZigMa block (Hu et al. 2024, Figures 3 and 4): one Mamba along a zigzag path, another path in every layer.

As in CompVis/zigma ("zigzagN8", without text): layer i walks path i mod 8 of the grid, forwards only, and puts
the tokens back; adaLN around it.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.models.ssm import OrderedMamba

PATHS = 8


def zigzag(grid: int, layer: int) -> np.ndarray:
    """Raster indices of the path of a layer: to and fro from one of the corners, along rows or columns."""
    corner, along_columns = divmod(layer % PATHS, 2)
    cells = np.arange(grid * grid).reshape(grid, grid)
    from_below, from_right = divmod(corner, 2)
    cells = cells[:: -1 if from_below else 1, :: -1 if from_right else 1]
    cells = (cells.T if along_columns else cells).copy()
    cells[1::2] = cells[1::2, ::-1]
    return cells.flatten()


class ZigzagMamba(OrderedMamba):
    def __init__(self, width: int, grid: int, layer: int, *, inner: int, state_size: int, conv_size: int) -> None:
        super().__init__(width, [zigzag(grid, layer)], inner, state_size, conv_size)


class ZigMaBlock(ResidualFrame):
    """RMSNorm and a Mamba along the layer's zigzag."""

    def __init__(
        self, width: int, grid: int, layer: int, *, inner: int, state_size: int = 16, conv_size: int = 4
    ) -> None:
        super().__init__(width, nn.RMSNorm(width, eps=1e-5))
        self.mixer = ZigzagMamba(width, grid, layer, inner=inner, state_size=state_size, conv_size=conv_size)
