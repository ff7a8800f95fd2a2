"""Selective scan by mamba-ssm's CUDA kernel, and the convolution before it by causal-conv1d's.

The packages are imported only when they are asked for: some of their releases fail at import, others at
the first call, so that only a call tells.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from .arguments import ScanArguments, check_arguments
from .reference import reference_scan


def mamba_ssm_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); the last state has no gradient."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    dtype = arguments.u.dtype
    half = (torch.float16, torch.bfloat16)
    if arguments.compute_dtype == torch.float64 or dtype not in (torch.float32, *half):
        raise TypeError("The mamba-ssm back end computes in float32; ask for the torch back end for float64.")

    def full(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.float()

    def match(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dim() == 2 else tensor.to(dtype)

    return selective_scan_fn(
        arguments.u,
        arguments.delta.to(dtype),
        full(arguments.A),
        match(arguments.B),
        match(arguments.C),
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
def probe() -> str | None:
    """None if mamba-ssm and causal-conv1d give the reference's values on the GPU, else the reason.

    A tiny problem is really solved by each, once a process.
    """
    if not torch.cuda.is_available():
        return "no CUDA device is available"
    try:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).cuda()

        arguments = check_arguments(
            draw(1, 16, 8), draw(1, 16, 8), -draw(16, 4).exp(), draw(1, 1, 4, 8), draw(1, 1, 4, 8),
            draw(16), draw(1, 16, 8), draw(16), True,
        )  # fmt: skip
        result, expected = mamba_ssm_scan(arguments)[0], reference_scan(arguments)[0]
        tokens, weight, bias = draw(1, 8, 16), draw(16, 4), draw(16)
        convolved = F.conv1d(F.pad(tokens.mT, (3, 0)), weight[:, None], bias, groups=16)
        pairs = ((result, expected), (conv_silu(tokens, weight, bias), F.silu(convolved.mT)))
        error = max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)
    except Exception as failure:  # whatever goes wrong in a foreign binary makes it unavailable
        first_line = next(iter(str(failure).splitlines()), "no message")
        return f"mamba-ssm does not run here ({type(failure).__name__}: {first_line})"
    if not error < 1e-3:
        return f"mamba-ssm or causal-conv1d gives wrong values here (relative error {error:.1e})"
    return None
