"""A block's two Mambas without gradients on a CPU, fused: the same numbers as SpiralMamba's steps one by one.

A sample's scanned sequences are three times as large as its tokens, twice as wide, and needed by three steps:
here they exist for a window of tokens at a time, which stays in the caches, and the steps' projection, the scan
and the sum over the orders are one kernel. So memory is linear in the tokens with a small factor, and so is time.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from DiffMaCore.models import order_fused_kernels as kernels
from DiffMaCore.models.dense import dense
from DiffMaCore.models.order_kernels import LANES
from DiffMaCore.scan.numba_forward import BLOCK, PLANE, STATES, TILE
from DiffMaCore.scan.numba_lanes import LOG2E
from DiffMaCore.scan.threads import run_tasks

WINDOW_BYTES = 16 << 20  # of scanned sequences at a time: about half of the last cache
FLOAT32 = np.float32(0)


class Weights(Protocol):
    """Parameters of both branches, as SpiralMamba keeps them."""

    in_proj: nn.Parameter
    conv_weight: nn.Parameter
    conv_bias: nn.Parameter
    x_proj: nn.Parameter
    dt_weight: nn.Parameter
    dt_bias: nn.Parameter
    A_log: nn.Parameter
    D: nn.Parameter
    out_proj: nn.Parameter


def fits(tokens: Tensor, inner: int, states: int) -> bool:
    """Whether the kernels apply: float32, whole registers of channels, whole groups of states."""
    full = tokens.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return full and inner % LANES == 0 and states % STATES == 0


def fused_mamba(tokens: Tensor, weights: Weights, order: Tensor, window_bytes: int = WINDOW_BYTES) -> Tensor:
    """Tokens of both branches (2, B, L, D), raster order, along the orders (K, L), to their outputs (2, B, L, D)."""
    branches, batch, length, _ = tokens.shape
    inner = weights.D.shape[1]
    per_token = 4 * len(order) * inner
    window = min(length, max(TILE, window_bytes // per_token // TILE * TILE))
    samples = max(1, window_bytes // (per_token * length))
    by_tap = weights.conv_weight.permute(2, 0, 1).contiguous()
    exponents = (torch.exp(weights.A_log) * -LOG2E).transpose(1, 2).contiguous()
    rise = weights.dt_weight.transpose(1, 2).contiguous()
    out = torch.empty_like(tokens)
    for branch in range(branches):
        into_x, into_z = weights.in_proj[branch].split(inner)
        scan = _Scan(
            by_tap[:, branch],
            weights.conv_bias[branch],
            weights.x_proj[branch],
            rise[branch],
            weights.dt_bias[branch],
            exponents[branch],
            weights.D[branch],
            order.reshape(-1).numpy(),
        )
        for first in range(0, batch, samples):
            part = tokens[branch, first : first + samples]
            total = scan.of(dense(part, into_x), len(order), window)
            _gate(total, dense(part, into_z))
            out[branch, first : first + samples] = dense(total, weights.out_proj[branch])
    return out


class _Scan(NamedTuple):
    """The scan of a branch: its parameters as the kernels want them, and the orders, flat."""

    by_tap: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    rise: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor
    order: np.ndarray

    def of(self, x: Tensor, orders: int, window: int) -> Tensor:
        """x (S, L, E), raster order, convolved and scanned along every order; the sum over the orders (S, L, E)."""
        samples, length, inner = x.shape
        total = torch.zeros_like(x)
        states = x.new_zeros(samples, orders, len(self.A), inner)
        for start in range(0, length, window):
            scanned = x.new_empty(samples, orders, min(window, length - start), inner)
            self._gather(x, start, scanned)
            self._scan(scanned, dense(scanned, self.x_proj), start, states, total)
        return total

    def _gather(self, x: Tensor, start: int, scanned: Tensor) -> None:
        """Fill ``scanned`` (S, K, T, E), the convolved sequences from token ``start`` on."""
        samples, orders, tokens, inner = scanned.shape
        addresses = _addresses(x, self.by_tap, self.conv_bias, scanned)
        sizes = (orders, samples, x.shape[1], inner, len(self.by_tap))

        def work(first: int, last: int) -> None:
            kernels.gather_window(first, last, FLOAT32, addresses, self.order, sizes, start, tokens)

        run_tasks(samples * orders * -(-tokens // TILE), work)

    def _scan(self, scanned: Tensor, rows: Tensor, start: int, states: Tensor, total: Tensor) -> None:
        """Add the scan of a window to ``total`` (S, L, E) and bring ``states`` (S, K, N, E) to its end."""
        samples, orders, tokens, inner = scanned.shape
        addresses = _addresses(scanned, rows, self.rise, self.dt_bias, self.A, self.D, states, total)
        sizes = (orders, total.shape[1], inner, len(self.rise), len(self.A))

        def work(first: int, last: int) -> None:
            scratch = scanned.new_empty(kernels.scratch_size(len(self.A), len(self.rise)))
            given = (*addresses, kernels.NOTHING, scratch.data_ptr())
            kernels.scan_window(first, last, FLOAT32, given, self.order, sizes, start, tokens)

        run_tasks(samples * -(-inner // BLOCK), work)


def _gate(total: Tensor, z: Tensor) -> None:
    """Multiply ``total`` by SiLU(z)."""
    addresses, size = _addresses(total, z), total.numel()
    run_tasks(-(-size // PLANE), lambda first, last: kernels.gate(first, last, FLOAT32, addresses, size))


def _addresses(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)
