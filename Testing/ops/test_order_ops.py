"""Gathering along an order, and the convolution."""

from __future__ import annotations

import torch

from DiffMaCore.ops.spiral.order import gather_conv_silu


def test_the_convolution_sees_only_earlier_tokens_of_the_scan() -> None:
    order = torch.tensor([[2, 0, 3, 1]])
    x = torch.zeros(2, 1, 4, 16)
    x[:, :, 3] = 1.0  # the third token of the scan
    weight, bias = torch.ones(2, 16, 4), torch.zeros(2, 16)
    out = gather_conv_silu(x, order, weight, bias, "torch")
    assert not out[0, 0, :2].any()
    assert out[0, 0, 2:].all()
