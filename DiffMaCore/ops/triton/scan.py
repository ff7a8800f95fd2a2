"""Selective scan by our own Triton kernels: on an NVIDIA GPU, with nothing to install or to compile but torch.

Triton comes with torch on Linux (on Windows as `triton-windows`). With TRITON_INTERPRET=1 in the environment it
interprets the same kernels on a CPU, far too slowly for anything but tests.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.triton import scan_kernels as kernels

LOG2E = math.log2(math.e)
BUSY = 1024
"""Programs that keep a large GPU busy; where there would be fewer, each takes fewer channels."""


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


def interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(frozen=True)
class Problem:
    """A scan as the kernels want it: u, delta, z (S, G, D/G, L) by their strides, the rest small and new.

    A: (N, D), times log2(e); B, C: (S, G, N, L padded to whole tiles); D, bias: (D,); float32.
    order: (K, L) int32, or None; the sequences are then those of the samples, each K times.
    tiles: tokens and channels of one.
    """

    u: Tensor
    delta: Tensor
    z: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    bias: Tensor | None
    softplus: bool
    order: Tensor | None
    tiles: tuple[int, int]

    @classmethod
    def make(cls, given: Sequence[Any], softplus: bool, order: Tensor | None = None) -> Problem:
        """From (u, delta, z, A, B, C, D, bias) of any type, z, D and bias perhaps None; order (K, L).

        A (D, N), B and C (S, G, N, L), D and bias (D,).
        """
        u, delta, z, A, B, C, D, bias = given
        sequences, groups, width, length = u.shape
        many = sequences * groups * triton.cdiv(width, 64) >= BUSY
        tiles = (4, 4) if interpreted() else (16, 64 if many else 32)  # interpreted number by number
        chunks = triton.cdiv(length, tiles[0])

        def laid_out(weights: Tensor) -> Tensor:
            rows = weights.new_zeros(*weights.shape[:3], chunks * tiles[0], dtype=torch.float32)
            rows[..., :length] = weights
            return rows

        def full(vector: Tensor | None) -> Tensor | None:
            return None if vector is None else vector.float().contiguous()

        scaled = (A.float() * LOG2E).t().contiguous()
        order = None if order is None else order.to(torch.int32).contiguous()
        return cls(u, delta, z, scaled, laid_out(B), laid_out(C), full(D), full(bias), softplus, order, tiles)

    @property
    def chunks(self) -> int:
        return triton.cdiv(self.u.shape[3], self.tiles[0])

    @property
    def blocks(self) -> int:
        """Blocks of channels in a group."""
        return triton.cdiv(self.u.shape[2], self.tiles[1])

    def grid(self) -> tuple[int]:
        return (self.u.shape[0] * self.u.shape[1] * self.blocks,)

    def sizes(self) -> tuple[int, ...]:
        _, groups, width, length = self.u.shape
        return 1, length, self.chunks, groups, width

    def constants(self) -> dict[str, int | bool]:
        return {
            "N": len(self.A),
            "T": self.tiles[0],
            "E": self.tiles[1],
            "ORDERS": 0 if self.order is None else len(self.order),
            "WHOLE": self.u.shape[2] % self.tiles[1] == 0,
            "SOFTPLUS": self.softplus,
            "HAS_Z": self.z is not None,
            "HAS_D": self.D is not None,
            "HAS_BIAS": self.bias is not None,
            "num_warps": 1,
            "enable_fp_fusion": True,
        }


def run_forward(problem: Problem, keep: bool) -> tuple[Tensor, Tensor]:
    """y like u, and the states at the tiles' ends (S, chunks, N, D), or only the last (S, 1, N, D)."""
    u, delta, z = problem.u, problem.delta, problem.z
    y = torch.empty_like(u)
    border = u.new_empty(len(u), problem.chunks if keep else 1, *problem.A.shape, dtype=torch.float32)
    with current(u):
        kernels.scan_forward[problem.grid()](
            u, delta, z, problem.A, problem.B, problem.C, problem.D, problem.bias, problem.order, y, border,
            *_strides(u), *_strides(delta), *_strides(z), *_strides(y), *problem.sizes(),
            **problem.constants(), KEEP=keep,
        )  # fmt: skip
    return y, border


def run_backward(
    problem: Problem, given: Sequence[Any], border: Tensor, dy: Tensor, dlast: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of what the problem was made of, in its types and shapes.

    dy is like u, or with orders (samples, G, D/G, L) in raster order; dlast (S, N, D).
    """
    u, delta, z = problem.u, problem.delta, problem.z
    states, channels = problem.A.shape

    def per_sequence(*shape: int) -> Tensor:
        return u.new_empty(len(u), *shape, dtype=torch.float32)

    du, ddelta, dz = torch.empty_like(u), torch.empty_like(delta), None if z is None else torch.empty_like(z)
    carry, dA = per_sequence(states, channels), per_sequence(states, channels)
    dB, dC = (per_sequence(u.shape[1], problem.blocks, states, problem.B.shape[3]) for _ in range(2))
    dD, dbias = (None if given is None else per_sequence(channels) for given in (problem.D, problem.bias))
    with current(u):
        kernels.scan_backward[problem.grid()](
            dy, u, delta, z, problem.A, problem.B, problem.C, problem.D, problem.bias, problem.order, border,
            dlast, carry, du, ddelta, dz, dA, dB, dC, dD, dbias,
            *_strides(dy), *_strides(u), *_strides(delta), *_strides(z), *_strides(du), *_strides(ddelta),
            *_strides(dz), *problem.sizes(), **problem.constants(), HAS_LAST=dlast is not None,
        )  # fmt: skip

    of_weights = (gradient.sum(2)[..., : u.shape[3]] for gradient in (dB, dC))
    of_vectors = (None if gradient is None else gradient.sum(0) for gradient in (dD, dbias))
    pairs = zip((du, ddelta, dz, dA.sum(0).t(), *of_weights, *of_vectors), given, strict=True)
    return tuple(None if gradient is None else gradient.to(tensor.dtype) for gradient, tensor in pairs)


def _strides(tensor: Tensor | None) -> tuple[int, ...]:
    """Of sequence, group, token and channel."""
    if tensor is None:
        return 0, 0, 0, 0
    sequence, group, channel, token = tensor.stride()
    return sequence, group, token, channel


def current(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
