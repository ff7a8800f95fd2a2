"""The spiral scan of a Mamba on a CPU, fused: the same numbers as its steps one by one.

A sample's scanned sequences are three times as large as its tokens, twice as wide, and needed by three steps. Here
they exist for a tile of tokens at a time, which never leaves a core's caches: convolution, projections and scan are
one kernel, and what it leaves is summed over the orders and gated by another. For the backward pass the columns of the
scans and their states before every tile are kept; it computes the rest again.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from DiffMaCore.ops.scan.numba_forward import STATES
from DiffMaCore.ops.scan.numba_lanes import LOG2E
from DiffMaCore.ops.scan.threads import run_kernel
from DiffMaCore.ops.spiral import backward_kernels, fused_kernels
from DiffMaCore.ops.spiral.fused_kernels import LANES, PAIR, PART, TAPS, TOKENS

ENOUGH_TASKS = 16  # for the threads of most machines


_Parameters = namedtuple("_Parameters", "conv_weight conv_bias x_proj dt_weight dt_bias A_log D")
"""Of both branches' scans, as SpiralMamba keeps them."""


def supports(mamba: Any) -> bool:
    """Whether the kernels apply: float32 on a CPU, four taps, whole pairs of registers of channels, whole groups of
    states."""
    return (
        mamba.inner % PAIR == 0
        and mamba.state_size % STATES == 0
        and mamba.conv_weight.shape[2] == TAPS
        and all(each.dtype == torch.float32 and each.device.type == "cpu" for each in mamba.parameters())
    )


def spiral_scan(x: Tensor, z: Tensor, mamba: Any) -> Tensor:
    """As :func:`DiffMaCore.ops.spiral.order.spiral_scan`, x and z float32 or both bfloat16; differentiable (once)."""
    parameters = (getattr(mamba, name).contiguous() for name in _Parameters._fields)
    keep = torch.is_grad_enabled()
    return _SpiralScan.apply(x.contiguous(), z.contiguous(), mamba.order, keep, *parameters)


