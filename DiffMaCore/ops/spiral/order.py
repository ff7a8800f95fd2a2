"""What surrounds the scan: tokens into scan orders through the causal convolution, and back through the gate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
