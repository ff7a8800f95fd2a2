"""Numba kernels of a DiffMa block's gradients: what lies around its two Mambas and its matrix products.

A task takes ROWS tokens of one sample; sums over tokens are left as one partial sum a task. Pointers lead to contiguous
float32 memory; B is the number of samples, L of tokens, D the width. `sizes` holds L, D and the tasks a sample.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan import numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_lanes import fma, load, number, pointers, shift, sigmoid, spread, store
from DiffMaCore.ops.spiral import block_kernels
from DiffMaCore.ops.spiral.block_kernels import in_every_lane, moments
from DiffMaCore.ops.spiral.kernels import LANES

ROWS = 64
SCRATCH = 4  # numbers


@njit(nogil=True)
def rows_of(task, length, tasks):
    """Sample, first row and row behind the last of a task."""
    sample, part = task // tasks, task % tasks
    return sample, sample * length + part * ROWS, sample * length + min((part + 1) * ROWS, length)


@njit(nogil=True)
def zero_row(pointer, width):
    """Fill a row with zeros."""
    for lane in range(0, width, LANES):
        store(pointer, lane, number(pointer, 0.0))


@njit(nogil=True)
def gather(pointer, lane, value):
    """Add a register to what is there."""
    store(pointer, lane, load(pointer, lane) + value)


@njit(nogil=True)
def leave_backward_task(task, data, eps, sizes):
    """Gradients of `leave`: of plain and masked (B, L, D) without the share of the blend's input, and of hidden.

    dout (B, L, D); sums (tasks, 4, D): of the gate, the weight, hidden's columns, and in the first lane the bias.
    """
    plain, masked, hidden, weight, bias, modulation, dout, dplain, dmasked, dhidden, sums, scratch = data
    length, width, tasks = sizes
    sample, first, last = rows_of(task, length, tasks)
    gate = shift(modulation, (sample * 3 + 2) * width)
    dgate, dweight = shift(sums, task * 4 * width), shift(sums, (task * 4 + 1) * width)
    dcolumns, dbias = shift(sums, (task * 4 + 2) * width), shift(sums, (task * 4 + 3) * width)
    zero_row(dgate, 4 * width)
    one = number(plain, 1.0)
    total_bias = number(plain, 0.0)
    for row in range(first, last):
        at = row * width
        total = turn = number(plain, 0.0)
        for lane in range(0, width, LANES):
            h = load(hidden, at + lane)
            total = fma(h * sigmoid(h), load(weight, lane), total)
            a, b = load(plain, at + lane), load(masked, at + lane)
            turn = fma(load(dout, at + lane) * load(gate, lane), a - b, turn)
        blend = sigmoid(in_every_lane(total, scratch) + spread(bias, 0))
        dlogit = in_every_lane(turn, scratch) * blend * (one - blend)
        total_bias = total_bias + dlogit
        for lane in range(0, width, LANES):
            a, b, g = load(plain, at + lane), load(masked, at + lane), load(dout, at + lane)
            gather(dgate, lane, g * fma(a - b, blend, b))
            dmixed = g * load(gate, lane)
            da = dmixed * blend
            store(dplain, at + lane, da)
            store(dmasked, at + lane, dmixed - da)
            h = load(hidden, at + lane)
            s = sigmoid(h)
            gather(dweight, lane, dlogit * (h * s))
            dh = dlogit * load(weight, lane) * fma(h * s, one - s, s)
            gather(dcolumns, lane, dh)
            store(dhidden, at + lane, dh)
    store(dbias, 0, total_bias)


@njit(nogil=True)
def join_backward_task(task, data, eps, sizes):
    """Gradients of `join`: added to dplain and dmasked (B, L, D); sums (tasks, 4, D): of the weight (2D), the bias."""
    plain, masked, weight, djoined, dplain, dmasked, sums, scratch = data
    length, width, tasks = sizes
    _, first, last = rows_of(task, length, tasks)
    dweight, dbias = shift(sums, task * 4 * width), shift(sums, (task * 4 + 2) * width)
    zero_row(dweight, 4 * width)
    for row in range(first, last):
        a, b, g = shift(plain, row * width), shift(masked, row * width), shift(djoined, row * 2 * width)
        mean, scale = moments(a, b, width, eps, scratch)
        total = along = number(a, 0.0)
        for half in range(2):
            own, at = (a, 0) if half == 0 else (b, width)
            for lane in range(0, width, LANES):
                n, dj = (load(own, lane) - mean) * scale, load(g, at + lane)
                gather(dweight, at + lane, dj * n)
                gather(dbias, at + lane, dj)
                dn = dj * load(weight, at + lane)
                total, along = total + dn, fma(dn, n, along)
        share = number(a, 0.5 / width)
        middle, slope = in_every_lane(total, scratch) * share, in_every_lane(along, scratch) * share
        for half in range(2):
            own, at = (a, 0) if half == 0 else (b, width)
            to = shift(dplain if half == 0 else dmasked, row * width)
            for lane in range(0, width, LANES):
                n, dn = (load(own, lane) - mean) * scale, load(g, at + lane) * load(weight, at + lane)
                gather(to, lane, scale * (dn - middle - n * slope))


@njit(nogil=True)
def enter_backward_task(task, data, eps, sizes):
    """Gradients of `enter`: dx (B, L, D), to which dout is added, and of the mask (B, L).

    sums (tasks, 4, D): of shift, scale, weight and bias.
    """
    x, weight, bias, modulation, mask, dplain, dmasked, dout, dx, dmask, sums, scratch = data
    length, width, tasks = sizes
    sample, first, last = rows_of(task, length, tasks)
    by = shift(modulation, sample * 3 * width)
    dshift, dscale = shift(sums, task * 4 * width), shift(sums, (task * 4 + 1) * width)
    dweight, dbias = shift(sums, (task * 4 + 2) * width), shift(sums, (task * 4 + 3) * width)
    zero_row(dshift, 4 * width)
    one = number(x, 1.0)
    for row in range(first, last):
        own, at = shift(x, row * width), row * width
        weigh = spread(mask, row)
        mean, scale = moments(own, own, width, eps, scratch)
        total = along = weighed = number(x, 0.0)
        for lane in range(0, width, LANES):
            n = (load(own, lane) - mean) * scale
            p = fma(n, load(weight, lane), load(bias, lane))
            rise = one + load(by, width + lane)
            masked = load(dmasked, at + lane)
            weighed = fma(masked, fma(p, rise, load(by, lane)), weighed)
            dh = fma(masked, weigh, load(dplain, at + lane))
            gather(dshift, lane, dh)
            gather(dscale, lane, dh * p)
            dp = dh * rise
            gather(dweight, lane, dp * n)
            gather(dbias, lane, dp)
            dn = dp * load(weight, lane)
            total, along = total + dn, fma(dn, n, along)
            store(dx, at + lane, dn)
        share = number(x, 1.0 / width)
        middle, slope = in_every_lane(total, scratch) * share, in_every_lane(along, scratch) * share
        for lane in range(0, width, LANES):
            n = (load(own, lane) - mean) * scale
            back = scale * (load(dx, at + lane) - middle - n * slope)
            store(dx, at + lane, back + load(dout, at + lane))
        in_every_lane(weighed, scratch)
        dmask[row] = scratch[0]


def _entry_points(digest):
    """The loops over tasks [first, last), compiled at their first call and cached on disk."""

    @compiled
    def leave_backward(first, last, like, addresses, eps, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            leave_backward_task(task, data, eps, sizes)
        return digest

    @compiled
    def join_backward(first, last, like, addresses, eps, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            join_backward_task(task, data, eps, sizes)
        return digest

    @compiled
    def enter_backward(first, last, like, addresses, eps, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            enter_backward_task(task, data, eps, sizes)
        return digest

    return leave_backward, join_backward, enter_backward


leave_backward, join_backward, enter_backward = _entry_points(source_digest(numba_lanes, block_kernels))
