"""Selective scan (Mamba's recurrence) behind one call, with several back ends."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.backends import BACKENDS, available_backends, choose_backend

__all__ = ["available_backends", "choose_backend", "selective_scan"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Any:
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t; y_t = C_t h_t + D u_t; out_t = y_t silu(z_t).

    The arguments' names, shapes and meaning are those of mamba-ssm's `selective_scan_fn`
    (Gu and Dao 2023, Algorithm 2), for real numbers.

    u, delta, z: (B, D, L); A: (D, N); B, C: (B, N, L), (B, G, N, L) with D divisible by G, or (D, N) if
    they do not change with the tokens (slower); D, delta_bias: (D,). delta is used as softplus(delta + delta_bias)
    if `delta_softplus` is set. The state is float32 (float64 if any argument is float64).
    `backend`: "auto", or one of `available_backends(device)`.

    Returns out (B, D, L) in u's dtype and, with `return_last_state`, the last state (B, D, N).
    On the CPU nothing is copied if u, delta and z are `.transpose(1, 2)` views of contiguous (B, L, D)
    tensors; out then is such a view too.

    Raises TypeError or ValueError for tensors that do not fit, BackendError for a back end that cannot run.
    """
    arguments = ScanArguments(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    scan = BACKENDS[choose_backend(backend, u.device, arguments.compute_dtype)].load()
    out, last_state = scan(arguments)
    return (out, last_state) if return_last_state else out
