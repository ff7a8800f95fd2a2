"""The spiral scan on any back end: tokens into scan orders through the causal convolution, the scan, and back.

Here it is decided what goes through fused kernels, and what does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore.ops.scan import choose_backend

BlockForward = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


def by_fused_kernels(plain: BlockForward) -> BlockForward:
    """Let a block's forward pass run by fused kernels where they apply; elsewhere it is ``plain``, as it is written."""

    @functools.wraps(plain)
    def forward(block: Any, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
        return (fused_for(block, x) or plain)(block, x, condition, soft_mask)

    return forward


def fused_for(block: Any, x: Tensor) -> BlockForward | None:
    """What computes a block of these tokens (B, L, D) fused: inference, or training in float32 or bfloat16; or None.

    The kernels are given addresses: every type, device and size that they trust is checked here and where they take
    their tensors. Raises ValueError for another number of tokens than the block's orders visit.
    """
    mamba, kind = block.mamba, x.device.type
    _check_length(mamba, x.shape[-2])
    half = torch.is_autocast_enabled(kind)
    if half and not (torch.is_grad_enabled() and torch.get_autocast_dtype(kind) == torch.bfloat16):
        return None
    if x.dtype != torch.float32 or _backend_of(mamba, x) != "numba":
        return None
    from DiffMaCore.ops.spiral import block_fused, numba_mamba

    return block_fused.fused_block if numba_mamba.supports(mamba) and x.shape[2] % numba_mamba.LANES == 0 else None


def _backend_of(mamba: Any, tokens: Tensor) -> str:
    return choose_backend(mamba.backend, tokens.device, torch.promote_types(tokens.dtype, torch.float32))


def _check_length(mamba: Any, length: int) -> None:
    if length != mamba.order.shape[1]:
        raise ValueError(f"this block's orders visit {mamba.order.shape[1]} tokens, not {length}")


def spiral_scan(x: Tensor, z: Tensor, mamba: Any) -> Tensor:
    """What stands between a ``SpiralMamba``'s two projections, along all its orders: x, which is scanned, and z, which
    gates it (2, B, L, E, raster order), to the sum over the orders, as they are; differentiable.

    Raises ValueError for another number of tokens than the orders visit.
    """
    branches, batch, length, inner = x.shape
    _check_length(mamba, length)
    backend = _backend_of(mamba, x)
    if backend == "triton":
        from DiffMaCore.ops.triton.spiral import spiral_scan as by_triton

        return by_triton(x, z, mamba)
    if backend == "numba" and x.dtype == z.dtype and x.dtype in (torch.float32, torch.bfloat16):
        from DiffMaCore.ops.spiral import numba_mamba

        if numba_mamba.supports(mamba):
            return numba_mamba.spiral_scan(x, z, mamba)
    # (B, 3, L, branch * inner): every order its own sequence, the branches side by side as channels
    x = gather_conv_silu(x, mamba.order, mamba.conv_weight, mamba.conv_bias, backend)
    y = mamba.scan(x.view(-1, length, branches, inner)).reshape(batch, len(mamba.order), length, -1)
    total = torch.stack([y[:, k, position] for k, position in enumerate(mamba.position)]).sum(0)
    return total.unflatten(2, (branches, inner)).permute(2, 0, 1, 3) * F.silu(z)


def gather_conv_silu(x: Tensor, order: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
    """SiLU of the depthwise causal convolution of both branches of x (2, B, L, E), raster order, along every order
    (K, L): (B, K, L, 2E), the branches side by side as channels.

    ``weight`` (2, E, taps), ``bias`` (2, E); the back end "mamba-ssm" runs the convolution in causal-conv1d.
    """
    branches, batch, length, inner = x.shape
    taps = weight.shape[2]
    gathered = x.permute(1, 2, 0, 3)[:, order.reshape(-1)].reshape(-1, length, branches * inner)
    if backend == "mamba-ssm":
        from DiffMaCore.ops.scan.mamba_ssm_scan import conv_silu

        out = conv_silu(gathered, weight.reshape(-1, taps), bias.reshape(-1))
        return out.view(batch, len(order), length, branches * inner)
    kernel = weight.reshape(branches * inner, 1, taps)
    padded = F.pad(gathered.transpose(1, 2), (taps - 1, 0))
    convolved = F.conv1d(padded, kernel, bias.reshape(-1), groups=branches * inner)
    return F.silu(convolved.transpose(1, 2).contiguous()).view(batch, len(order), length, branches * inner)
