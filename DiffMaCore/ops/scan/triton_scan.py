"""Selective scan by our own Triton kernels: on an NVIDIA GPU, with nothing to install or to compile but torch.

Triton comes with torch on Linux (on Windows as `triton-windows`). With TRITON_INTERPRET=1 in the environment it
interprets the same kernels on a CPU, far too slowly for anything but tests.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.triton_launch import Problem, run_backward, run_forward


def triton_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); both are differentiable (once)."""
    split = (arguments.groups, arguments.u.shape[1] // arguments.groups)
    u, delta, z = (None if x is None else x.unflatten(1, split) for x in (arguments.u, arguments.delta, arguments.z))
    A, B, C, D, bias = arguments.A, arguments.B, arguments.C, arguments.D, arguments.delta_bias
    out, last = _Scan.apply(arguments.delta_softplus, u, delta, z, A, B, C, D, bias)
    return out.flatten(1, 2), last


class _Scan(torch.autograd.Function):
    """Given u, delta, z (S, G, D/G, L), and A, B, C, D, bias as the scan is."""

    @staticmethod
    def forward(ctx: Any, softplus: bool, *given: Tensor | None) -> tuple[Tensor, Tensor]:
        # Of the inputs only u, delta and z are large; what the kernels want of the rest is made again in backward.
        keep = any(ctx.needs_input_grad)
        y, border = run_forward(Problem.make(given, softplus), keep)
        if keep:
            ctx.save_for_backward(*given, border)
            ctx.softplus = softplus
        ctx.set_materialize_grads(False)
        return y, border[:, -1].transpose(1, 2).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        *given, border = ctx.saved_tensors
        dy = torch.zeros_like(given[0]) if dy is None else dy
        dlast = None if dlast is None else dlast.float().transpose(1, 2).contiguous()
        return None, *run_backward(Problem.make(given, ctx.softplus), given, border, dy, dlast)
