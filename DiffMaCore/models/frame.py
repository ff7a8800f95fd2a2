"""The residual frame of every block: x + gate * mixer(modulate(norm(x), shift, scale)), adaLN-zero.

Peebles and Xie 2023 (DiT, Figure 3): shift, scale and gate come from the condition and start at zero, so that
a new block is the identity. DiffMa and ZigMa are published in it; the blocks that were made to classify images
(ViM, VMamba, EfficientVMamba) get it in place of their own residual, to be given the timestep and the CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from DiffMaCore.models.layers import modulate
from DiffMaCore.models.orders import ScanOrder
from DiffMaCore.ops.dense import Dense


@dataclass(frozen=True)
class BlockSettings:
    """Size of a block. ``inner`` is its inner width (of DiT: the MLP's); None is what was published: ``expand``
    times the width, of DiT four times. ``scan_order`` is DiffMa's alone."""

    width: int
    grid: int
    state_size: int = 16
    conv_size: int = 4
    expand: int = 2
    inner: int | None = None
    scan_order: ScanOrder = "spiral"

    @property
    def channels(self) -> int:
        """Inner width of a Mamba."""
        return self.inner or self.expand * self.width


class ResidualFrame(nn.Module):
    """Tokens (B, L, D), condition (B, 2D) and soft mask (B, L, 1) to tokens (B, L, D).

    Args:
        width: token width D.
        norm: what the tokens go through before they are modulated.
        residuals: mixers that stand one after the other in the block.
    """

    mixer: nn.Module

    def __init__(self, width: int, norm: nn.Module, residuals: int = 1) -> None:
        super().__init__()
        self.residuals = residuals
        self.norm = norm
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Dense(2 * width, 3 * residuals * width))

    def forward(self, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
        """One pass; no block but DiffMa's, which has a frame of its own, looks at ``soft_mask``."""
        modulations = self.adaLN_modulation(condition).unflatten(1, (self.residuals, 3, -1))
        for i in range(self.residuals):
            shift, scale, gate = modulations[:, i].unbind(1)
            x = torch.addcmul(x, gate[:, None], self.mix(modulate(self.norm(x), shift, scale), i))
        return x

    def mix(self, h: Tensor, residual: int) -> Tensor:
        """The block's own part, its ``mixer``: modulated tokens (B, L, D) to what is added to the tokens."""
        return self.mixer(h)
