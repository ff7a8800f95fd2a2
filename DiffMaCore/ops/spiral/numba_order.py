"""The Numba form of :mod:`DiffMaCore.ops.spiral.order`, with gradients; its kernels gather and scatter in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.scan.threads import run_tasks
from DiffMaCore.ops.spiral import kernels

LANES = kernels.LANES


def _run(kernel: Any, tasks: int, tensors: Sequence[Tensor], places: Tensor, sizes: tuple[int, ...]) -> None:
    """Run a kernel on contiguous float32 tensors; ``places`` are the orders or the positions in them."""
    addresses = tuple(tensor.data_ptr() for tensor in tensors)
    indices = places.reshape(-1).numpy()
    run_tasks(tasks, lambda first, last: kernel(first, last, np.float32(0), addresses, indices, sizes))


class GatherConvSilu(torch.autograd.Function):
    """x (2, B, L, E), order (K, L), weight (2, E, taps), bias (2, E) to (B, K, L, 2E); float32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous()
        branches, batch, length, inner = x.shape
        orders, taps = len(order), weight.shape[2]
        by_tap = weight.detach().permute(2, 0, 1).contiguous()
        ctx.sizes = (orders, batch, length, inner, taps)
        ctx.save_for_backward(x, order, by_tap, bias)
        out = x.new_empty(batch, orders, length, branches * inner)
        _run(kernels.gather, batch * branches, (x, by_tap, bias.contiguous(), out), order, ctx.sizes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, order, by_tap, bias = ctx.saved_tensors
        _, batch, _, inner, taps = ctx.sizes
        dx = torch.zeros_like(x)
        dweight, dbias = x.new_zeros(batch, taps, 2 * inner), x.new_zeros(batch, 2 * inner)
        tensors = (x, by_tap, bias.contiguous(), dout.contiguous(), dx, dweight, dbias)
        _run(kernels.gather_backward, batch * 2, tensors, order, ctx.sizes)
        return dx, None, dweight.sum(0).view(taps, 2, inner).permute(1, 2, 0), dbias.sum(0).view(2, inner)


class MergeGate(torch.autograd.Function):
    """y (B, K, L, 2E), z (2, B, L, E), position (K, L) to (2, B, L, E); float32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, position: Tensor) -> Tensor:
        y, z = y.contiguous(), z.contiguous()
        branches, batch, length, inner = z.shape
        ctx.sizes = (len(position), batch, length, inner, 0)
        ctx.save_for_backward(y, z, position)
        out = torch.empty_like(z)
        _run(kernels.merge, batch * branches, (y, z, out), position, ctx.sizes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        y, z, position = ctx.saved_tensors
        dy, dz = torch.empty_like(y), torch.empty_like(z)
        tasks = z.shape[0] * z.shape[1]
        _run(kernels.merge_backward, tasks, (y, z, dout.contiguous(), dy, dz), position, ctx.sizes)
        return dy, dz, None
