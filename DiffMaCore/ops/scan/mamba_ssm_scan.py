"""Selective scan by mamba-ssm's CUDA kernel, and the convolution before it by causal-conv1d's.

The packages are imported only when they are asked for, as some of their releases fail at import.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.probing import draw, failure_of, relative_error


def mamba_ssm_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); the last state has no gradient."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    dtype = arguments.u.dtype

    def full(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.float()

    return selective_scan_fn(
        arguments.u,
        arguments.delta.to(dtype),
        full(arguments.A),
        arguments.B.to(dtype),
        arguments.C.to(dtype),
        D=full(arguments.D),
        z=None if arguments.z is None else arguments.z.to(dtype),
        delta_bias=full(arguments.delta_bias),
        delta_softplus=arguments.delta_softplus,
        return_last_state=True,
    )


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the depthwise causal convolution of x (B, L, D) with weight (D, taps) and bias (D,)."""
    from causal_conv1d import causal_conv1d_fn

    out = causal_conv1d_fn(x.transpose(1, 2), weight.to(x.dtype), bias.to(x.dtype), activation="silu")
    return out.transpose(1, 2).contiguous()


@functools.cache
def convolution_problem(device: str) -> str | None:
    """None if causal-conv1d really gives right values and gradients on devices of this type, else the reason."""
    if device != "cuda" or not torch.cuda.is_available():
        return "causal-conv1d runs on CUDA devices only"
    return failure_of("causal-conv1d", lambda: convolution_error(device))


def convolution_error(device: str) -> float:
    x, weight, bias = draw(device, (1, 8, 16), (16, 4), (16,))
    convolved = F.conv1d(F.pad(x.mT, (3, 0)), weight[:, None], bias, groups=16)
    return relative_error(conv_silu(x, weight, bias), F.silu(convolved.mT), x)
