"""Selective scan by mamba-ssm's CUDA kernel, and the convolution before it by causal-conv1d's.

The packages are imported only when they are asked for: some of their releases fail at import, others at
the first call, so that only a call tells.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import ScanArguments, check_arguments
from .reference import reference_scan

# Both packages compute in float32 with fast exponentials and with sums in another order.
TOLERANCE = 1e-3


def mamba_ssm_scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Return (out (B, D, L) in u's dtype, last state (B, D, N)); the last state has no gradient."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    dtype = arguments.u.dtype

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
    """None if mamba-ssm and causal-conv1d really give right values and gradients on the GPU, else the reason.

    Tiny problems are solved by calling both packages, once a process.
    """
    if not torch.cuda.is_available():
        return "no CUDA device is available"
    for name, error in (("causal-conv1d", _convolution_error), ("mamba-ssm", _scan_error)):
        try:
            worst = error()
        except Exception as failure:  # whatever goes wrong in a foreign binary makes it unavailable
            first_line = next(iter(str(failure).splitlines()), "no message")
            return f"{name} does not run here ({type(failure).__name__}: {first_line})"
        if not worst < TOLERANCE:
            return f"{name} gives wrong values here (relative error {worst:.1e})"
    return None


def _scan_error() -> float:
    u, delta, z, B, C = _draw((1, 16, 8), (1, 16, 8), (1, 16, 8), (1, 1, 4, 8), (1, 1, 4, 8))
    A, D, bias = _draw((16, 4), (16,), (16,))
    arguments = check_arguments(u, delta, -A.exp(), B, C, D, z, bias, True)
    return _difference(mamba_ssm_scan(arguments)[0], reference_scan(arguments)[0], u)


def _convolution_error() -> float:
    x, weight, bias = _draw((1, 8, 16), (16, 4), (16,))
    convolved = F.conv1d(F.pad(x.mT, (3, 0)), weight[:, None], bias, groups=16)
    return _difference(conv_silu(x, weight, bias), F.silu(convolved.mT), x)


def _draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator).cuda().requires_grad_() for shape in shapes]


def _difference(found: Tensor, expected: Tensor, given: Tensor) -> float:
    """Relative error of the values or of the gradient, whichever is larger."""
    found_gradient, expected_gradient = (
        torch.autograd.grad(value.square().sum(), given)[0] for value in (found, expected)
    )
    pairs = ((found, expected), (found_gradient, expected_gradient))
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)
