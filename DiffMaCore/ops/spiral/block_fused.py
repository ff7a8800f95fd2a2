"""A DiffMa block on a CPU, fused: one step of autograd in place of some sixty, the same numbers as its layers.

The layers one by one hand every intermediate value on through memory. Here what stands between the matrix products is
kept for the backward pass, where there is one, which computes the rest again.
"""

from __future__ import annotations

from collections import namedtuple
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from DiffMaCore.ops.dense import product, weight_gradient
from DiffMaCore.ops.scan.threads import run_kernel
from DiffMaCore.ops.spiral import block_kernels
from DiffMaCore.ops.spiral.numba_mamba import SpiralScan


def fused_block(block: Any, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
    """Tokens (B, L, D), condition (B, 2D) and soft mask (B, L, 1) to tokens (B, L, D), all differentiable (once)."""
    batch, length, _ = x.shape
    # one slice's conditions may stand for all, in another type: kernels read addresses and know neither
    modulation = block.adaLN_modulation(condition.to(x.dtype)).expand(batch, -1).to(x.dtype)
    mask = soft_mask.expand(batch, length, 1).to(x.dtype)
    half, keep = torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
    order, epsilons = block.mamba.order, (block.norm.eps, block.spatial_attention[0].eps)
    with torch.autocast("cpu", enabled=False):
        return _Block.apply(x, modulation, mask, order, epsilons, half, keep, *_parameters(block))


_Parameters = namedtuple(
    "_Parameters",
    "norm_weight norm_bias in_proj conv_weight conv_bias x_proj dt_weight dt_bias A_log D out_proj"
    " join_weight join_bias into_weight into_bias out_weight out_bias",
)
"""A block's, in the order in which the function takes them; :class:`SpiralScan` looks at its own by these names."""


def _parameters(block: Any) -> _Parameters:
    join, into, _, out_of, _ = block.spatial_attention
    mamba = (getattr(block.mamba, name) for name in _Parameters._fields[2:11])
    norm, *ends = ((layer.weight, layer.bias) for layer in (block.norm, join, into, out_of))
    return _Parameters._make([*norm, *mamba, *chain.from_iterable(ends)])


def _rounded(given: _Parameters) -> _Parameters:
    """With the weights of the large matrix products in bfloat16."""
    names = ("in_proj", "out_proj", "into_weight", "into_bias")
    return given._replace(**{name: getattr(given, name).to(torch.bfloat16) for name in names})


class _Block(torch.autograd.Function):
    """The block in float32, or with its matrix products, and what they are given and give, in bfloat16."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        modulation: Tensor,
        mask: Tensor,
        order: Tensor,
        epsilons: tuple[float, float],
        half: bool,
        keep: bool,
        *weights: Tensor,
    ) -> Tensor:
        given = _Parameters._make(weight.contiguous() for weight in weights)
        x, modulation, mask = x.contiguous(), modulation.contiguous(), mask.contiguous()
        for tensor in (x, modulation, mask, *given):  # the kernels are given addresses, and trust that float32 is there
            if tensor.dtype != torch.float32 or tensor.device != x.device:
                raise ValueError(f"the fused block takes float32 on {x.device}, not {tensor.dtype} on {tensor.device}")
        products = _rounded(given) if half else given
        batch, length, width = x.shape
        inner = given.D.shape[1]
        hands_on = products.in_proj  # in whose type the matrix products hand on

        def around(kernel: Any, tensors: tuple[Tensor, ...], eps: float) -> None:
            tasks, sizes = -(-batch * length // block_kernels.ROWS), (batch * length, length, width)
            run_kernel(kernel, tasks, tensors, eps, sizes, scratch=block_kernels.SCRATCH, turns=1)

        branches = hands_on.new_empty(2, batch, length, width)
        around(block_kernels.enter, (x, given.norm_weight, given.norm_bias, modulation, mask, *branches), epsilons[0])
        scan = SpiralScan(given, order, batch, keep)
        xs = [product(branches[b], products.in_proj[b, :inner]) for b in range(2)]
        y, columns, states = scan.forward(xs)
        zs, outputs = [], []
        for b in range(2):
            zs.append(product(branches[b], products.in_proj[b, inner:]))
            gated = zs[b] if not keep else torch.empty_like(zs[b])
            scan.gate(y[b], zs[b], gated)
            outputs.append(product(gated, products.out_proj[b]))
        joined = hands_on.new_empty(batch, length, 2 * width)
        around(block_kernels.join, (*outputs, given.join_weight, given.join_bias, joined), epsilons[1])
        hidden = product(joined, products.into_weight, products.into_bias)
        out = torch.empty_like(x)
        around(block_kernels.leave, (x, *outputs, hidden, given.out_weight, given.out_bias, modulation, out), 0.0)
        if keep:
            kept = (branches, *xs, *zs, y, columns, states, *outputs, joined, hidden, order)
            ctx.save_for_backward(x, modulation, mask, *given, *kept)
            ctx.epsilons, ctx.half = epsilons, half
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            gradients = _backward(ctx.saved_tensors, dout.contiguous(), ctx.epsilons, ctx.half)
        return *gradients[:3], None, None, None, None, *gradients[3:]


def _backward(saved: tuple[Tensor, ...], dout: Tensor, epsilons: tuple[float, float], half: bool) -> tuple[Tensor, ...]:
    """Gradients of tokens, modulation, mask and the parameters."""
    x, modulation, mask = saved[:3]
    given = _Parameters._make(saved[3:20])
    branches, x0, x1, z0, z1, y, columns, states, plain, masked, joined, hidden, order = saved[20:]
    products = _rounded(given) if half else given
    batch, length, width = x.shape
    inner = given.D.shape[1]
    parts = -(-length // block_kernels.BACKWARD_ROWS)

    def around(kernel: Any, tensors: tuple[Tensor, ...], eps: float) -> Tensor:
        """What a kernel leaves as partial sums: (B, parts, 4, D)."""
        sums, sizes = x.new_empty(batch, parts, 4, width), (length, width, parts)
        scratch = block_kernels.SCRATCH
        run_kernel(kernel, batch * parts, (*tensors, sums), eps, sizes, scratch=scratch, turns=1)
        return sums

    doutputs, dhidden = branches.new_empty(2, batch, length, width), torch.empty_like(hidden)
    tensors = (plain, masked, hidden, given.out_weight, given.out_bias, modulation, dout, *doutputs, dhidden)
    leaving = around(block_kernels.leave_backward, tensors, 0.0)
    dgate = leaving[:, :, 0].sum(1)
    dout_weight, dinto_bias, dout_bias = leaving[:, :, 1:].sum((0, 1))
    dinto_weight = weight_gradient(dhidden, joined)
    djoined = product(dhidden, products.into_weight.t())
    tensors = (plain, masked, given.join_weight, djoined, *doutputs)
    joining = around(block_kernels.join_backward, tensors, epsilons[1]).sum((0, 1)).view(2, -1)

    scan = SpiralScan(given, order, batch, keep=True)
    dxz = branches.new_empty(2, batch, length, 2 * inner)
    dx, dz = dxz.split(inner, dim=3)
    dy, dout_proj = [], []
    gated = torch.empty_like(z0)
    for b, z in enumerate((z0, z1)):
        dy.append(product(doutputs[b], products.out_proj[b].t()))
        scan.gate_backward(y[b], z, dy[b], dz[b], gated)
        dout_proj.append(weight_gradient(doutputs[b], gated))
    of_scan = scan.backward((x0, x1), columns, states, dy, list(dx))
    dbranches = [product(dxz[b], products.in_proj[b].t()) for b in range(2)]
    din_proj = [weight_gradient(dxz[b], branches[b]) for b in range(2)]

    dtokens, dmask = torch.empty_like(x), torch.empty_like(mask)
    tensors = (x, given.norm_weight, given.norm_bias, modulation, mask, *dbranches, dout, dtokens, dmask)
    entering = around(block_kernels.enter_backward, tensors, epsilons[0])
    dmodulation = torch.cat([entering[:, :, :2].sum(1), dgate[:, None]], 1).flatten(1)
    return (
        dtokens,
        dmodulation,
        dmask,
        *entering[:, :, 2:].sum((0, 1)),
        torch.stack(din_proj).to(x.dtype),
        *of_scan,
        torch.stack(dout_proj).to(x.dtype),
        *joining,
        dinto_weight.to(x.dtype),
        dinto_bias,
        dout_weight[None],
        dout_bias[:1],
    )
