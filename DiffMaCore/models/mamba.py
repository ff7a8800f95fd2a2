"""Two Mambas that scan the token grid in spirals, run as one batch (paper, "Spiral-Scan" and Figure 2).

A DiffMa block holds two Mambas: one sees the tokens, the other the soft-masked tokens. Their parameters are
kept stacked along a leading axis of two, so that both branches and all three directions are one batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from DiffMaCore.models import orders
from DiffMaCore.models.ssm import StackedSSM, uniform
from DiffMaCore.ops.dense import dense_each
from DiffMaCore.ops.scan import choose_backend
from DiffMaCore.ops.spiral.order import gather_conv_silu, merge_gate

BRANCHES = 2


class SpiralMamba(StackedSSM):
    """Both Mambas of a block.

    Each branch scans three orders of the tokens with one set of parameters: raster, the block's spiral, and
    the same spiral the other way. The gate does not depend on the order and out_proj is linear, so the three
    outputs are summed before both.

    Args:
        width: token width D.
        grid: cells a side of the token grid.
        block: number of the block, which chooses the spiral scheme (``block mod 8``).
        scan_order: "spiral", or "released" for the authors' index lists.
    """

    order: Tensor
    position: Tensor

    def __init__(
        self,
        width: int,
        grid: int,
        block: int,
        *,
        scan_order: orders.ScanOrder = "spiral",
        state_size: int = 16,
        conv_size: int = 4,
        expand: int = 2,
    ) -> None:
        inner = expand * width
        super().__init__(width, inner, state_size, sets=BRANCHES)
        order = orders.directions(grid, block, scan_order)
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.register_buffer("position", torch.from_numpy(orders.inverse(order)), persistent=False)

        self.in_proj = nn.Parameter(uniform(BRANCHES, 2 * inner, width))
        self.conv_weight = nn.Parameter(uniform(BRANCHES, inner, conv_size))
        self.conv_bias = nn.Parameter(uniform(BRANCHES, inner, fan_in=conv_size))
        self.out_proj = nn.Parameter(uniform(BRANCHES, width, inner))

    def backend_for(self, tokens: Tensor) -> str:
        """Name of the selective-scan back end that these tokens get."""
        return choose_backend(self.backend, tokens.device, torch.promote_types(tokens.dtype, torch.float32))

    def is_fused(self, tokens: Tensor) -> bool:
        """Whether these tokens (..., D) go through the fused kernels: without gradients, by Numba."""
        return not torch.is_grad_enabled() and self._fits(tokens)

    def is_trained_fused(self, tokens: Tensor) -> bool:
        """Whether the tokens of its block go through the fused kernels of training, in float32 or bfloat16."""
        kind = tokens.device.type
        known = not torch.is_autocast_enabled(kind) or torch.get_autocast_dtype(kind) == torch.bfloat16
        with torch.autocast(kind, enabled=False):
            return known and torch.is_grad_enabled() and self._fits(tokens)

    def _fits(self, tokens: Tensor) -> bool:
        self._check_length(tokens)
        if self.backend_for(tokens) != "numba":
            return False
        from DiffMaCore.ops.spiral.fused import fits

        # The kernels are given addresses, and trust that float32 is there.
        full = all(each.dtype == torch.float32 and each.device == tokens.device for each in self.parameters())
        return full and fits(tokens, self.inner, self.state_size)

    def _check_length(self, tokens: Tensor) -> None:
        """Raise ValueError where the orders would lead beyond the tokens (..., L, D)."""
        if tokens.shape[-2] != self.order.shape[1]:
            raise ValueError(f"this block's orders visit {self.order.shape[1]} tokens, not {tokens.shape[-2]}")

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of both branches (2, B, L, D), raster order, to their outputs (2, B, L, D)."""
        self._check_length(tokens)
        _, batch, length, width = tokens.shape
        inner = self.inner
        backend = self.backend_for(tokens)
        if self.is_fused(tokens):
            from DiffMaCore.ops.spiral.fused import fused_mamba

            return torch.stack(fused_mamba(tokens, self, self.order))
        flat = tokens.reshape(BRANCHES, -1, width)
        shape = (BRANCHES, batch, length, inner)
        x = dense_each(flat, self.in_proj[:, :inner]).view(shape)
        z = dense_each(flat, self.in_proj[:, inner:]).view(shape)

        merged = self.scan_spirals(x, z, backend)
        return dense_each(merged.view(BRANCHES, -1, inner), self.out_proj).view_as(tokens)

    def scan_spirals(self, x: Tensor, z: Tensor, backend: str) -> Tensor:
        """What stands between the projections, on a back end: x and z (2, B, L, E), raster order, to the same."""
        _, batch, length, inner = x.shape
        if backend == "triton":
            from DiffMaCore.ops.spiral.triton_mamba import spiral_scan

            return spiral_scan(x, z, self, self.conv_weight, self.conv_bias, self.order, self.position)

        # (B, 3, L, branch * inner): every direction its own sequence, the branches side by side as channels
        x = gather_conv_silu(x, self.order, self.conv_weight, self.conv_bias, backend)
        y = self.scan(x.view(-1, length, BRANCHES, inner)).reshape(batch, len(self.order), length, -1)
        return merge_gate(y, z, self.position, backend)
