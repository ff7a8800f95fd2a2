"""The spiral scan of a Mamba on a GPU in few launches: both branches, all orders, gather and scatter inside.

One launch gathers and convolves, two matrix products make the weights, one launch scans everything and puts the
outputs where their tokens stand, one sums and gates them. The sequences in scan order are the convolved ones alone:
nothing else is ever permuted. All sums have a fixed order, so that the same bits come out every time.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.triton import spiral_kernels as kernels
from DiffMaCore.ops.triton.scan import Problem, current, interpreted, run_backward, run_forward

# (tokens, channels) of a tile, tiles that one program sums weight gradients over, numbers in a flat block.
T, LANES, SPAN, SIZE = (4, 16, 2, 256) if interpreted() else (16, 128, 16, 2048)


def spiral_scan(x: Tensor, z: Tensor, mamba: Any) -> Tensor:
    """As :func:`DiffMaCore.ops.spiral.order.spiral_scan`; differentiable (once)."""
    order, position = mamba.order.int(), mamba.position.int()
    branches, batch, length, width = x.shape
    u = _GatherConvSilu.apply(x.contiguous(), mamba.conv_weight, mamba.conv_bias, order, position)
    delta, b, c = mamba.weights(u.view(branches, -1, width))
    shape = (branches, batch * len(order), length, -1)
    # (sequence, branch, channel or state, token)
    delta, b, c = (tensor.reshape(shape).permute(1, 0, 3, 2) for tensor in (delta, b, c))
    A, D, dt_bias = mamba.constants()
    return _ScanMergeGate.apply(order, z.contiguous(), u, delta, A, b, c, D, dt_bias)


class _GatherConvSilu(torch.autograd.Function):
    """x (2, B, L, E), weight (2, E, taps), bias (2, E), order and position (K, L) to (2, B, K, L, E)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor, position: Tensor) -> Tensor:
        branches, batch, length, width = x.shape
        taps_first, shift = weight.float().transpose(1, 2).contiguous(), bias.float().contiguous()
        u = x.new_empty(branches, batch, len(order), length, width)
        grid = (branches * batch * len(order) * triton.cdiv(length, T) * triton.cdiv(width, LANES),)
        with current(x):
            kernels.gather[grid](
                x, order, taps_first, shift, u, batch, length, width,
                ORDERS=len(order), TAPS=weight.shape[2], T=T, LANES=LANES, enable_fp_fusion=True,
            )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, order, position)
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, order, position = ctx.saved_tensors
        branches, batch, length, width = x.shape
        taps, orders = weight.shape[2], len(order)
        taps_first, shift = weight.float().transpose(1, 2).contiguous(), bias.float().contiguous()
        du = du.contiguous()
        dv, dx = torch.empty_like(du), torch.empty_like(x)
        blocks, spans = triton.cdiv(width, LANES), triton.cdiv(length, T * SPAN)
        partial = x.new_empty(branches, batch * orders * spans, taps + 1, width, dtype=torch.float32)
        with current(x):
            kernels.gather_backward[(branches * batch * orders * spans * blocks,)](
                x, order, taps_first, shift, du, dv, partial, batch, length, width, spans,
                ORDERS=orders, TAPS=taps, SPAN=SPAN, T=T, LANES=LANES, enable_fp_fusion=True,
            )  # fmt: skip
            kernels.scatter_backward[(branches * batch * triton.cdiv(length, T) * blocks,)](
                dv, position, taps_first, dx, batch, length, width,
                ORDERS=orders, TAPS=taps, T=T, LANES=LANES, enable_fp_fusion=True,
            )  # fmt: skip
        summed = partial.sum(1)
        dweight = summed[:, :taps].transpose(1, 2).to(weight.dtype)
        return dx, dweight, summed[:, taps].to(bias.dtype), None, None


class _ScanMergeGate(torch.autograd.Function):
    """z (2, B, L, E), sequences u (2, B, K, L, E) and, as the scan takes them, delta (B * K, 2, E, L), A, B, C, D and
    bias to (2, B, L, E)."""

    @staticmethod
    def forward(ctx: Any, order: Tensor, z: Tensor, u: Tensor, delta: Tensor, *parameters: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        problem = Problem.make((_sequences(u), delta, None, *parameters), True, order)
        y, border = run_forward(problem, keep)
        out, total = torch.empty_like(z), torch.empty_like(z) if keep else None
        rows, size = z.shape[0] * z.shape[1], z.shape[2] * z.shape[3]
        with current(z):
            kernels.merge[(rows * triton.cdiv(size, SIZE),)](
                y, z, total, out, size, ORDERS=len(order), KEEP=keep, SIZE=SIZE, enable_fp_fusion=True
            )
        if keep:
            ctx.save_for_backward(order, z, u, delta, border, total, *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        order, z, u, delta, border, total, *parameters = ctx.saved_tensors
        dtotal, dz = torch.empty_like(z), torch.empty_like(z)
        with current(z):
            kernels.merge_backward[(triton.cdiv(z.numel(), SIZE),)](
                dout.contiguous(), total, z, dtotal, dz, z.numel(), SIZE=SIZE, enable_fp_fusion=True
            )
        # Every order of a sample gives to the same sum: they share its gradient.
        given = (_sequences(u), delta, None, *parameters)
        problem = Problem.make(given, True, order)
        du, ddelta, _, *rest = run_backward(problem, given, border, dtotal.permute(1, 0, 3, 2), None)
        assert du is not None
        return None, dz, du.permute(1, 0, 3, 2).reshape(u.shape), ddelta, *rest


def _sequences(u: Tensor) -> Tensor:
    """(2, B, K, L, E) as the scan takes it: (B * K, 2, E, L), nothing moved."""
    return u.flatten(1, 2).permute(1, 0, 3, 2)
