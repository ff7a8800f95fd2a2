"""Selective scan on CPUs by Numba kernels, forward and backward, on as many threads as torch uses.

The kernels work token-major, (B, L, D) in memory: arguments that are `.transpose(1, 2)` views of such
tensors, and their results and gradients, are not copied. Half precision is computed in float32,
float64 in float64.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.scan import numba_backward, numba_forward, numba_lanes
from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_backward import backward_scratch, backward_task
from DiffMaCore.ops.scan.numba_forward import BLOCK, STATES, TILE, forward_scratch, forward_task
from DiffMaCore.ops.scan.numba_lanes import LOG2E, REGISTER_BYTES, pointers
from DiffMaCore.ops.scan.threads import run_kernel

SOURCES = source_digest(numba_lanes, numba_forward, numba_backward)
NARROWEST = 64  # channels of a block
ENOUGH_TASKS = 16  # for the threads of most machines


def numba_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); both are differentiable (once)."""
    dtype, groups = arguments.compute_dtype, arguments.groups
    channels, states = arguments.A.shape
    per_group = channels // groups
    pad_channels = -per_group % (REGISTER_BYTES // dtype.itemsize)
    pad_states = -states % STATES

    def rows(tensor: Tensor | None) -> Tensor | None:
        """(B, D, L) or (D,) -> contiguous (B, L, D) or (D,), each group in whole registers."""
        if tensor is None:
            return None
        tensor = tensor.to(dtype)
        if tensor.dim() == 3:
            tensor = tensor.transpose(1, 2)
        if pad_channels:
            tensor = F.pad(tensor.unflatten(-1, (groups, per_group)), (0, pad_channels)).flatten(-2)
        return tensor.contiguous()

    def weights(tensor: Tensor) -> Tensor:
        """B or C -> contiguous (B, G, L, N), padded."""
        tensor = tensor.to(dtype).transpose(2, 3)
        return (F.pad(tensor, (0, pad_states)) if pad_states else tensor).contiguous()

    A = arguments.A.to(dtype).unflatten(0, (groups, per_group))
    out, last = _NumbaScan.apply(
        arguments.delta_softplus,
        torch.is_grad_enabled(),
        rows(arguments.u),
        rows(arguments.delta),
        F.pad(A, (0, pad_states, 0, pad_channels)).flatten(0, 1).t().contiguous(),
        weights(arguments.B),
        weights(arguments.C),
        rows(arguments.D),
        rows(arguments.z),
        rows(arguments.delta_bias),
    )
    last = last.transpose(1, 2).unflatten(1, (groups, -1))[:, :, :per_group, :states].flatten(1, 2)
    if pad_channels:
        out = out.unflatten(2, (groups, -1))[..., :per_group].flatten(2)
    return out.to(arguments.u.dtype).transpose(1, 2), last


class _NumbaScan(torch.autograd.Function):
    """u, delta (B, L, D), A (N, D), B, C (B, G, L, N), skip (D,), z (B, L, D) and bias (D,), contiguous, padded."""

    @staticmethod
    def forward(ctx: Any, softplus: bool, differentiable: bool, *arguments: Any) -> tuple[Tensor, Tensor]:
        u, delta, A, B, *others = arguments
        batch, length, channels = u.shape
        groups, states = B.shape[1], B.shape[3]
        given = (u, delta, A * LOG2E, B, *others)
        out = torch.empty_like(u)
        last = u.new_empty(batch, states, channels)
        # Inside a Function torch reports gradients as off, and inputs as needing them even under no_grad.
        keep = differentiable and any(ctx.needs_input_grad)
        starts = u.new_empty(batch, -(-length // TILE), states, channels) if keep else None
        blocks, block = _blocks(batch * groups, channels // groups)
        sizes = (length, channels, groups, states, block)
        tensors = (*given, out, starts, last)
        run_kernel(_forward, batch * groups * blocks, tensors, softplus, sizes, scratch=forward_scratch(states))
        ctx.save_for_backward(*given, starts)
        ctx.softplus = softplus
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor, dlast: Tensor) -> tuple[Any, ...]:
        *given, starts = ctx.saved_tensors
        u, delta, _, B, _, skip, z, bias = given
        batch, length, channels = u.shape
        groups, states = B.shape[1], B.shape[3]
        blocks, block = _blocks(batch * groups, channels // groups)
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        dz = None if z is None else torch.empty_like(z)
        dA = u.new_empty(batch, states, channels)
        dskip = None if skip is None else u.new_empty(batch, channels)
        dbias = None if bias is None else u.new_empty(batch, channels)
        dB, dC = u.new_empty(2, batch, groups, blocks, length, states)
        results = (du, ddelta, dz, dA, dskip, dbias, dB, dC)
        sizes = (length, channels, groups, states, block)
        tensors = (*given, starts, dout.contiguous(), dlast.contiguous(), *results)
        run_kernel(_backward, batch * groups * blocks, tensors, ctx.softplus, sizes, scratch=backward_scratch(states))
        dskip, dbias = (None if part is None else part.sum(0) for part in (dskip, dbias))
        return None, None, du, ddelta, dA.sum(0), dB.sum(2), dC.sum(2), dskip, dz, dbias


def _blocks(sequences: int, channels: int) -> tuple[int, int]:
    """How many blocks of channels each sequence is cut into, one a task, and how wide they are.

    By the shape alone: gradients are summed block by block, and must not depend on the number of threads.
    """
    block = BLOCK
    while block > NARROWEST and sequences * -(-channels // block) < ENOUGH_TASKS:
        block //= 2
    return -(-channels // block), block


@compiled
def _forward(first, last, like, addresses, softplus, sizes, sources=SOURCES):  # type: ignore[no-untyped-def]
    for task in range(first, last):
        forward_task(task, pointers(like, addresses), softplus, sizes)  # type: ignore[call-arg]


@compiled
def _backward(first, last, like, addresses, softplus, sizes, sources=SOURCES):  # type: ignore[no-untyped-def]
    for task in range(first, last):
        backward_task(task, pointers(like, addresses), softplus, sizes)  # type: ignore[call-arg]
