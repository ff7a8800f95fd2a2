"""A DiffMa block with gradients on a CPU, fused: one step of autograd in place of some sixty.

The layers one by one hand every intermediate value on through memory, three times as often as there are tokens where
the scan orders lie in between. Here the forward pass is that of inference, and keeps what stands between the matrix
products, the columns of the scans and their states before every tile; the backward pass computes the rest again.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from DiffMaCore.ops.dense import product, weight_gradient
from DiffMaCore.ops.scan.threads import run_tasks
from DiffMaCore.ops.spiral import (
    backward_kernels as order_backward_kernels,
)
from DiffMaCore.ops.spiral import (
    block_backward_kernels,
    block_kernels,
)
from DiffMaCore.ops.spiral import (
    fused_kernels as order_fused_kernels,
)
from DiffMaCore.ops.spiral.fused import ScanWeights, addresses_of, kinds_of

ENOUGH_TASKS = 16  # for the threads of most machines


def training_block(block: Any, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
    """Tokens (B, L, D), condition (B, 2D) and soft mask (B, L, 1) to tokens (B, L, D), all differentiable (once)."""
    batch, length, _ = x.shape
    modulation = block.adaLN_modulation(condition).expand(batch, -1).to(x.dtype)
    mask = soft_mask.expand(batch, length, 1).to(x.dtype)
    half = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False):
        return _Block.apply(x, modulation, mask, *_Parameters.of(block), block.mamba.order, *_epsilons(block), half)


class _Parameters(NamedTuple):
    """A block's parameters in the order in which the function takes them."""

    norm_weight: Tensor
    norm_bias: Tensor
    in_proj: Tensor
    conv_weight: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A_log: Tensor
    D: Tensor
    out_proj: Tensor
    join_weight: Tensor
    join_bias: Tensor
    into_weight: Tensor
    into_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor

    @classmethod
    def of(cls, block: Any) -> _Parameters:
        join, into, _, out_of, _ = block.spatial_attention
        mamba = (getattr(block.mamba, name) for name in cls._fields[2:11])
        layers = (block.norm, join, into, out_of)
        norm, *ends = ((cast(Tensor, layer.weight), cast(Tensor, layer.bias)) for layer in layers)
        return cls._make([*norm, *mamba, *chain.from_iterable(ends)])

    def rounded(self) -> _Parameters:
        """With the weights of the large matrix products in bfloat16."""
        names = ("in_proj", "out_proj", "into_weight", "into_bias")
        return self._replace(**{name: getattr(self, name).to(torch.bfloat16) for name in names})


def _epsilons(block: Any) -> tuple[float, float]:
    norm: Any = block.norm
    join: Any = block.spatial_attention[0]
    return norm.eps, join.eps


