"""What surrounds the scan: tokens into scan orders through the causal convolution, and back through the gate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def gather_conv_silu(xz: Tensor, order: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the depthwise causal convolution of every branch along every order.

    Args:
        xz: (2, B, L, 2*inner), raster order; the first half of the channels is convolved.
        order: (K, L) raster indices in scan order.
        weight, bias: (2, inner, width of the kernel) and (2, inner).

    Returns:
        (B, K, L, 2*inner): sequences in scan order, the two branches side by side as channels.
    """
    branches, batch, length, _ = xz.shape
    inner, taps = weight.shape[1:]
    x = xz[..., :inner].permute(1, 2, 0, 3)[:, order.reshape(-1)].reshape(-1, length, branches * inner)
    kernel = weight.reshape(branches * inner, 1, taps)
    convolved = F.conv1d(
        F.pad(x.transpose(1, 2), (taps - 1, 0)), kernel, bias.reshape(-1), groups=branches * inner
    )
    return F.silu(convolved.transpose(1, 2).contiguous()).view(batch, len(order), length, branches * inner)


def merge_gate(y: Tensor, xz: Tensor, position: Tensor) -> Tensor:
    """Scanned sequences put back in raster order, summed over the orders and gated by SiLU(z).

    Args:
        y: (B, K, L, 2*inner), scan order.
        xz: (2, B, L, 2*inner), raster order; the second half of the channels is the gate.
        position: (K, L), where raster token l stands in order k.

    Returns:
        (2, B, L, inner), raster order.
    """
    branches = xz.shape[0]
    inner = xz.shape[3] // 2
    total = sum(y[:, k, position[k]] for k in range(len(position)))
    assert isinstance(total, Tensor)
    return total.unflatten(2, (branches, inner)).permute(2, 0, 1, 3) * F.silu(xz[..., inner:])
