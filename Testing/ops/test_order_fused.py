"""The fused scan of a Mamba, its block in inference, and their matrix products, against plain torch in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from DiffMaCore.models.diffma import DiffMaBlock, SpiralMamba
from DiffMaCore.ops.dense import Dense, dense_each
from DiffMaCore.ops.spiral.block_fused import fused_block
from DiffMaCore.ops.spiral.numba_mamba import supports
from DiffMaCore.ops.spiral.order import fused_for, spiral_scan


@pytest.mark.parametrize(
    ("width", "grid", "batch", "taps"),
    [
        (32, 7, 5, 4),  # two tiles
        (48, 4, 2, 4),
        (16, 2, 1, 4),  # fewer tokens than are projected at once, one rank
        (32, 6, 2, 3),  # other taps go through the steps one by one
        (32, 2, 1, 5),  # more taps than tokens
    ],
)
def test_the_fused_mamba_gives_the_steps_numbers(width: int, grid: int, batch: int, taps: int) -> None:
    torch.manual_seed(0)
    mamba = SpiralMamba(width, grid, block=1, conv_size=taps)
    tokens = torch.randn(2, batch, grid * grid, width)
    exact = copy.deepcopy(mamba).double()
    exact.backend = "torch"
    assert supports(mamba) == (taps == 4)
    with torch.no_grad():
        fused = mamba(tokens)
        expected = exact(tokens.double())
    assert (fused - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("threads", [1, 7])
def test_orders_are_summed_by_one_task_or_shared_among_threads(threads: int) -> None:
    torch.manual_seed(0)
    mamba = SpiralMamba(32, 7, block=1)
    tokens = torch.randn(2, 2, 49, 32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.no_grad():
            fused = mamba(tokens)
            expected = copy.deepcopy(mamba).double()(tokens.double())
    finally:
        torch.set_num_threads(before)
    assert (fused - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("batch", [3, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_scans_own_gradients_agree_with_float64(batch: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    mamba = SpiralMamba(32, 6, block=1, state_size=4)
    exact = copy.deepcopy(mamba).double()
    exact.backend = "torch"
    x, z, pull = torch.randn(3, 2, batch, 36, 64).to(dtype).unbind()
    results = []
    for each in (mamba, exact):
        given = [tensor.to(dtype if each is mamba else torch.double).requires_grad_() for tensor in (x, z)]
        parameters = [p for name, p in each.named_parameters() if name not in ("in_proj", "out_proj")]
        out = spiral_scan(*given, each)
        results.append([out, *torch.autograd.grad(out, [*given, *parameters], pull.to(out.dtype))])
    assert results[0][0].dtype == dtype
    for fused, expected in zip(*results, strict=True):
        assert (fused - expected).abs().max() < tolerance * expected.abs().max()


def test_other_types_and_odd_widths_are_left_to_the_steps() -> None:
    block, tokens = DiffMaBlock(32, 2, block=0), torch.zeros(1, 4, 32)
    with torch.no_grad():
        assert fused_for(block, tokens) is fused_block
        assert fused_for(block, tokens.double()) is None
        with torch.autocast("cpu", torch.bfloat16):
            assert fused_for(block, tokens) is None
    assert not supports(SpiralMamba(30, 2, block=0))
    assert not supports(SpiralMamba(32, 2, block=0, state_size=6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dense_layer_is_a_linear_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = Dense(24, 40).to(dtype)
    exact = nn.Linear(24, 40).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(3, 5, 24, dtype=dtype, requires_grad=True)
    exact_x = x.detach().double().requires_grad_()
    results = []
    for module, given in ((layer, x), (exact, exact_x)):
        out = module(given)
        results.append([out, *torch.autograd.grad(out.cos().sum(), [given, *module.parameters()])])
    with torch.no_grad():
        assert torch.allclose(layer(x), results[0][0])
    for fast, expected in zip(*results, strict=True):
        assert (fast - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_stack_of_products_is_theirs_side_by_side() -> None:
    x, weight = torch.randn(2, 6, 8), torch.randn(2, 4, 8)
    out = dense_each(x.requires_grad_(), weight)
    expected = torch.bmm(x, weight.transpose(1, 2))
    assert torch.allclose(out, expected, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (out, expected)]
    assert torch.allclose(*gradients, atol=1e-4)


@pytest.mark.parametrize(("width", "grid", "batch"), [(32, 7, 3), (48, 4, 2), (16, 1, 1)])
def test_the_fused_block_gives_the_layers_numbers(width: int, grid: int, batch: int) -> None:
    torch.manual_seed(0)
    block = DiffMaBlock(width, grid, block=1)
    for parameter in (*block.adaLN_modulation.parameters(), *block.norm.parameters()):
        nn.init.normal_(parameter)
    x, condition = 3 * torch.randn(batch, grid * grid, width) + 1, torch.randn(batch, 2 * width)
    soft_mask = torch.rand(batch, grid * grid, 1)
    exact = copy.deepcopy(block).double()
    exact.mamba.backend = "torch"
    with torch.no_grad():
        fused = block(x, condition, soft_mask)
        expected = exact(x.double(), condition.double(), soft_mask.double())
    assert (fused - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("what", ["one condition", "one mask", "half mask", "half condition"])
def test_one_slices_conditions_stand_for_all_and_other_types_are_converted(what: str) -> None:
    torch.manual_seed(0)
    block = DiffMaBlock(32, 4, block=1).eval()
    torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.2)
    block.mamba.backend = "numba"
    x, condition, mask = torch.randn(4, 16, 32), torch.randn(4, 64), torch.rand(4, 16, 1)
    given = {
        "one condition": (condition[:1], mask),
        "one mask": (condition, mask[:1]),
        "half mask": (condition, mask.half()),
        "half condition": (condition.half(), mask),
    }[what]
    with torch.no_grad():
        got = block(x, *given)
        expected = block(
            x, given[0].float().expand(4, -1).contiguous(), given[1].float().expand(4, -1, -1).contiguous()
        )
    assert torch.allclose(got, expected, atol=1e-6)