class _SpiralScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, order: Tensor, keep: bool, *parameters: Tensor) -> Tensor:
        scan = SpiralScan(_Parameters._make(parameters), order, x.shape[1], keep)
        y, *kept = scan.forward(x.unbind())
        out = torch.empty_like(z)
        for each in zip(y, z, out, strict=True):
            scan.gate(*each)
        if keep:
            ctx.save_for_backward(x, z, y, *kept, order, *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, z, y, columns, states, order, *parameters = ctx.saved_tensors
        scan = SpiralScan(_Parameters._make(parameters), order, x.shape[1], keep=True)
        dy = dout.clone(memory_format=torch.contiguous_format)
        dx, dz, out = torch.empty_like(x), torch.empty_like(z), torch.empty_like(z)
        for each in zip(y, z, dy, dz, out, strict=True):
            scan.gate_backward(*each)
        return dx, dz, None, None, *scan.backward(x.unbind(), columns, states, dy.unbind(), dx.unbind())


class SpiralScan:
    """Both branches' scans along the orders (K, L), for a number of samples: parameters as the kernels want them.

    Args:
        given: parameters by their names in SpiralMamba, contiguous.
        keep: whether what the backward pass needs is kept. Gradients are summed task by task, so that the tasks then
            follow from the shape alone, and not from the number of threads.
    """

    def __init__(self, given: Any, order: Tensor, samples: int, keep: bool) -> None:
        self._given, self._order, self._samples, self._keep = given, order, samples, keep
        self._inner, self._states = given.A_log.shape[1:]
        self._rank = given.dt_weight.shape[2]
        # orders that one task takes are summed in its core's caches
        enough = ENOUGH_TASKS if keep else torch.get_num_threads()
        self._together = len(order) if 2 * samples >= enough else 1
        columns = F.pad(given.x_proj, (0, 0, 0, -given.x_proj.shape[1] % PAIR))
        self._width = columns.shape[1]
        self._taps = given.conv_weight.transpose(1, 2).contiguous()
        self._columns = columns.unflatten(1, (-1, PAIR)).transpose(2, 3).contiguous()
        self._rise = given.dt_weight.unflatten(1, (-1, PAIR)).transpose(2, 3).contiguous()
        exponents = torch.exp(given.A_log) * -LOG2E
        self._A = exponents.unflatten(1, (-1, LANES)).transpose(2, 3).contiguous()

    @property
    def _parts(self) -> int:
        return len(self._order) // self._together

    def forward(self, x: Sequence[Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Both branches' x (S, L, E), raster order, to the scans, which are still to be summed where there are several:
        (2, S, 1 or K, L, E), raster order; and what is kept."""
        given, orders, length = self._given, len(self._order), x[0].shape[1]
        out = given.D.new_empty(2, self._samples, self._parts, length, self._inner)
        columns = states = None
        if self._keep:
            columns = out.new_empty(2, self._samples, orders, length, self._width)
            states = out.new_empty(2, self._samples, orders, -(-length // TOKENS), self._states * self._inner)
        scratch = fused_kernels.scratch_size(self._inner, self._states, self._width)
        parameters = (self._taps, given.conv_bias, self._columns, self._rise, given.dt_bias, self._A, given.D)
        self._run(fused_kernels.scan, (*x, *parameters, out, columns, states), scratch, length, self._inner)
        return out, columns, states

    def backward(
        self, x: Sequence[Tensor], columns: Tensor, states: Tensor, dy: Sequence[Tensor], dx: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Write x's gradients to ``dx`` (each (S, L, E), its rows anywhere); returns those of the parameters."""
        given, inner, rank, length = self._given, self._inner, self._rank, x[0].shape[1]
        falls = F.pad(given.dt_weight, (0, -rank % PAIR)).unflatten(2, (-1, PAIR)).transpose(1, 2).contiguous()
        whole = self._parts == 1
        parts = dx if whole else [given.D.new_empty(self._samples, self._parts, length, inner) for _ in dx]
        shapes: tuple[tuple[int, ...], ...] = (
            (rank + 2 * self._states, inner), (rank, inner), (inner,), (inner * self._states,), (inner,),
            (TAPS, inner), (inner,),
        )  # fmt: skip
        sums = [given.D.new_empty(2, self._samples * self._parts, *shape) for shape in shapes]
        parameters = (self._taps, given.conv_bias, self._rise, given.dt_bias, self._A, given.D, falls, given.x_proj)
        tensors = (*x, *parameters, columns, states, *dy, *parts, *sums)
        scratch = backward_kernels.scratch_size(length, inner, self._states, self._width)
        self._run(backward_kernels.scan_backward, tensors, scratch, length, inner, parts[0].stride(-2))
        if not whole:
            for target, part in zip(dx, parts, strict=True):
                target.copy_(part.sum(1))
        dx_proj, drise, dbias, dA, dD, dtaps, dtap_bias = (part.sum(1) for part in sums)
        dA = dA.view(2, -1, self._states, LANES).transpose(2, 3).reshape(2, inner, self._states)
        dA_log = dA * -torch.exp(given.A_log)
        return dtaps.transpose(1, 2), dtap_bias, dx_proj, drise.transpose(1, 2), dbias, dA_log, dD

    def _run(self, kernel: Any, tensors: tuple[Tensor | None, ...], scratch: int, *shape: int) -> None:
        sizes = (len(self._order), self._together, self._samples, *shape, self._rank, self._states, self._width)
        order = self._order.reshape(-1).numpy()
        run_kernel(kernel, 2 * self._samples * self._parts, tensors, order, sizes, scratch=scratch)

    def gate(self, y: Tensor, z: Tensor, out: Tensor) -> None:
        """out (S, L, E) = SiLU(z) times one branch's scans y (S, 1 or K, L, E), summed."""
        sizes = (self._parts, *z.shape[1:], len(z))
        run_kernel(fused_kernels.gate, -(-z.numel() // PART), (y, z, out), sizes, turns=1)

    def gate_backward(self, y: Tensor, z: Tensor, dout: Tensor, dz: Tensor, out: Tensor) -> None:
        """dout (S, L, E) becomes the gradient of each of y's scans; dz, its rows anywhere; out as of :meth:`gate`."""
        sizes = (self._parts, *z.shape[1:], dz.stride(-2), len(z))
        run_kernel(backward_kernels.gate_backward, -(-z.numel() // PART), (y, z, dout, dz, out), sizes, turns=1)
