"""Gather, convolve, merge and gate: Numba against plain torch in float64."""

from __future__ import annotations

import pytest
import torch

from DiffMaCore.models import orders
from DiffMaCore.ops.spiral.order import gather_conv_silu, merge_gate


@pytest.mark.parametrize(("batch", "side", "inner", "taps"), [(3, 5, 32, 4), (1, 2, 16, 4), (2, 4, 48, 2)])
def test_both_agree_in_values_and_gradients(batch: int, side: int, inner: int, taps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    length = side * side
    order = torch.from_numpy(orders.directions(side, 1))
    position = torch.from_numpy(orders.inverse(order.numpy()))
    shapes = [(2, batch, length, inner), (2, inner, taps), (2, inner), (2, batch, length, inner)]
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    pull = torch.randn(2, batch, length, inner, generator=generator)

    results = []
    for backend, dtype in (("torch", torch.float64), ("numba", torch.float32)):
        x, weight, bias, z = (tensor.to(dtype).requires_grad_() for tensor in given)
        scanned = gather_conv_silu(x, order, weight, bias, backend)
        merged = merge_gate(scanned.cos(), z, position, backend)
        results.append([scanned, merged, *torch.autograd.grad((merged * pull).sum(), (x, weight, bias, z))])
    for exact, fast in zip(*results, strict=True):
        error = (fast.double() - exact).abs().max() / exact.abs().max()
        assert error < 1e-5


def test_the_convolution_sees_only_earlier_tokens_of_the_scan() -> None:
    order = torch.tensor([[2, 0, 3, 1]])
    x = torch.zeros(2, 1, 4, 16)
    x[:, :, 3] = 1.0  # the third token of the scan
    weight, bias = torch.ones(2, 16, 4), torch.zeros(2, 16)
    for backend in ("torch", "numba"):
        out = gather_conv_silu(x, order, weight, bias, backend)
        assert not out[0, 0, :2].any()
        assert out[0, 0, 2:].all()
