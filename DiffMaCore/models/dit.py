"""A DiT block (Peebles and Xie 2023) in DiffMa's frame: the transformer of Table 2, 7 layers, 8 heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.layers import modulate

HEADS = 8
MLP_RATIO = 4


class DiTBlock(nn.Module):
    """Self-attention and an MLP, each in adaLN-zero: tokens (B, L, D), condition (B, 2D) to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % HEADS:
            raise ValueError(f"a width of {width} cannot be split over {HEADS} attention heads")
        self.width = width
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(approximate="tanh"), nn.Linear(MLP_RATIO * width, width)
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(2 * width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
        """``soft_mask`` is part of the frame; a DiT block does not look at it."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(condition).chunk(6, dim=1)
        x = torch.addcmul(x, gate_a[:, None], self._attention(modulate(self._norm(x), shift_a, scale_a)))
        return torch.addcmul(x, gate_m[:, None], self.mlp(modulate(self._norm(x), shift_m, scale_m)))

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.width,), eps=1e-6)

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.attention_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
