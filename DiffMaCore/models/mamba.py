"""Two Mambas that scan the token grid in spirals, run as one batch (paper, "Spiral-Scan" and Figure 2).

A DiffMa block holds two Mambas: one sees the tokens, the other the soft-masked tokens. Their parameters are
kept stacked along a leading axis of two, so that both branches and all three directions are one batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from DiffMaCore import orders
from DiffMaCore.models.dense import dense_each
from DiffMaCore.models.order_ops import gather_conv_silu, merge_gate
from DiffMaCore.scan import choose_backend, selective_scan

BRANCHES = 2
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class SpiralMamba(nn.Module):
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
        super().__init__()
        inner = expand * width
        self.inner, self.state_size, self.rank = inner, state_size, math.ceil(width / 16)
        order = orders.directions(grid, block, scan_order)
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.register_buffer("position", torch.from_numpy(orders.inverse(order)), persistent=False)

        self.in_proj = nn.Parameter(torch.empty(BRANCHES, 2 * inner, width))
        self.conv_weight = nn.Parameter(torch.empty(BRANCHES, inner, conv_size))
        self.conv_bias = nn.Parameter(torch.empty(BRANCHES, inner))
        self.x_proj = nn.Parameter(torch.empty(BRANCHES, self.rank + 2 * state_size, inner))
        self.dt_weight = nn.Parameter(torch.empty(BRANCHES, inner, self.rank))
        self.dt_bias = nn.Parameter(torch.empty(BRANCHES, inner))
        self.A_log = nn.Parameter(torch.empty(BRANCHES, inner, state_size))
        self.D = nn.Parameter(torch.empty(BRANCHES, inner))
        self.out_proj = nn.Parameter(torch.empty(BRANCHES, width, inner))
        self.backend = "auto"
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Mamba's own initialisation: steps log-uniform in [0.001, 0.1], A = -(1..N), D = 1."""
        for weight in (self.in_proj, self.x_proj, self.out_proj):
            bound = 1 / math.sqrt(weight.shape[-1])
            weight.uniform_(-bound, bound)
        bound = 1 / math.sqrt(self.conv_weight.shape[-1])
        self.conv_weight.uniform_(-bound, bound)
        self.conv_bias.uniform_(-bound, bound)
        self.dt_weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
        span = math.log(DT_MAX) - math.log(DT_MIN)
        dt = torch.exp(torch.rand_like(self.dt_bias) * span + math.log(DT_MIN)).clamp_(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        states = torch.arange(1, self.state_size + 1, dtype=self.A_log.dtype, device=self.A_log.device)
        self.A_log.copy_(torch.log(states).expand_as(self.A_log))
        self.D.fill_(1.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of both branches (2, B, L, D), raster order, to their outputs (2, B, L, D)."""
        _, batch, length, width = tokens.shape
        inner, state, rank = self.inner, self.state_size, self.rank
        backend = choose_backend(self.backend, tokens.device)
        if backend == "numba" and not torch.is_grad_enabled():
            from DiffMaCore.models.order_fused import fits, fused_mamba

            if fits(tokens, inner, state):
                return fused_mamba(tokens, self, self.order)
        flat = tokens.reshape(BRANCHES, -1, width)
        shape = (BRANCHES, batch, length, inner)
        x = dense_each(flat, self.in_proj[:, :inner]).view(shape)
        z = dense_each(flat, self.in_proj[:, inner:]).view(shape)

        # (B, 3, L, branch * inner): every direction its own sequence, the branches side by side as channels
        x = gather_conv_silu(x, self.order, self.conv_weight, self.conv_bias, backend)
        per_branch = x.view(-1, BRANCHES, inner).transpose(0, 1)
        dt_b_c = torch.bmm(per_branch, self.x_proj.transpose(1, 2))
        dt, b, c = dt_b_c.split([rank, state, state], dim=2)
        delta = torch.bmm(dt, self.dt_weight.transpose(1, 2)).transpose(0, 1)

        sequences = batch * len(self.order)
        y = selective_scan(
            x.view(sequences, length, -1).transpose(1, 2),
            delta.reshape(sequences, length, -1).transpose(1, 2),
            -torch.exp(self.A_log.float()).view(-1, state),
            b.reshape(BRANCHES, sequences, length, state).permute(1, 0, 3, 2),
            c.reshape(BRANCHES, sequences, length, state).permute(1, 0, 3, 2),
            self.D.float().view(-1),
            delta_bias=self.dt_bias.float().view(-1),
            delta_softplus=True,
            backend=backend,
        )
        y = y.transpose(1, 2).reshape(batch, len(self.order), length, BRANCHES * inner)
        merged = merge_gate(y, z, self.position, backend)
        return dense_each(merged.view(BRANCHES, -1, inner), self.out_proj).view_as(tokens)
