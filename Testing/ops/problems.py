"""Small scan problems, and their values and gradients by a back end or by the float64 reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from DiffMaCore.ops.scan import selective_scan
from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.reference import reference_scan

Problem = dict[str, Tensor]


def make_problem(
    batch: int,
    channels: int,
    tokens: int,
    states: int,
    B: str = "tokens",
    C: str = "tokens",
    groups: int = 2,
    options: bool = True,
) -> Problem:
    """Random arguments; B and C are "tokens" (B, N, L), "groups" (B, G, N, L) or "constant" (D, N)."""
    generator = torch.Generator().manual_seed(channels * 1000 + tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    shapes = {
        "tokens": (batch, states, tokens),
        "groups": (batch, groups, states, tokens),
        "constant": (channels, states),
    }
    problem = {
        "u": draw(batch, tokens, channels).transpose(1, 2),
        "delta": draw(batch, tokens, channels).transpose(1, 2) * 0.5,
        "A": -3 * (draw(channels, states) * 0.5).exp(),
        "B": draw(*shapes[B]),
        "C": draw(*shapes[C]),
    }
    if options:
        problem |= {
            "D": draw(channels),
            "z": draw(batch, tokens, channels).transpose(1, 2),
            "delta_bias": draw(channels) * 0.3,
        }
    else:
        problem["delta"] = problem["delta"].abs()
    return problem


def solve(
    problem: Problem, backend: str | None, softplus: bool, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Output, last state and the gradients of all arguments; `backend` None is the reference."""
    given: dict[str, Any] = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in problem.items()}
    if backend is None:
        out, last = reference_scan(ScanArguments(**given, delta_softplus=softplus))
    else:
        out, last = selective_scan(**given, delta_softplus=softplus, return_last_state=True, backend=backend)
    generator = torch.Generator().manual_seed(1)
    sums = [(value * torch.randn(value.shape, generator=generator).to(dtype)).sum() for value in (out, last)]
    gradients = torch.autograd.grad(sum(sums[1:], sums[0]), list(given.values()))
    return {"out": out.detach(), "last state": last.detach(), **dict(zip(given, gradients, strict=True))}


def worst_error(problem: Problem, backend: str, softplus: bool, dtype: torch.dtype = torch.float32) -> float:
    """Largest difference from the float64 reference over the largest value, worst of values and gradients.

    Values near the smallest that float32 has are as good as zero: not every processor keeps their digits.
    """
    exact = solve(problem, None, softplus, torch.float64)
    got = solve(problem, backend, softplus, dtype)
    assert got.keys() == exact.keys()
    sizes = {name: max(float(value.abs().max()), 1e-30) for name, value in exact.items()}
    return max(float((got[name].double() - exact[name]).abs().max()) / sizes[name] for name in exact)
