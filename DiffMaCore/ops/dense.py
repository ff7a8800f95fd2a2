"""Matrix products with weights, in float32 on a CPU by oneDNN.

torch takes MKL for them, which uses half the width of the registers of processors that are not Intel's: on an
AMD EPYC with AVX-512 oneDNN is 2.2 times as fast. Its operator is the one that torch.compile puts in.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Dense(nn.Linear):
    """nn.Linear by :func:`dense`."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 2 and not torch.is_grad_enabled() and _by_onednn(input, self.weight):
            # vectors one by one: the order of a small product's sums depends on how many rows it has
            return torch.cat([product(row, self.weight, self.bias) for row in input.split(1)])
        return dense(input, self.weight, self.bias)


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., K) times the transposed weight (N, K), plus the bias (N,): (..., N); differentiable (once)."""
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Dense.apply(x, weight, bias)
    return product(x, weight, bias)


def dense_each(x: Tensor, weight: Tensor) -> Tensor:
    """The same for a stack: x (G, T, K) and weight (G, N, K) to (G, T, N)."""
    if not _by_onednn(x, weight):
        return torch.bmm(x, weight.transpose(1, 2))
    return torch.stack([dense(*pair) for pair in zip(x, weight, strict=True)])


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and _has_onednn()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As :func:`dense`, by oneDNN and without gradients; the weight may be a transposed view, both may be bfloat16."""
    if x.dtype == torch.bfloat16 or not _has_onednn():
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")


def weight_gradient(dout: Tensor, x: Tensor) -> Tensor:
    """The gradient (N, K) of a weight: dout (..., N), transposed, times x (..., K), without gradients.

    As that of a convolution by 1 x 1 pixels, for which oneDNN need not turn the tensors around in memory.
    """
    if x.dtype == torch.bfloat16:
        return torch.mm(dout.flatten(0, -2).t(), x.flatten(0, -2))
    width, depth, pixels = dout.shape[-1], x.shape[-1], _pixels(x.shape[:-1].numel())
    images = [tensor.contiguous().view(-1, pixels, 1, tensor.shape[-1]).permute(0, 3, 1, 2) for tensor in (dout, x)]
    like = x.new_empty(width, depth, 1, 1)
    sizes = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    of_weight = torch.ops.aten.convolution_backward(*images, like, None, *sizes, [False, True, False])[1]
    return of_weight.view(width, depth)


@functools.cache
def _pixels(rows: int) -> int:
    """Pixels of an image: with 100 to 200 oneDNN's product takes two thirds of the time that it takes with 400."""
    best = max(size for size in range(1, min(rows, 200) + 1) if rows % size == 0)
    return best if best >= 32 else rows


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        dx = product(dout, weight.t()) if need_x else None
        dweight = weight_gradient(dout, x) if need_weight else None
        return dx, dweight, dout.flatten(0, -2).sum(0) if need_bias else None
