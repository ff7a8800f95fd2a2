"""A DiffMa block without gradients on a CPU, fused: the same numbers as its layers one by one."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from DiffMaCore.ops.dense import dense
from DiffMaCore.ops.scan.threads import run_tasks
from DiffMaCore.ops.spiral import block_kernels as kernels
from DiffMaCore.ops.spiral.fused import addresses_of, fused_mamba
from DiffMaCore.ops.spiral.kernels import LANES


def supports(x: Tensor) -> bool:
    """Whether the kernels apply to these tokens (B, L, D): whole registers of channels."""
    return x.shape[2] % LANES == 0


def fused_block(block: Any, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
    """Tokens (B, L, D), condition (B, 2D) and soft mask (B, L, 1) to tokens (B, L, D)."""
    batch, length, _ = x.shape
    # one slice's conditions may stand for all, in another type: kernels read addresses and know neither
    x = x.contiguous()
    soft_mask = soft_mask.expand(batch, length, 1).to(x.dtype).contiguous()
    modulation = block.adaLN_modulation(condition.to(x.dtype)).expand(batch, -1).contiguous()
    norm: Any = block.norm
    join: Any = block.spatial_attention[0]
    into, out_of = (cast(nn.Linear, block.spatial_attention[i]) for i in (1, 3))
    branches = x.new_empty(2, *x.shape)
    _run(kernels.enter, (x, norm.weight, norm.bias, modulation, soft_mask, *branches), norm.eps, x)
    plain, masked = fused_mamba(branches, block.mamba, block.mamba.order)
    joined = x.new_empty(*x.shape[:2], 2 * x.shape[2])
    _run(kernels.join, (plain, masked, join.weight, join.bias, joined), join.eps, x)
    hidden = dense(joined, into.weight, into.bias)
    out = torch.empty_like(x)
    _run(kernels.leave, (x, plain, masked, hidden, out_of.weight, out_of.bias, modulation, out), 0.0, x)
    return out


def _run(kernel: Any, tensors: tuple[Tensor, ...], eps: float, x: Tensor) -> None:
    for tensor in tensors:
        if tensor.device != x.device or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(f"the fused block takes contiguous float32 on {x.device}, not {tensor.dtype} there")
    batch, length, width = x.shape
    given, sizes = addresses_of(*tensors), (batch * length, length, width)

    def work(first: int, last: int) -> None:
        scratch = x.new_empty(kernels.SCRATCH)
        kernel(first, last, np.float32(0), (*given, *addresses_of(scratch)), eps, sizes)

    run_tasks(-(-batch * length // kernels.ROWS), work, turns=1)