class _Block(torch.autograd.Function):
    """The block in float32, or with its matrix products, and what they are given and give, in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, modulation: Tensor, mask: Tensor, *rest: Any) -> Tensor:
        *weights, order, enter_eps, join_eps, half = rest
        given = _Parameters._make(weight.contiguous() for weight in weights)
        x, modulation, mask = x.contiguous(), modulation.contiguous(), mask.contiguous()
        for tensor in (x, modulation, mask, *given):  # the kernels are given addresses, and trust that float32 is there
            if tensor.dtype != torch.float32 or tensor.device != x.device:
                raise ValueError(f"the fused block takes float32 on {x.device}, not {tensor.dtype} on {tensor.device}")
        products = given.rounded() if half else given
        batch, length, width = x.shape
        rows = (batch * length, length, width)
        hands_on = products.in_proj  # in whose type the matrix products hand on
        branches = hands_on.new_empty(2, batch, length, width)
        around = -(-batch * length // block_kernels.ROWS)
        tensors = (x, given.norm_weight, given.norm_bias, modulation, mask, *branches)
        _run(block_kernels.enter, around, tensors, block_kernels.SCRATCH, enter_eps, rows)
        xz = [product(branches[b], products.in_proj[b]) for b in range(2)]
        scan = _Scan.of(given, order, batch)
        kept, y = scan.forward(xz)
        inner = scan.inner
        outputs = []
        for b in range(2):
            gated = hands_on.new_empty(batch, length, inner)
            scan.gate(order_backward_kernels.gate_rows, (y[b], xz[b][..., inner:], gated))
            outputs.append(product(gated, products.out_proj[b]))
        joined = hands_on.new_empty(batch, length, 2 * width)
        tensors = (*outputs, given.join_weight, given.join_bias, joined)
        _run(block_kernels.join, around, tensors, block_kernels.SCRATCH, join_eps, rows)
        hidden = product(joined, products.into_weight, products.into_bias)
        out = torch.empty_like(x)
        tensors = (x, *outputs, hidden, given.out_weight, given.out_bias, modulation, out)
        _run(block_kernels.leave, around, tensors, block_kernels.SCRATCH, 0.0, rows)
        ctx.save_for_backward(x, modulation, mask, *given, branches, *xz, y, *kept, *outputs, joined, hidden, order)
        ctx.epsilons, ctx.half = (enter_eps, join_eps), half
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _backward(ctx.saved_tensors, dout.contiguous(), ctx.epsilons, ctx.half)


def _backward(
    saved: tuple[Tensor, ...], dout: Tensor, epsilons: tuple[float, float], half: bool
) -> tuple[Tensor | None, ...]:
    x, modulation, mask = saved[:3]
    given = _Parameters._make(saved[3:20])
    branches, x0, x1, y, rows, states, plain, masked, joined, hidden, order = saved[20:]
    products = given.rounded() if half else given
    batch, length, width = x.shape
    parts = -(-length // block_backward_kernels.ROWS)
    sizes = (length, width, parts)

    def around(kernel: Any, tensors: tuple[Tensor, ...], eps: float) -> Tensor:
        """What a kernel leaves as partial sums: (B, parts, 4, D)."""
        sums = x.new_empty(batch, parts, 4, width)
        _run(kernel, batch * parts, (*tensors, sums), block_backward_kernels.SCRATCH, eps, sizes)
        return sums

    doutputs, dhidden = branches.new_empty(2, batch, length, width), torch.empty_like(hidden)
    tensors = (plain, masked, hidden, given.out_weight, given.out_bias, modulation, dout, *doutputs, dhidden)
    leaving = around(block_backward_kernels.leave_backward, tensors, 0.0)
    dgate = leaving[:, :, 0].sum(1)
    dout_weight, dinto_bias, dout_bias = leaving[:, :, 1:].sum((0, 1))
    dinto_weight = weight_gradient(dhidden, joined)
    djoined = product(dhidden, products.into_weight.t())
    tensors = (plain, masked, given.join_weight, djoined, *doutputs)
    joining = around(block_backward_kernels.join_backward, tensors, epsilons[1]).sum((0, 1)).view(2, -1)

    scan = _Scan.of(given, order, batch)
    inner = scan.inner
    xz, dxz = (x0, x1), [torch.empty_like(part) for part in (x0, x1)]
    dy, dout_proj = [], []
    gated = branches.new_empty(batch, length, inner)
    for b in range(2):
        dgated = product(doutputs[b], products.out_proj[b].t())
        tensors = (y[b], xz[b][..., inner:], dgated, dxz[b][..., inner:], gated)
        scan.gate(order_backward_kernels.gate_rows_backward, tensors)
        dout_proj.append(weight_gradient(doutputs[b], gated))
        dy.append(dgated)
    of_scan = scan.backward(xz, dxz, dy, rows, states)
    dbranches = [product(dxz[b], products.in_proj[b].t()) for b in range(2)]
    din_proj = [weight_gradient(dxz[b], branches[b]) for b in range(2)]

    dx, dmask = torch.empty_like(x), torch.empty_like(mask)
    tensors = (x, given.norm_weight, given.norm_bias, modulation, mask, *dbranches, dout, dx, dmask)
    entering = around(block_backward_kernels.enter_backward, tensors, epsilons[0])
    dmodulation = torch.cat([entering[:, :, :2].sum(1), dgate[:, None]], 1).flatten(1)
    gradients = (
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
    return dx, dmodulation, dmask, *gradients, None, None, None, None


class _Scan(NamedTuple):
    """What lies between a block's matrix products: both branches' scans along all orders."""

    weights: ScanWeights
    given: _Parameters
    batch: int
    together: int

    @classmethod
    def of(cls, given: _Parameters, order: Tensor, batch: int) -> _Scan:
        # By the shape alone: gradients are summed task by task, and must not depend on the number of threads.
        together = len(order) if 2 * batch >= ENOUGH_TASKS else 1
        return cls(ScanWeights.of(given, order), given, batch, together)

    @property
    def inner(self) -> int:
        return self.given.D.shape[1]

    @property
    def parts(self) -> int:
        """Tasks of a sample's branch."""
        return len(self.weights.order) // self.together

    def forward(self, xz: list[Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Both branches' x and z side by side (B, L, 2E) to what is kept and the scans (2, B, parts, L, E)."""
        weights, orders, length, states = self.weights, len(self.weights.order), xz[0].shape[1], self.weights.states
        tiles = -(-length // order_fused_kernels.TOKENS)
        like = weights.D
        rows = like.new_empty(2, self.batch, orders, length, weights.width)
        kept = like.new_empty(2, self.batch, orders, tiles, states * self.inner)
        out = like.new_empty(2, self.batch, self.parts, length, self.inner)
        sizes = (orders, self.together, self.batch, length, self.inner, 2 * self.inner, *weights.sizes)
        scratch = order_fused_kernels.scratch_size(self.inner, states, weights.width)
        self._run(order_fused_kernels.scan, (*xz, *weights.tensors, out, rows, kept), scratch, sizes)
        return (rows, kept), out

    def backward(
        self, xz: tuple[Tensor, Tensor], dxz: list[Tensor], dy: list[Tensor], rows: Tensor, kept: Tensor
    ) -> tuple[Tensor, ...]:
        """Write x's gradients to ``dxz``; returns those of conv_weight to D, in the parameters' order."""
        weights, given, orders, length = self.weights, self.given, len(self.weights.order), xz[0].shape[1]
        inner, (taps, rank, states, columns) = self.inner, weights.sizes
        pair = order_fused_kernels.PAIR
        falls = F.pad(given.dt_weight, (0, -rank % pair)).unflatten(2, (-1, pair)).transpose(1, 2).contiguous()
        if self.parts == 1:
            dx, dstride = dxz, 2 * inner
        else:
            dx, dstride = [given.D.new_empty(self.batch, self.parts, length, inner) for _ in range(2)], inner
        shapes = (
            (rank + 2 * states, inner),
            (rank, inner),
            (inner,),
            (inner * states,),
            (inner,),
            (taps, inner),
            (inner,),
        )
        sums = [given.D.new_empty(2, self.batch * self.parts, *shape) for shape in shapes]
        through = (
            weights.taps,
            weights.tap_bias,
            weights.rise,
            weights.bias,
            weights.A,
            weights.D,
            falls,
            given.x_proj,
        )
        tensors = (*xz, *through, rows, kept, *dy, *dx, *sums)
        sizes = (orders, self.together, self.batch, length, inner, 2 * inner, dstride, taps, rank, states, columns)
        scratch = order_backward_kernels.scratch_size(length, inner, states, columns)
        self._run(order_backward_kernels.scan_backward, tensors, scratch, sizes)
        if self.parts > 1:
            for whole, part in zip(dxz, dx, strict=True):
                whole[..., :inner].copy_(part.sum(1))
        dx_proj, drise, dbias, dA, dD, dtaps, dtap_bias = (part.sum(1) for part in sums)
        lanes = order_fused_kernels.LANES
        dA_log = dA.view(2, -1, states, lanes).transpose(2, 3).reshape(2, inner, states) * -torch.exp(given.A_log)
        return dtaps.transpose(1, 2), dtap_bias, dx_proj, drise.transpose(1, 2), dbias, dA_log, dD

    def gate(self, kernel: Any, tensors: tuple[Tensor, ...]) -> None:
        """Run a kernel of the gate on one branch: y, and z in the second half of its rows."""
        length, rows = tensors[0].shape[2], tensors[0].shape[0] * tensors[0].shape[2]
        sizes = (self.parts, length, self.inner, 2 * self.inner, rows)
        kinds, addresses = kinds_of(*tensors), addresses_of(*tensors)
        tasks = -(-rows * self.inner // order_fused_kernels.PART)
        run_tasks(tasks, lambda first, last: kernel(first, last, kinds, addresses, sizes), turns=1)

    def _run(self, kernel: Any, tensors: tuple[Tensor, ...], scratch_size: int, sizes: tuple[int, ...]) -> None:
        order, nothing = self.weights.order.reshape(-1), self.given.D
        kinds = kinds_of(*tensors, nothing, nothing)
        given = (*addresses_of(*tensors), order_fused_kernels.NOTHING)

        def work(first: int, last: int) -> None:
            scratch = self.given.D.new_empty(scratch_size)
            kernel(first, last, kinds, (*given, *addresses_of(scratch)), order, sizes)

        run_tasks(2 * self.batch * self.parts, work)


def _run(
    kernel: Callable[..., Any],
    tasks: int,
    tensors: tuple[Tensor, ...],
    scratch_size: int,
    eps: float,
    sizes: tuple[int, ...],
) -> None:
    like = torch.empty(0)
    kinds, given = kinds_of(*tensors, like), addresses_of(*tensors)

    def work(first: int, last: int) -> None:
        scratch = like.new_empty(scratch_size)
        kernel(first, last, kinds, (*given, *addresses_of(scratch)), eps, sizes)

    run_tasks(tasks, work, turns=1)
