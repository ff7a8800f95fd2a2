"""The reference of the selective scan: (B, D, L) in and out by the recurrence as written, (B, D, L, N) in memory.

Mamba (Gu and Dao 2023, Eq. 2 with zero-order hold for A and Euler for B):
h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,  y_t = C_t h_t + D u_t,  out_t = y_t silu(z_t).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from DiffMaCore.ops.scan.arguments import ScanArguments


def reference_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); differentiable by autograd."""
    dtype = arguments.compute_dtype
    u, delta, A = arguments.u.to(dtype), arguments.delta.to(dtype), arguments.A.to(dtype)
    if arguments.delta_bias is not None:
        delta = delta + arguments.delta_bias.to(dtype)[:, None]
    if arguments.delta_softplus:
        delta = F.softplus(delta)
    # (B, D, L, N)
    B, C = (
        tensor.to(dtype).transpose(2, 3).repeat_interleave(u.shape[1] // arguments.groups, dim=1)
        for tensor in (arguments.B, arguments.C)
    )
    decay = torch.exp(delta[..., None] * A[:, None, :])
    drive = (delta * u)[..., None] * B
    state = torch.zeros_like(decay[:, :, 0])
    states = []
    # unbind, not indexing: the gradient of an index is a whole (B, D, L, N) tensor for every token.
    for decay_t, drive_t in zip(decay.unbind(2), drive.unbind(2), strict=True):
        state = decay_t * state + drive_t
        states.append(state)
    y = (torch.stack(states, dim=2) * C).sum(-1)
    if arguments.D is not None:
        y = y + u * arguments.D.to(dtype)[:, None]
    if arguments.z is not None:
        y = y * F.silu(arguments.z.to(dtype))
    return y.to(arguments.u.dtype), state
