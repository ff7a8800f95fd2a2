"""A block's two Mambas without gradients on a CPU, fused: the same numbers as SpiralMamba's steps one by one.

A sample's scanned sequences are three times as large as its tokens, twice as wide, and needed by three steps. Here
they exist for a tile of tokens at a time, which never leaves a core's caches: convolution, projections and scan are
one kernel, and what it leaves is summed over the orders and gated by another.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore.ops.dense import dense
from DiffMaCore.ops.scan.numba_forward import STATES
from DiffMaCore.ops.scan.numba_lanes import LOG2E
from DiffMaCore.ops.scan.threads import run_tasks
from DiffMaCore.ops.spiral import fused_kernels as kernels
from DiffMaCore.ops.spiral.kernels import LANES

WINDOW_BYTES = 64 << 20  # of what the kernels hand on at a time: smaller parts would make smaller, slower products
FLOAT32, BFLOAT16 = np.float32(0), np.uint16(0)  # what the kernels are told of numbers in memory


class ScanParameters(Protocol):
    """The scans' parameters of both branches, as SpiralMamba keeps them."""

    @property
    def conv_weight(self) -> Tensor: ...
    @property
    def conv_bias(self) -> Tensor: ...
    @property
    def x_proj(self) -> Tensor: ...
    @property
    def dt_weight(self) -> Tensor: ...
    @property
    def dt_bias(self) -> Tensor: ...
    @property
    def A_log(self) -> Tensor: ...
    @property
    def D(self) -> Tensor: ...


class Weights(ScanParameters, Protocol):
    """Parameters of both branches, as SpiralMamba keeps them."""

    @property
    def in_proj(self) -> Tensor: ...
    @property
    def out_proj(self) -> Tensor: ...


def supports(inner: int, states: int) -> bool:
    """Whether the kernels apply: whole pairs of registers of channels, whole groups of states."""
    return inner % kernels.PAIR == 0 and states % STATES == 0


def fused_mamba(
    tokens: Tensor, weights: Weights, order: Tensor, window_bytes: int = WINDOW_BYTES
) -> tuple[Tensor, Tensor]:
    """Tokens of both branches (2, B, L, D), raster order, along the orders (K, L), to the branches' (B, L, D)."""
    branches, batch, length, _ = tokens.shape
    inner, orders = weights.D.shape[1], len(order)
    # Every thread has two tasks of the scan at least.
    fewest = -(-2 * torch.get_num_threads() // (branches * orders))
    samples = max(window_bytes // (4 * branches * (1 + orders) * length * inner), fewest)
    window = max(1, window_bytes // (4 * inner * min(samples, batch)))
    scan = ScanWeights.of(weights, order)
    made: tuple[list[Tensor], list[Tensor]] = ([], [])
    for part in tokens.split(samples, dim=1):
        scanned = scan([dense(part[b], weights.in_proj[b, :inner]) for b in range(branches)])
        for b in range(branches):
            pieces = []
            for start in range(0, length, window):
                gated = dense(part[b, :, start : start + window], weights.in_proj[b, inner:])
                _gate(gated, scanned[b], start)
                pieces.append(dense(gated, weights.out_proj[b]))
            made[b].append(_joined(pieces, 1))
    return _joined(made[0], 0), _joined(made[1], 0)


def _joined(pieces: list[Tensor], dim: int) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


class ScanWeights(NamedTuple):
    """The parameters of both branches as the kernels want them, and the orders."""

    taps: Tensor
    tap_bias: Tensor
    columns: Tensor
    rise: Tensor
    bias: Tensor
    A: Tensor
    D: Tensor
    order: np.ndarray

    @classmethod
    def of(cls, weights: ScanParameters, order: Tensor) -> ScanWeights:
        columns = weights.x_proj.shape[1]
        padded = F.pad(weights.x_proj, (0, 0, 0, -columns % kernels.PAIR))
        return cls(
            weights.conv_weight.transpose(1, 2).contiguous(),
            weights.conv_bias,
            padded.unflatten(1, (-1, kernels.PAIR)).transpose(2, 3).contiguous(),
            weights.dt_weight.unflatten(1, (-1, kernels.PAIR)).transpose(2, 3).contiguous(),
            weights.dt_bias,
            (torch.exp(weights.A_log) * -LOG2E).unflatten(1, (-1, LANES)).transpose(2, 3).contiguous(),
            weights.D,
            order.numpy(),
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but the orders."""
        return self[:-1]

    @property
    def states(self) -> int:
        return self.A.shape[2]

    @property
    def width(self) -> int:
        """Columns, zeros included."""
        return self.columns.shape[1] * kernels.PAIR

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Taps, rank, states and columns."""
        return self.taps.shape[1], self.rise.shape[2], self.states, self.width

    def __call__(self, x: list[Tensor]) -> Tensor:
        """Both branches' x (S, L, E), raster order, to the scans of the orders (2, S, K or 1, L, E), raster order.

        They are still to be summed where they are K.
        """
        samples, length, inner = x[0].shape
        orders = len(self.order)
        # Orders that one task takes are summed in its core's caches; but every thread needs a task.
        together = orders if len(x) * samples >= torch.get_num_threads() else 1
        out = x[0].new_empty(len(x), samples, orders // together, length, inner)
        given = (*addresses_of(*x, *self.tensors, out), *3 * (kernels.NOTHING,))
        sizes = (orders, together, samples, length, inner, inner, *self.sizes)
        order = self.order.reshape(-1)

        def work(first: int, last: int) -> None:
            scratch = out.new_empty(kernels.scratch_size(inner, self.states, self.width))
            kernels.scan(first, last, FLOAT32, (*given, *addresses_of(scratch)), order, sizes)

        run_tasks(out.shape[0] * out.shape[1] * out.shape[2], work)
        return out


def _gate(z: Tensor, y: Tensor, start: int) -> None:
    """z (S, T, E) becomes SiLU(z) times the sum over the orders of y (S, K, L, E) at the T tokens from ``start`` on."""
    samples, tokens, inner = z.shape
    addresses, sizes = addresses_of(y, z), (y.shape[1], y.shape[2], inner, start, tokens)
    tasks = samples * -(-tokens * inner // kernels.PART)
    run_tasks(tasks, lambda first, last: kernels.gate(first, last, FLOAT32, addresses, sizes), turns=1)


def kinds_of(*tensors: Tensor) -> Any:
    """What kernels are told of tensors in float32, or of each where some are bfloat16."""
    if all(tensor.dtype == torch.float32 for tensor in tensors):
        return FLOAT32
    return tuple(BFLOAT16 if tensor.dtype == torch.bfloat16 else FLOAT32 for tensor in tensors)


def addresses_of(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)
