"""Which tokens each block's scan visits, in which order, as its paper draws it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from DiffMaCore.baselines.efficient_vmamba import EfficientVMambaBlock, SubGrids, sub_grids
from DiffMaCore.baselines.vim import BidirectionalMamba, VimBlock
from DiffMaCore.baselines.vmamba import routes
from DiffMaCore.baselines.zigma import PATHS, ZigMaBlock, zigzag
from DiffMaCore.models import ssm
from DiffMaCore.models.ssm import CausalConvolution, GridConvolution, TokenOrders


def _steps(order: np.ndarray, grid: int) -> np.ndarray:
    """Distance in cells from each token of a walk to the next."""
    rows, columns = np.divmod(order, grid)
    return np.abs(np.diff(rows)) + np.abs(np.diff(columns))


@pytest.mark.parametrize("grid", [2, 3, 8, 14])
def test_zigmas_eight_paths_visit_every_token_without_a_jump_and_differ(grid: int) -> None:
    paths = [zigzag(grid, layer) for layer in range(PATHS)]
    for path in paths:
        assert (np.sort(path) == np.arange(grid * grid)).all()
        assert (_steps(path, grid) == 1).all()
    assert len({path.tobytes() for path in paths}) == 8
    assert (zigzag(grid, PATHS + 3) == paths[3]).all()
    corners = {0, grid - 1, grid * grid - grid, grid * grid - 1}
    assert {int(path[0]) for path in paths} == corners


def test_zigmas_first_paths_are_those_of_its_figure() -> None:
    assert zigzag(3, 0).tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]
    assert zigzag(3, 1).tolist() == [0, 3, 6, 7, 4, 1, 2, 5, 8]
    assert zigzag(3, 7).tolist() == [8, 5, 2, 1, 4, 7, 6, 3, 0]


def test_vmambas_routes_are_rows_columns_and_both_backwards() -> None:
    rows, columns, rows_back, columns_back = (route.tolist() for route in routes(3))
    assert rows == [0, 1, 2, 3, 4, 5, 6, 7, 8] and columns == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert rows_back == rows[::-1] and columns_back == columns[::-1]


@pytest.mark.parametrize("grid", [2, 4, 14])
def test_es2ds_four_sub_grids_partition_the_grid_in_steps_of_two(grid: int) -> None:
    parts = sub_grids(grid)
    assert parts.shape == (4, grid * grid // 4)
    assert (np.sort(parts.flatten()) == np.arange(grid * grid)).all()
    for part in parts:
        rows, columns = np.divmod(part, grid)
        assert len(set(rows % 2)) == len(set(columns % 2)) == 1
        assert (_steps(part, grid)[: grid // 2 - 1] == 2).all()


@pytest.mark.parametrize("grid", [3, 4, 5])
def test_sub_grids_put_every_token_back_where_it_was_on_odd_grids_too(grid: int) -> None:
    grids = SubGrids(grid)
    tokens = torch.randn(2, grid * grid, 6)
    split = grids.gather(tokens)
    assert split.shape == (2, ((grid + 1) // 2) ** 2, 4, 6)
    assert torch.equal(grids.merge(split), tokens)
    block = EfficientVMambaBlock(8, grid, inner=6, state_size=2)
    assert block(torch.randn(1, grid * grid, 8), torch.randn(1, 16), torch.ones(1, grid * grid, 1)).isfinite().all()


def test_vims_second_direction_sees_the_tokens_backwards_and_the_channels_as_they_are() -> None:
    mamba = BidirectionalMamba(8, 3, inner=6, state_size=2, conv_size=4)
    tokens = torch.randn(1, 9, 6)
    gathered = mamba.orders.gather(tokens)
    assert torch.equal(gathered[:, :, 0], tokens)
    assert torch.equal(gathered[:, :, 1], tokens.flip(1))


def test_vims_two_directions_reach_every_token_and_zigmas_one_only_what_follows() -> None:
    from DiffMaCore.baselines.zigma import ZigzagMamba

    tokens = torch.randn(1, 9, 8)
    changed = tokens.clone()
    changed[:, 4] += 1
    vim = BidirectionalMamba(8, 3, inner=16, state_size=2, conv_size=4)
    zigma = ZigzagMamba(8, 3, 1, inner=16, state_size=2, conv_size=4)
    assert ((vim(changed) - vim(tokens)).abs().amax(dim=(0, 2)) > 0).all()
    moved = (zigma(changed) - zigma(tokens)).abs().amax(dim=(0, 2)) > 0
    path = zigzag(3, 1).tolist()
    assert moved.nonzero().flatten().tolist() == sorted(path[path.index(4) :])


def test_a_vim_with_equal_halves_does_not_care_which_way_round_the_tokens_come() -> None:
    mamba = BidirectionalMamba(8, 3, inner=16, state_size=2, conv_size=4)
    stacked = (mamba.x_proj, mamba.dt_weight, mamba.dt_bias, mamba.A_log, mamba.D, mamba.conv.weight, mamba.conv.bias)
    with torch.no_grad():
        for parameter in stacked:
            parameter[1] = parameter[0]
    tokens = torch.randn(2, 9, 8)
    torch.testing.assert_close(mamba(tokens.flip(1)), mamba(tokens).flip(1))
    with torch.no_grad():
        mamba.conv.weight[1] += 1  # each direction has a convolution of its own
    assert not torch.allclose(mamba(tokens.flip(1)), mamba(tokens).flip(1))


def test_orders_gathered_and_merged_give_the_tokens_once_for_each() -> None:
    orders = TokenOrders(routes(4))
    tokens = torch.randn(2, 16, 3)
    torch.testing.assert_close(orders.merge(orders.gather(tokens)), 4 * tokens)
    assert not orders.state_dict()


def test_the_causal_convolution_is_torchs_with_padding_in_front() -> None:
    conv = CausalConvolution(2, 5, 4)
    x = torch.randn(3, 7, 2, 5)
    plain = torch.nn.functional.conv1d(
        torch.nn.functional.pad(x.flatten(2).mT, (3, 0)), conv.weight.view(10, 1, 4), conv.bias.view(-1), groups=10
    )
    torch.testing.assert_close(conv(x), torch.nn.functional.silu(plain).mT.unflatten(2, (2, 5)))


def test_causal_conv1d_convolves_wherever_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with that package's signature, on this device: it is asked unless torch is."""
    asked = []

    def causal_conv1d_fn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, activation: str) -> torch.Tensor:
        asked.append(activation)
        padded = torch.nn.functional.pad(x, (weight.shape[1] - 1, 0))
        return torch.nn.functional.silu(torch.nn.functional.conv1d(padded, weight[:, None], bias, groups=len(bias)))

    for block in (VimBlock(32, 4, inner=16), ZigMaBlock(32, 4, 0, inner=16)):
        tokens, asked[:] = torch.randn(2, 16, 32), []
        plain = block.mixer(tokens)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "causal_conv1d", SimpleNamespace(causal_conv1d_fn=causal_conv1d_fn))
            patch.setattr(ssm, "convolution_problem", lambda device: None)
            torch.testing.assert_close(block.mixer(tokens), plain)
            assert asked == ["silu"]
            block.mixer.backend = "torch"
            block.mixer(tokens)
            assert asked == ["silu"]


def test_the_grid_convolution_sees_the_eight_neighbours_in_the_plane() -> None:
    conv = GridConvolution(2)
    tokens = torch.randn(1, 25, 2)
    changed = tokens.clone()
    changed[:, 12] += 1
    moved = (conv(changed) - conv(tokens)).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
