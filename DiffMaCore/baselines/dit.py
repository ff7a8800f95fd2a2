"""A DiT block (Peebles and Xie 2023, Figure 3, "adaLN-Zero"): self-attention, then an MLP, each in the frame.

As in facebookresearch/DiT: LayerNorm without affine, queries, keys and values with bias, GELU by tanh.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.ops.dense import Dense

HEADS = 8
MLP_RATIO = 4


class DiTBlock(ResidualFrame):
    """Tokens (B, L, D), condition (B, 2D) to tokens; ``hidden`` is the MLP's width, 4D as published.

    Raises:
        ValueError: the width cannot be split over the heads.
    """

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__(width, nn.LayerNorm(width, eps=1e-6, elementwise_affine=False), residuals=2)
        if width % HEADS:
            raise ValueError(f"a width of {width} cannot be split over {HEADS} attention heads")
        hidden = hidden or MLP_RATIO * width
        self.qkv = Dense(width, 3 * width)
        self.attention_out = Dense(width, width)
        self.mlp = nn.Sequential(Dense(width, hidden), nn.GELU(approximate="tanh"), Dense(hidden, width))

    def mix(self, h: Tensor, residual: int) -> Tensor:
        return self._attention(h) if residual == 0 else self.mlp(h)

    def _attention(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.attention_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
