"""The side of a square grid in, orders of its tokens out (paper, "Spiral-Scan" and Figure 4).

An *order* is an integer array that lists raster indices (row * n + column) in scan order: token ``s`` of the
scanned sequence is ``x[order[s]]``. There are eight spiral schemes; block ``i`` uses scheme ``i mod 8``, and
each scheme has two modes in opposite directions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

ScanOrder = Literal["spiral", "released"]
SCAN_ORDERS: tuple[ScanOrder, ...] = ("spiral", "released")

_STEPS = {"R": (0, 1), "D": (1, 0), "L": (0, -1), "U": (-1, 0)}
SCHEMES = ("RDLU", "DLUR", "LURD", "URDL", "RULD", "LDRU", "DRUL", "ULDR")
"""Directions of the successive arms of each spiral, outward from the centre."""


def _walk(n: int, scheme: str, row: int, column: int) -> np.ndarray:
    """Raster indices of an outward square spiral, in the order it meets the cells of an n x n grid."""
    visited: list[int] = []
    arm = 0
    while len(visited) < n * n:
        d_row, d_column = _STEPS[scheme[arm % 4]]
        for _ in range(arm // 2 + 1):  # arms grow 1, 1, 2, 2, 3, 3, ...
            if 0 <= row < n and 0 <= column < n:
                visited.append(row * n + column)
            row, column = row + d_row, column + d_column
        arm += 1
    return np.array(visited[: n * n], dtype=np.int64)


def _check_side(n: int) -> None:
    if n < 1:
        raise ValueError(f"a token grid needs at least one cell a side, not {n}")


@lru_cache(maxsize=64)
def spiral(n: int) -> np.ndarray:
    """The eight outward spirals of an ``n`` x ``n`` grid as int64 (8, n*n), every step to a neighbour.

    Row ``k`` lists raster indices in scan order; the opposite mode is ``spiral(n)[k, ::-1]``. On an even grid
    the start is shifted so that the spiral never leaves the grid (starting all eight at the same cell makes six
    of them jump). The array is read-only, because it is cached.
    """
    _check_side(n)
    rows = []
    for scheme in SCHEMES:
        even = 1 - n % 2
        row = n // 2 - (even if "D" in scheme[:2] else 0)
        column = n // 2 - (even if "R" in scheme[:2] else 0)
        rows.append(_walk(n, scheme, row, column))
    orders = np.stack(rows)
    orders.flags.writeable = False
    return orders


@lru_cache(maxsize=64)
def released(n: int) -> np.ndarray:
    """The index lists of the authors' released code as int64 (8, n*n), as they are used to gather tokens.

    They hold each cell's spiral *rank* rather than the cell at each rank, that is the inverse of a spiral
    order, and every order starts at (n//2, n//2). Released weights only make sense with them. The opposite
    mode is ``n*n - 1 - released(n)[k]``.
    """
    _check_side(n)
    rows = [np.argsort(_walk(n, scheme, n // 2, n // 2)) for scheme in SCHEMES]
    orders = np.stack(rows)
    orders.flags.writeable = False
    return orders


def directions(n: int, block: int, scan_order: ScanOrder = "spiral") -> np.ndarray:
    """The three orders that block number ``block`` scans, int64 (3, n*n): raster, its scheme, the opposite mode.

    Raises:
        ValueError: ``scan_order`` is neither "spiral" nor "released".
    """
    raster = np.arange(n * n, dtype=np.int64)
    if scan_order == "spiral":
        forward = spiral(n)[block % 8]
        return np.stack([raster, forward, forward[::-1]])
    if scan_order == "released":
        forward = released(n)[block % 8]
        return np.stack([raster, forward, n * n - 1 - forward])
    raise ValueError(f"scan_order is {scan_order!r}; it can be one of {', '.join(SCAN_ORDERS)}")


def inverse(order: np.ndarray) -> np.ndarray:
    """For orders (..., L), the positions that put a scanned sequence back in raster order."""
    return np.argsort(order, axis=-1)
