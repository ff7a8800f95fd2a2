"""Spiral orders."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.models import orders


@pytest.mark.parametrize("n", range(2, 65))
def test_every_step_of_every_spiral_goes_to_a_neighbour_and_every_cell_is_met_once(n: int) -> None:
    spirals = orders.spiral(n)
    assert spirals.shape == (8, n * n)
    assert np.issubdtype(spirals.dtype, np.integer)
    assert (np.sort(spirals, axis=1) == np.arange(n * n)).all()
    rows, columns = np.divmod(spirals, n)
    steps = np.abs(np.diff(rows)) + np.abs(np.diff(columns))
    assert (steps == 1).all()
    assert len({tuple(scheme) for scheme in spirals}) == 8


def test_spirals_start_at_the_centre_and_end_at_a_corner() -> None:
    for n in (2, 7, 14, 28):
        for scheme in orders.spiral(n):
            row, column = divmod(int(scheme[0]), n)
            assert {row, column} <= {(n - 1) // 2, n // 2}
            row, column = divmod(int(scheme[-1]), n)
            assert {row, column} <= {0, n - 1}


def test_a_block_scans_raster_its_scheme_and_the_opposite_mode() -> None:
    for block in (0, 3, 11):
        raster, forward, backward = orders.directions(14, block)
        assert (raster == np.arange(196)).all()
        assert (forward == orders.spiral(14)[block % 8]).all()
        assert (backward == forward[::-1]).all()


def test_released_lists_hold_ranks_and_leave_only_half_of_the_tokens_beside_their_neighbours() -> None:
    released = orders.released(14)
    rows, columns = np.divmod(released, 14)
    adjacent = (np.abs(np.diff(rows)) + np.abs(np.diff(columns)) == 1).mean(axis=1)
    assert 0.42 < adjacent.min() < adjacent.max() < 0.53
    _, forward, backward = orders.directions(14, 2, "released")
    assert (forward + backward == 195).all()


def test_released_and_spiral_orders_are_inverse_permutations_on_an_odd_grid() -> None:
    for ours, theirs in zip(orders.spiral(9), orders.released(9), strict=True):
        assert (ours[theirs] == np.arange(81)).all()


@pytest.mark.parametrize("scan_order", orders.SCAN_ORDERS)
def test_the_inverse_puts_a_scanned_sequence_back(scan_order: orders.ScanOrder) -> None:
    order = orders.directions(6, 5, scan_order)
    tokens = np.random.default_rng(0).normal(size=36)
    for row, back in zip(order, orders.inverse(order), strict=True):
        assert (tokens[row][back] == tokens).all()


def test_an_unknown_order_is_named() -> None:
    with pytest.raises(ValueError, match="zigzag"):
        orders.directions(4, 0, "zigzag")  # type: ignore[arg-type]
