"""A back end of foreign binaries in, whether it really works here out: only a call shows it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.reference import reference_scan

# Fast exponentials, and sums in another order.
TOLERANCE = 1e-3


def failure_of(name: str, error: Callable[[], float]) -> str | None:
    """None if a tiny problem's relative error is small, else why `name` cannot be used."""
    try:
        worst = error()
    except Exception as failure:  # whatever goes wrong in a foreign binary makes it unavailable
        first_line = next(iter(str(failure).splitlines()), "no message")
        return f"{name} cannot be used ({type(failure).__name__}: {first_line})"
    if not worst < TOLERANCE:
        return f"{name} cannot be used (it gives values with a relative error of {worst:.1e})"
    return None


def scan_error(scan: Callable[[ScanArguments], tuple[Tensor, Tensor]], device: str) -> float:
    """Relative error of a tiny scan, values and gradients."""
    u, delta, z, B, C = draw(device, (1, 16, 8), (1, 16, 8), (1, 16, 8), (1, 1, 4, 8), (1, 1, 4, 8))
    A, D, bias = draw(device, (16, 4), (16,), (16,))
    arguments = ScanArguments(u, delta, -A.exp(), B, C, D, z, bias, True)
    return relative_error(scan(arguments)[0], reference_scan(arguments)[0], u)


def draw(device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    """The same normal numbers every time, with gradients."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator).to(device).requires_grad_() for shape in shapes]


def relative_error(found: Tensor, expected: Tensor, given: Tensor) -> float:
    """Relative error of the values or of the gradient, whichever is larger."""
    found_gradient, expected_gradient = (
        torch.autograd.grad(value.square().sum(), given)[0] for value in (found, expected)
    )
    pairs = ((found, expected), (found_gradient, expected_gradient))
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)
