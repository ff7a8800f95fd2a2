"""The selective scan of every block: K state space models side by side, each on its own sequence.

A Mamba derives step, input and output weights from its tokens (Gu and Dao 2023, Algorithm 2). The blocks of
Table 2 differ in how many such models they hold and along which orders they read the grid; here is what they share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.ops.dense import Dense
from DiffMaCore.ops.scan import selective_scan
from DiffMaCore.ops.scan.mamba_ssm_scan import conv_silu, convolution_problem

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class StackedSSM(nn.Module):
    """Base of a block's mixer: ``sets`` selective state space models, each with its own parameters.

    Linear layers that a subclass adds belong to its Mamba: the denoiser's own initialisation leaves them alone.
    The parameters named in ``float32`` decide how fast states decay and are not rounded to half precision.

    Args:
        width: token width D, which decides the rank of the step sizes.
        inner: channels E of each sequence.
        state_size: N.
        sets: number K of parameter sets.
    """

    float32 = ("A_log", "D", "dt_bias")

    def __init__(self, width: int, inner: int, state_size: int, sets: int) -> None:
        super().__init__()
        self.inner, self.state_size, self.rank = inner, state_size, math.ceil(width / 16)
        self.x_proj = nn.Parameter(uniform(sets, self.rank + 2 * state_size, inner))
        self.dt_weight = nn.Parameter(uniform(sets, inner, self.rank))
        self.dt_bias = nn.Parameter(torch.empty(sets, inner))
        self.A_log = nn.Parameter(torch.empty(sets, inner, state_size))
        self.D = nn.Parameter(torch.empty(sets, inner))
        self.backend = "auto"
        self._reset_scan()

    @torch.no_grad()
    def _reset_scan(self) -> None:
        """Steps log-uniform in [0.001, 0.1], A = -(1..N), D = 1, as Mamba begins."""
        span = math.log(DT_MAX) - math.log(DT_MIN)
        dt = torch.exp(torch.rand_like(self.dt_bias) * span + math.log(DT_MIN)).clamp_(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        states = torch.arange(1, self.state_size + 1, dtype=self.A_log.dtype, device=self.A_log.device)
        self.A_log.copy_(torch.log(states).expand_as(self.A_log))
        self.D.fill_(1.0)

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each set's tokens (K, T, E): the steps before softplus (K, T, E), B and C (K, T, N)."""
        state = self.state_size
        dt, b, c = torch.bmm(x, self.x_proj.transpose(1, 2)).split([self.rank, state, state], dim=2)
        return torch.bmm(dt, self.dt_weight.transpose(1, 2)), b, c

    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """A (K*E, N), D and the steps' bias (K*E,), at least float32: half precision would not do."""
        A = -torch.exp(_full(self.A_log))
        return A.view(-1, self.state_size), _full(self.D).view(-1), _full(self.dt_bias).view(-1)

    def scan(self, x: Tensor) -> Tensor:
        """Sequences (B, L, K, E), each through its own model, to (B, L, K, E)."""
        batch, length, sets, inner = x.shape
        delta, b, c = self.weights(x.reshape(-1, sets, inner).transpose(0, 1))
        A, D, dt_bias = self.constants()
        y = selective_scan(
            x.reshape(batch, length, -1).transpose(1, 2),
            delta.transpose(0, 1).reshape(batch, length, -1).transpose(1, 2),
            A,
            b.reshape(sets, batch, length, -1).permute(1, 0, 3, 2),
            c.reshape(sets, batch, length, -1).permute(1, 0, 3, 2),
            D,
            delta_bias=dt_bias,
            delta_softplus=True,
            backend=self.backend,
        )
        return y.transpose(1, 2).unflatten(2, (sets, inner))


def _full(parameter: Tensor) -> Tensor:
    return parameter if parameter.dtype == torch.float64 else parameter.float()


def uniform(*shape: int, fan_in: int | None = None) -> Tensor:
    """Weights as torch draws those of its linear and convolution layers: uniform in +-1/sqrt(fan in)."""
    bound = (fan_in or shape[-1]) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound)


class TokenOrders(nn.Module):
    """K orders of the grid's tokens, of which each visits all; moves with its block, and is not saved.

    Args:
        orders: (K, L) raster indices in scan order.
    """

    order: Tensor
    position: Tensor

    def __init__(self, orders: Sequence[np.ndarray]) -> None:
        super().__init__()
        order = np.stack(orders)
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.register_buffer("position", torch.from_numpy(np.argsort(order, axis=1)), persistent=False)

    def gather(self, x: Tensor) -> Tensor:
        """Tokens (B, L, E), raster order, to K sequences (B, L, K, E)."""
        return torch.stack([x.index_select(1, order) for order in self.order], dim=2)

    def merge(self, y: Tensor) -> Tensor:
        """Sequences (B, L, K, E) back in raster order and summed: (B, L, E)."""
        parts = [y[:, :, k].index_select(1, position) for k, position in enumerate(self.position)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


class CausalConvolution(nn.Module):
    """Mamba's depthwise convolution over the last ``taps`` tokens of each sequence (B, L, K, E), with its own
    weights for each of K sets, and SiLU. By causal-conv1d where that is right, unless the scan is asked of torch."""

    def __init__(self, sets: int, inner: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform(sets, inner, taps))
        self.bias = nn.Parameter(uniform(sets, inner, fan_in=taps))

    def forward(self, x: Tensor, backend: str = "auto") -> Tensor:
        taps = self.weight.unbind(2)
        known = 2 <= len(taps) <= 4 and x.dtype != torch.float64 and backend != "torch"
        if known and convolution_problem(x.device.type) is None:
            return conv_silu(x.flatten(2), self.weight.flatten(0, 1), self.bias.flatten()).view_as(x)
        padded = F.pad(x, (0, 0, 0, 0, len(taps) - 1, 0))
        total = self.bias.to(x.dtype).expand_as(x)
        for i, tap in enumerate(taps):
            total = torch.addcmul(total, padded[:, i : i + x.shape[1]], tap.to(x.dtype))
        return F.silu(total)


class OrderedMamba(StackedSSM):
    """Tokens (B, L, D) to tokens (B, L, D) by a Mamba along each of K orders, with one in_proj and one out_proj.

    Each order has its own convolution, step sizes, A and D; the outputs are averaged before they are gated, as a
    token's gate is the same in all orders.
    """

    def __init__(self, width: int, orders: Sequence[np.ndarray], inner: int, state_size: int, conv_size: int) -> None:
        super().__init__(width, inner, state_size, sets=len(orders))
        self.orders = TokenOrders(orders)
        self.in_proj = Dense(width, 2 * inner, bias=False)
        self.conv = CausalConvolution(len(orders), inner, conv_size)
        self.out_proj = Dense(inner, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, z = self.in_proj(tokens).chunk(2, dim=2)
        scanned = self.scan(self.conv(self.orders.gather(x), self.backend))
        return self.out_proj(self.orders.merge(scanned) / len(self.orders.order) * F.silu(z))


class GridConvolution(nn.Conv2d):
    """Depthwise 3 x 3 convolution of the token grid (B, L, E), as the blocks that scan in two dimensions have it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(super().forward(to_grid(x)))


def to_grid(tokens: Tensor) -> Tensor:
    """Tokens (B, n*n, E) to a map (B, E, n, n)."""
    side = math.isqrt(tokens.shape[1])
    return tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def to_tokens(grid: Tensor) -> Tensor:
    """Inverse of :func:`to_grid`."""
    return grid.permute(0, 2, 3, 1).flatten(1, 2)
