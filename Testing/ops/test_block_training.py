"""The fused block of training against its layers one by one in float64, in values and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from DiffMaCore.models.diffma import DiffMaBlock
from DiffMaCore.ops.spiral.block_fused import fused_block
from DiffMaCore.ops.spiral.numba_mamba import ENOUGH_TASKS
from DiffMaCore.ops.spiral.order import fused_for


def _block(width: int, grid: int, taps: int = 4, states: int = 8, expand: int = 1) -> DiffMaBlock:
    torch.manual_seed(0)
    block = DiffMaBlock(width, grid, block=1, state_size=states, conv_size=taps, expand=expand)
    for parameter in (*block.adaLN_modulation.parameters(), *block.norm.parameters()):
        nn.init.normal_(parameter)
    for parameter in block.spatial_attention[0].parameters():
        nn.init.normal_(parameter)
    return block


def _inputs(batch: int, length: int, width: int) -> list[Tensor]:
    return [2 * torch.randn(batch, length, width) + 1, torch.randn(batch, 2 * width), torch.rand(batch, length, 1)]


def _solve(block: DiffMaBlock, inputs: list[Tensor], pull: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    given = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
    out = block(*given)
    asked = dict(zip(("tokens", "condition", "soft mask"), given, strict=True)) | dict(block.named_parameters())
    gradients = torch.autograd.grad((out * pull.to(dtype)).sum(), list(asked.values()))
    return {"output": out.detach(), **dict(zip(asked, gradients, strict=True))}


@pytest.mark.parametrize(
    ("width", "grid", "batch", "taps", "states", "expand"),
    [
        (32, 7, 3, 4, 8, 1),  # two tiles; every order a task of its own
        (48, 4, 9, 4, 16, 2),  # one tile; the orders of a sample together, rows of the weights that fill no register
        (16, 2, 1, 4, 4, 2),  # fewer tokens than are multiplied at once, one rank
        (32, 6, 8, 3, 4, 1),
        (32, 2, 1, 5, 4, 1),  # more taps than tokens
        (544, 2, 1, 4, 4, 1),  # more ranks than a pair of registers holds
    ],
)
def test_values_and_gradients_agree_with_float64(
    width: int, grid: int, batch: int, taps: int, states: int, expand: int
) -> None:
    block = _block(width, grid, taps, states, expand)
    exact = copy.deepcopy(block).double()
    exact.mamba.backend = "torch"
    inputs = _inputs(batch, grid * grid, width)
    assert fused_for(block, inputs[0]) is (fused_block if taps == 4 else None)
    assert fused_for(exact, inputs[0].double()) is None
    pull = torch.randn_like(inputs[0])
    ours, expected = (
        _solve(each, inputs, pull, dtype) for each, dtype in ((block, torch.float32), (exact, torch.double))
    )
    for name, value in expected.items():
        error = (ours[name].double() - value).abs().max() / value.abs().max()
        assert error < 3e-5, name


def test_the_fused_block_is_the_layers_to_rounding() -> None:
    block = _block(32, 6)
    inputs = _inputs(4, 36, 32)
    pull = torch.randn_like(inputs[0])
    fused = _solve(block, inputs, pull, torch.float32)
    block.mamba.backend = "torch"
    assert fused_for(block, inputs[0]) is None
    plain = _solve(block, inputs, pull, torch.float32)
    for name, value in plain.items():
        assert (fused[name] - value).abs().max() < 3e-5 * value.abs().max(), name


def test_bfloat16_products_round_as_the_layers_do() -> None:
    block = _block(32, 6)
    exact = copy.deepcopy(block).double()
    inputs = _inputs(9, 36, 32)
    pull = torch.randn_like(inputs[0])
    expected = _solve(exact, inputs, pull, torch.double)
    with torch.autocast("cpu", torch.bfloat16):
        assert fused_for(block, inputs[0]) is fused_block
        fused = _solve(block, inputs, pull, torch.float32)
        block.mamba.backend = "torch"
        plain = _solve(block, inputs, pull, torch.float32)

    def error(values: dict[str, Tensor], name: str) -> float:
        return float((values[name].double() - expected[name]).norm() / expected[name].norm())

    for name in expected:
        assert fused[name].dtype == plain[name].dtype == torch.float32, name
        assert 1e-5 < error(fused, name) < 0.06, name
    ours, theirs = (sum(error(values, name) for name in expected) for values in (fused, plain))
    assert ours < 1.5 * theirs


def test_one_mask_and_one_condition_serve_all_slices() -> None:
    block = _block(32, 4)
    tokens, condition, mask = _inputs(4, 16, 32)
    pull = torch.randn_like(tokens)
    shared = _solve(block, [tokens, condition[:1], mask[:1]], pull, torch.float32)
    spread = _solve(block, [tokens, condition[:1].expand(4, -1), mask[:1].expand(4, -1, -1)], pull, torch.float32)
    for name, value in spread.items():
        whole = value.sum(0, keepdim=True) if name in ("condition", "soft mask") else value
        assert (shared[name] - whole).abs().max() < 1e-5 * whole.abs().max(), name


def test_a_sample_learns_the_same_alone_and_in_a_batch() -> None:
    block = _block(32, 6)
    tokens, condition, mask = _inputs(ENOUGH_TASKS, 36, 32)
    pull = torch.randn_like(tokens)
    whole = _solve(block, [tokens, condition, mask], pull, torch.float32)
    parts = [
        _solve(block, [each[i : i + 1] for each in (tokens, condition, mask)], pull[i : i + 1], torch.float32)
        for i in range(len(tokens))
    ]
    for name in ("output", "tokens", "soft mask"):
        alone = torch.cat([part[name] for part in parts])
        assert (alone - whole[name]).abs().max() < 1e-5 * whole[name].abs().max(), name
    for name, _ in block.named_parameters():
        total = torch.stack([part[name] for part in parts]).sum(0)
        assert (total - whole[name]).abs().max() < 3e-5 * whole[name].abs().max(), name


@pytest.mark.parametrize("trained", [False, True])
def test_another_number_of_tokens_than_the_orders_visit_is_refused(trained: bool) -> None:
    block = _block(32, 6)
    with torch.set_grad_enabled(trained), pytest.raises(ValueError, match="visit 36 tokens, not 25"):
        block(*_inputs(2, 25, 32))


@pytest.mark.parametrize("trained", [False, True])
def test_kernels_are_never_given_weights_of_another_type(trained: bool) -> None:
    block = _block(32, 4)
    block.mamba.A_log.data = block.mamba.A_log.data.double()
    tokens, condition, mask = _inputs(2, 16, 32)
    with torch.set_grad_enabled(trained):
        assert fused_for(block, tokens) is None
        mixed = block(tokens, condition, mask)
        expected = copy.deepcopy(block).double()(tokens.double(), condition.double(), mask.double())
    assert torch.allclose(mixed, expected.to(mixed.dtype), atol=1e-3)


def test_a_blocks_own_weights_of_another_type_are_refused() -> None:
    block = _block(32, 4)
    block.norm.half()
    with pytest.raises(ValueError, match=r"takes float32 on cpu, not torch\.float16"):
        block(*_inputs(2, 16, 32))
