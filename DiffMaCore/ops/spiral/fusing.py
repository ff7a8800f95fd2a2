"""Where a DiffMa block goes through fused CPU kernels, and where it does not: the one place that decides."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from DiffMaCore.ops.spiral.order import backend_of, check_length

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
    check_length(mamba, x.shape[-2])
    trained = torch.is_grad_enabled()
    half = torch.is_autocast_enabled(kind)
    if half and not (trained and torch.get_autocast_dtype(kind) == torch.bfloat16):
        return None
    if x.dtype != torch.float32 or backend_of(mamba, x) != "numba":
        return None
    if any(each.dtype != torch.float32 or each.device != x.device for each in mamba.parameters()):
        return None
    from DiffMaCore.ops.spiral import block_fused, block_training, fused

    if not (fused.supports(mamba.inner, mamba.state_size) and block_fused.supports(x)):
        return None
    return block_training.training_block if trained else block_fused.fused_block
