"""What a selective scan is given in, the same checked and in one layout for every back end out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScanArguments:
    """Checked arguments in the caller's layout (channels before tokens).

    Shapes: u, delta, z (B, D, L); A (D, N); B, C (B, G, N, L); D, delta_bias (D,).
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    delta_softplus: bool

    @property
    def groups(self) -> int:
        return self.B.shape[1]

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 if any argument is; float32 otherwise, also for half-precision arguments."""
        given = (self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.delta_bias)
        double = any(tensor is not None and tensor.dtype == torch.float64 for tensor in given)
        return torch.float64 if double else torch.float32


def check_arguments(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> ScanArguments:
    """Return the arguments with B and C of shape (B, N, L) widened to one group, of shape (D, N) to D of them.

    Raises TypeError for complex or integer tensors and ValueError for a shape that does not fit.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    for name, tensor in given.items():
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f"selective_scan takes real floating-point tensors; {name} is {tensor.dtype}.")
        if tensor is not None and tensor.device != u.device:
            raise ValueError(f"selective_scan needs all tensors on {u.device}; {name} is on {tensor.device}.")
    if u.dim() != 3 or 0 in u.shape:
        raise ValueError(f"u must be a non-empty (B, D, L) tensor, not {tuple(u.shape)}.")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] == 0:
        raise ValueError(f"A must be (D, N) with D={channels}, not {tuple(A.shape)}.")
    states = A.shape[1]
    for name, tensor, shape in (
        ("delta", delta, (batch, channels, length)),
        ("z", z, (batch, channels, length)),
        ("D", D, (channels,)),
        ("delta_bias", delta_bias, (channels,)),
    ):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}.")
    B = _grouped("B", B, batch, channels, states, length)
    C = _grouped("C", C, batch, channels, states, length)
    if B.shape[1] != C.shape[1]:
        if channels not in (B.shape[1], C.shape[1]):
            counts = sorted((B.shape[1], C.shape[1]))
            raise ValueError(f"B and C must have the same number of groups, not {counts}.")
        B, C = (tensor.repeat_interleave(channels // tensor.shape[1], dim=1) for tensor in (B, C))
    return ScanArguments(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def _grouped(name: str, tensor: Tensor, batch: int, channels: int, states: int, length: int) -> Tensor:
    if tensor.dim() == 3:
        tensor = tensor.unsqueeze(1)
    fits = (
        tuple(tensor.shape) == (channels, states)
        if tensor.dim() == 2
        else tensor.dim() == 4
        and (tensor.shape[0], *tensor.shape[2:]) == (batch, states, length)
        and tensor.shape[1] > 0
        and channels % tensor.shape[1] == 0
    )
    if not fits:
        raise ValueError(
            f"{name} must be (D, N), (B, N, L) or (B, G, N, L) with B={batch}, D={channels} divisible by G, "
            f"N={states} and L={length}, not {tuple(tensor.shape)}."
        )
    return tensor if tensor.dim() == 4 else tensor[None, :, :, None].expand(batch, -1, -1, length)
