"""One DiffMa block (paper, Figure 2): two spiral Mambas, spatial-attention blend, adaLN-zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from DiffMaCore.models.frame import BlockSettings, ResidualFrame
from DiffMaCore.models.mamba import SpiralMamba
from DiffMaCore.models.orders import ScanOrder
from DiffMaCore.ops.dense import Dense


class DiffMaBlock(ResidualFrame):
    """Tokens (B, L, D), condition (B, 2D) and soft mask (B, L, 1) to tokens (B, L, D)."""

    def __init__(
        self,
        width: int,
        grid: int,
        block: int,
        *,
        scan_order: ScanOrder = "spiral",
        state_size: int = 16,
        conv_size: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__(width, nn.LayerNorm(width))
        self.mamba = SpiralMamba(
            width, grid, block, scan_order=scan_order, state_size=state_size, conv_size=conv_size, expand=expand
        )
        self.spatial_attention = nn.Sequential(
            nn.LayerNorm(2 * width), Dense(2 * width, width), nn.SiLU(), Dense(width, 1), nn.Sigmoid()
        )

    @classmethod
    def of(cls, size: BlockSettings, block: int) -> DiffMaBlock:
        """Block number ``block`` of a network; the number decides its spirals."""
        return cls(
            size.width,
            size.grid,
            block,
            scan_order=size.scan_order,
            state_size=size.state_size,
            conv_size=size.conv_size,
            expand=size.expand,
        )

    def forward(self, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
        if self.mamba.is_fused(x):
            from DiffMaCore.ops.spiral.block_fused import fits, fused_block

            if fits(x):
                return fused_block(self, x, condition, soft_mask)
        if self.mamba.is_trained_fused(x):
            from DiffMaCore.ops.spiral.block_fused import fits
            from DiffMaCore.ops.spiral.block_training import training_block

            if fits(x):
                return training_block(self, x, condition, soft_mask)
        return super().forward(x, condition, soft_mask)

    def mix(self, h: Tensor, soft_mask: Tensor, residual: int) -> Tensor:
        plain, masked = self.mamba(torch.stack([h, h * soft_mask]))
        blend = self.spatial_attention(torch.cat([plain, masked], dim=2))
        return torch.lerp(masked, plain, blend)
