"""Selective scan in plain torch operations: any device, exact gradients, no (B, D, L, N) tensor kept.

The tokens are taken in chunks. A chunk's decays and states are materialised, used and forgotten; only
the state at each chunk's start is kept for the backward pass, which recomputes the rest.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.scan.arguments import ScanArguments

CHUNK = 16


def torch_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); both are differentiable (once)."""
    # Nothing here is a matrix product, so autocast lowers no precision.
    dtype = arguments.compute_dtype
    u = arguments.u.to(dtype).transpose(1, 2)
    delta = arguments.delta.to(dtype).transpose(1, 2)
    if arguments.delta_bias is not None:
        delta = delta + arguments.delta_bias.to(dtype)
    if arguments.delta_softplus:
        delta = F.softplus(delta)
    split = (arguments.groups, u.shape[2] // arguments.groups)
    y, last = _ChunkedScan.apply(
        u.unflatten(2, split),
        delta.unflatten(2, split),
        arguments.A.to(dtype).unflatten(0, split),
        *(tensor.to(dtype).permute(0, 3, 1, 2).unsqueeze(3) for tensor in (arguments.B, arguments.C)),
    )
    y = y.flatten(2)
    if arguments.D is not None:
        y = y + u * arguments.D.to(dtype)
    if arguments.z is not None:
        y = y * F.silu(arguments.z.to(dtype).transpose(1, 2))
    return y.to(arguments.u.dtype).transpose(1, 2), last.flatten(1, 2)


def _states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states of one chunk, each (B, T, G, E, N)."""
    decay = torch.exp(delta[..., None] * A)
    states = (delta * u)[..., None] * B
    state = start
    for token in range(states.shape[1]):
        state = states[:, token].addcmul_(decay[:, token], state)
    return decay, states


class _ChunkedScan(torch.autograd.Function):
    """u, delta (B, L, G, E), where D = G * E; A (G, E, N); B, C (B, L, G, 1, N)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.empty_like(u)
        state = u.new_zeros(u.shape[0], *A.shape)
        starts = []
        for first in range(0, u.shape[1], CHUNK):
            chunk = slice(first, first + CHUNK)
            starts.append(state)
            _, states = _states(u[:, chunk], delta[:, chunk], A, B[:, chunk], state)
            y[:, chunk] = (states * C[:, chunk]).sum(-1)
            state = states[:, -1].clone()
        ctx.save_for_backward(u, delta, A, B, C, *starts)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *starts = ctx.saved_tensors
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        dA, dB, dC = torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
        # What the tokens after the chunk say about the state at the chunk's end.
        carried = dlast
        for index in reversed(range(len(starts))):
            chunk = slice(index * CHUNK, (index + 1) * CHUNK)
            u_, delta_, dy_ = u[:, chunk], delta[:, chunk], dy[:, chunk]
            B_, C_ = B[:, chunk], C[:, chunk]
            decay, states = _states(u_, delta_, A, B_, starts[index])
            dstates = dy_[..., None] * C_
            for token in reversed(range(dstates.shape[1])):
                carried = decay[:, token] * dstates[:, token].add_(carried)
            dC[:, chunk] = (dy_[..., None] * states).sum(3, keepdim=True)
            drive = delta_ * u_
            dB[:, chunk] = (dstates * drive[..., None]).sum(3, keepdim=True)
            ddrive = (dstates * B_).sum(-1)
            before = torch.cat([starts[index][:, None], states[:, :-1]], dim=1)
            dexponent = dstates.mul_(decay).mul_(before)
            du[:, chunk] = ddrive * delta_
            ddelta[:, chunk] = ddrive * u_ + (dexponent * A).sum(-1)
            dA += (dexponent * delta_[..., None]).sum((0, 1))
        return du, ddelta, dA, dB, dC
