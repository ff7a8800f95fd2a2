"""Relative errors of the interpreted Triton spiral scan on a CPU, of ``triton_interpreted``."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from DiffMaCore.diffusion.precision import in_precision
from DiffMaCore.models.diffma import SpiralMamba
from DiffMaCore.models.orders import SCAN_ORDERS


def results(mamba: SpiralMamba, tokens: Tensor, backend: str, dtype: torch.dtype, half: bool = False) -> list[Tensor]:
    """Output, and the gradients of the tokens and of every parameter."""
    mamba = copy.deepcopy(mamba).to(dtype)
    mamba.backend = backend
    given = tokens.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = mamba(given)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out, *torch.autograd.grad((out.to(dtype) * pull.to(dtype)).sum(), [given, *mamba.parameters()])]


def worst(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(
        float((a.detach().double() - b.detach()).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True)
    )


@torch.no_grad()
def inferred(mamba: SpiralMamba, tokens: Tensor) -> Tensor:
    mamba.backend = "triton"
    return mamba(tokens)


@torch.no_grad()
def rounded(mamba: SpiralMamba, tokens: Tensor, backend: str) -> Tensor:
    """As in inference in bfloat16: weights and tokens are."""
    mamba = in_precision(mamba, "bfloat16")
    mamba.backend = backend
    return mamba(tokens.bfloat16())


def report() -> dict[str, Any]:
    """Errors in full and half precision, against plain torch in float64."""
    told: dict[str, Any] = {}
    for name, grid in zip(SCAN_ORDERS, (3, 2), strict=True):  # 9 tokens and 6 channels fill no tile of 4
        torch.manual_seed(0)
        mamba = SpiralMamba(3, grid, block=1, scan_order=name, state_size=2)
        tokens = torch.randn(2, 1, grid * grid, 3)
        exact = results(mamba, tokens, "torch", torch.float64)
        ours = results(mamba, tokens, "triton", torch.float32)
        told[name] = worst(ours, exact)
    half, plain = (results(mamba, tokens, backend, torch.float32, half=True) for backend in ("triton", "torch"))
    told["half"], told["half in torch"] = worst(half, exact), worst(plain, exact)
    told["half type"] = str(half[0].dtype)
    ours16, plain16 = (rounded(mamba, tokens, backend) for backend in ("triton", "torch"))
    told["bfloat16"], told["bfloat16 in torch"] = worst([ours16], exact[:1]), worst([plain16], exact[:1])
    told["bfloat16 type"] = str(ours16.dtype)
    told["inference"] = float((inferred(mamba, tokens) - ours[0]).abs().max())
    return told
