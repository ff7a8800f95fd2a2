"""What a selective scan is given in, the same checked and in one layout for every back end out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class ScanArguments:
    """Checked arguments in the caller's layout (channels before tokens).

    Shapes: u, delta, z (B, D, L); A (D, N); D, delta_bias (D,); B, C (B, G, N, L), to which (B, N, L) is widened as one
    group and (D, N) as D of them.

    Raises TypeError for complex or integer tensors and ValueError for a shape that does not fit.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    delta_bias: Tensor | None = None
    delta_softplus: bool = False

    @property
    def groups(self) -> int:
        return self.B.shape[1]

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 if any argument is; float32 otherwise, also for half-precision arguments."""
        double = any(tensor.dtype == torch.float64 for tensor in self._given().values())
        return torch.float64 if double else torch.float32

    def _given(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def __post_init__(self) -> None:
        given, u, A = self._given(), self.u, self.A
        for name, tensor in given.items():
            if not tensor.is_floating_point():
                raise TypeError(f"selective_scan takes real floating-point tensors; {name} is {tensor.dtype}.")
            if tensor.device != u.device:
                raise ValueError(f"selective_scan needs all tensors on {u.device}; {name} is on {tensor.device}.")
        if u.dim() != 3 or 0 in u.shape:
            raise ValueError(f"u must be a non-empty (B, D, L) tensor, not {tuple(u.shape)}.")
        batch, channels, length = u.shape
        if A.dim() != 2 or A.shape[0] != channels or A.shape[1] == 0:
            raise ValueError(f"A must be (D, N) with D={channels}, not {tuple(A.shape)}.")
        for name, shape in (("delta", u.shape), ("z", u.shape), ("D", (channels,)), ("delta_bias", (channels,))):
            if name in given and given[name].shape != shape:
                raise ValueError(f"{name} must have shape {tuple(shape)}, not {tuple(given[name].shape)}.")
        B, C = (_grouped(name, given[name], batch, channels, A.shape[1], length) for name in ("B", "C"))
        if B.shape[1] != C.shape[1]:
            if channels not in (B.shape[1], C.shape[1]):
                counts = sorted((B.shape[1], C.shape[1]))
                raise ValueError(f"B and C must have the same number of groups, not {counts}.")
            B, C = (tensor.repeat_interleave(channels // tensor.shape[1], dim=1) for tensor in (B, C))
        self.B, self.C = B, C


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
