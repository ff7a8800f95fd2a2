"""The spiral scan on any back end: tokens into scan orders through the causal convolution, the scan, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore.ops.scan import choose_backend


def backend_of(mamba: Any, tokens: Tensor) -> str:
    """Name of the selective-scan back end that these tokens get."""
    return choose_backend(mamba.backend, tokens.device, torch.promote_types(tokens.dtype, torch.float32))


def check_length(mamba: Any, length: int) -> None:
    """Raise ValueError where a Mamba's orders would lead beyond the tokens."""
    if length != mamba.order.shape[1]:
        raise ValueError(f"this block's orders visit {mamba.order.shape[1]} tokens, not {length}")


def spiral_scan(x: Tensor, z: Tensor, mamba: Any) -> Tensor:
    """What stands between a Mamba's two projections, along all its orders.

    Args:
        x, z: (2, B, L, E), raster order: what is scanned, and what gates it.
        mamba: a ``SpiralMamba``: parameters, orders, and the name of the back end.

    Returns:
        (2, B, L, E), raster order, the orders summed; differentiable.

    Raises:
        ValueError: another number of tokens than the orders visit.
    """
    branches, batch, length, inner = x.shape
    check_length(mamba, length)
    backend = backend_of(mamba, x)
    if backend == "triton":
        from DiffMaCore.ops.spiral.triton_mamba import spiral_scan as by_triton

        return by_triton(x, z, mamba, mamba.conv_weight, mamba.conv_bias, mamba.order, mamba.position)
    # (B, 3, L, branch * inner): every order its own sequence, the branches side by side as channels
    x = gather_conv_silu(x, mamba.order, mamba.conv_weight, mamba.conv_bias, backend)
    y = mamba.scan(x.view(-1, length, branches, inner)).reshape(batch, len(mamba.order), length, -1)
    return merge_gate(y, z, mamba.position, backend)


def gather_conv_silu(x: Tensor, order: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
    """SiLU of the depthwise causal convolution of every branch along every order.

    Args:
        x: (2, B, L, inner), raster order.
        order: (K, L) raster indices in scan order.
        weight, bias: (2, inner, width of the kernel) and (2, inner).
        backend: of the scan; "numba" runs these steps in Numba too, "mamba-ssm" the convolution in causal-conv1d.

    Returns:
        (B, K, L, 2*inner): sequences in scan order, the two branches side by side as channels.
    """
    branches, batch, length, inner = x.shape
    if _by_numba(backend, inner, x):
        from DiffMaCore.ops.spiral.numba_order import GatherConvSilu

        out = GatherConvSilu.apply(x.float(), order, weight.float(), bias.float())
        return out.to(torch.promote_types(x.dtype, weight.dtype))  # the kernels know float32 only
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


def merge_gate(y: Tensor, z: Tensor, position: Tensor, backend: str) -> Tensor:
    """Scanned sequences put back in raster order, summed over the orders and gated by SiLU(z).

    Args:
        y: (B, K, L, 2*inner), scan order.
        z: (2, B, L, inner), raster order.
        position: (K, L), where raster token l stands in order k.
        backend: of the scan; "numba" runs these steps in Numba too.

    Returns:
        (2, B, L, inner), raster order.
    """
    branches, _, _, inner = z.shape
    if _by_numba(backend, inner, y):
        from DiffMaCore.ops.spiral.numba_order import MergeGate

        return MergeGate.apply(y.float(), z.float(), position).to(torch.promote_types(y.dtype, z.dtype))
    total = torch.stack([y[:, k, position[k]] for k in range(len(position))]).sum(0)
    return total.unflatten(2, (branches, inner)).permute(2, 0, 1, 3) * F.silu(z)


def _by_numba(backend: str, inner: int, like: Tensor) -> bool:
    """Whether the kernels apply: whole registers of channels, and not float64 (they compute in float32)."""
    if backend != "numba" or like.dtype == torch.float64:
        return False
    from DiffMaCore.ops.spiral.numba_order import LANES

    return inner % LANES == 0
