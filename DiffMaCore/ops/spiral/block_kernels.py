"""Numba kernels of a DiffMa block without gradients: what lies around its two Mambas and its matrix products.

A task takes ROWS tokens. Pointers lead to contiguous float32 memory; B is the number of samples, L of tokens, D the
width. `sizes` holds B * L, L and D.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

import math

from numba import njit

from DiffMaCore.ops.scan import numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_lanes import fma, load, number, pointers, shift, sigmoid, spread, store, store_totals
from DiffMaCore.ops.spiral.kernels import LANES

ROWS = 16
SCRATCH = 4  # numbers


@njit(nogil=True)
def in_every_lane(register, scratch):
    """The sum over the lanes, in every lane."""
    store_totals(scratch, 0, register, register, register, register)
    return spread(scratch, 0)


@njit(nogil=True)
def moments(a, b, width, eps, scratch):
    """Mean and 1 / standard deviation, in every lane, of a row of which ``a`` and ``b`` hold ``width`` numbers each."""
    total = number(a, 0.0)
    for lane in range(0, width, LANES):
        total = total + (load(a, lane) + load(b, lane))
    mean = in_every_lane(total, scratch) * number(a, 0.5 / width)
    squares = number(a, 0.0)
    for lane in range(0, width, LANES):
        x, y = load(a, lane) - mean, load(b, lane) - mean
        squares = fma(x, x, fma(y, y, squares))
    in_every_lane(squares, scratch)
    scratch[0] = 1.0 / math.sqrt(scratch[0] * (0.5 / width) + eps)
    return mean, spread(scratch, 0)


@njit(nogil=True)
def enter_task(task, data, eps, sizes):
    """What the Mambas see: plain (B, L, D) = modulate(LayerNorm(x)) by shift and scale, and masked = plain times mask.

    x (B, L, D); weight, bias (D,) of the norm; modulation (B, 3, D): shift, scale, gate; mask (B, L).
    """
    x, weight, bias, modulation, mask, plain, masked, scratch = data
    rows, length, width = sizes
    one = number(x, 1.0)
    for row in range(task * ROWS, min((task + 1) * ROWS, rows)):
        own = shift(x, row * width)
        by = shift(modulation, row // length * 3 * width)
        weigh = spread(mask, row)
        mean, scale = moments(own, own, width, eps, scratch)
        for lane in range(0, width, LANES):
            h = fma((load(own, lane) - mean) * scale, load(weight, lane), load(bias, lane))
            h = fma(h, one + load(by, width + lane), load(by, lane))
            store(plain, row * width + lane, h)
            store(masked, row * width + lane, h * weigh)


@njit(nogil=True)
def join_task(task, data, eps, sizes):
    """joined (B, L, 2D) = LayerNorm of plain and masked (B, L, D) side by side; weight, bias (2D,)."""
    plain, masked, weight, bias, joined, scratch = data
    rows, _, width = sizes
    for row in range(task * ROWS, min((task + 1) * ROWS, rows)):
        a, b, out = shift(plain, row * width), shift(masked, row * width), shift(joined, row * 2 * width)
        mean, scale = moments(a, b, width, eps, scratch)
        for lane in range(0, width, LANES):
            y = (load(a, lane) - mean) * scale
            store(out, lane, fma(y, load(weight, lane), load(bias, lane)))
            y = (load(b, lane) - mean) * scale
            store(out, width + lane, fma(y, load(weight, width + lane), load(bias, width + lane)))


@njit(nogil=True)
def leave_task(task, data, eps, sizes):
    """out (B, L, D) = x + gate * lerp(masked, plain, sigmoid(weight SiLU(hidden) + bias)).

    hidden (B, L, D); weight (D,), bias (1,); modulation (B, 3, D).
    """
    x, plain, masked, hidden, weight, bias, modulation, out, scratch = data
    rows, length, width = sizes
    for row in range(task * ROWS, min((task + 1) * ROWS, rows)):
        at = row * width
        gate = shift(modulation, row // length * 3 * width + 2 * width)
        total = number(x, 0.0)
        for lane in range(0, width, LANES):
            h = load(hidden, at + lane)
            total = fma(h * sigmoid(h), load(weight, lane), total)
        blend = sigmoid(in_every_lane(total, scratch) + spread(bias, 0))
        for lane in range(0, width, LANES):
            b = load(masked, at + lane)
            mixed = fma(load(plain, at + lane) - b, blend, b)
            store(out, at + lane, fma(mixed, load(gate, lane), load(x, at + lane)))


def _entry_points(digest):
    """The loops over tasks [first, last), compiled at their first call and cached on disk."""

    @compiled
    def enter(first, last, like, addresses, eps, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            enter_task(task, data, eps, sizes)
        return digest

    @compiled
    def join(first, last, like, addresses, eps, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            join_task(task, data, eps, sizes)
        return digest

    @compiled
    def leave(first, last, like, addresses, eps, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            leave_task(task, data, eps, sizes)
        return digest

    return enter, join, leave


enter, join, leave = _entry_points(source_digest(numba_lanes))
