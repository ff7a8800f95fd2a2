"""Numba kernels of a DiffMa block: what lies around its two Mambas and its matrix products, and its gradients.

Pointers lead to contiguous float32 memory; B is the number of samples, L of tokens, D the width. Forwards a task takes
ROWS tokens, and `sizes` holds B * L, L and D. Backwards it takes BACKWARD_ROWS tokens of one sample, sums over tokens
are left as one partial sum a task, and `sizes` holds L, D and the tasks a sample.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

import math

from numba import njit

from DiffMaCore.ops.scan import numba_forward, numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_forward import clear
from DiffMaCore.ops.scan.numba_lanes import fma, load, number, pointers, shift, sigmoid, spread, store, store_totals
from DiffMaCore.ops.spiral.fused_kernels import LANES

SOURCES = source_digest(numba_lanes, numba_forward)
ROWS, BACKWARD_ROWS = 16, 64
SCRATCH = 4  # numbers


@njit(nogil=True)
def in_every_lane(register, scratch):
    store_totals(scratch, 0, (register, register, register, register))
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


@compiled
def enter(first, last, like, addresses, eps, sizes, sources=SOURCES):
    """What the Mambas see: plain (B, L, D) = modulate(LayerNorm(x)) by shift and scale, and masked = plain times mask.

    x (B, L, D); weight, bias (D,) of the norm; modulation (B, 3, D): shift, scale, gate; mask (B, L).
    """
    x, weight, bias, modulation, mask, plain, masked, scratch = pointers(like, addresses)
    rows, length, width = sizes
    one = number(x, 1.0)
    for row in range(first * ROWS, min(last * ROWS, rows)):
        own = shift(x, row * width)
        by = shift(modulation, row // length * 3 * width)
        weigh = spread(mask, row)
        mean, scale = moments(own, own, width, eps, scratch)
        for lane in range(0, width, LANES):
            h = fma((load(own, lane) - mean) * scale, load(weight, lane), load(bias, lane))
            h = fma(h, one + load(by, width + lane), load(by, lane))
            store(plain, row * width + lane, h)
            store(masked, row * width + lane, h * weigh)


@compiled
def join(first, last, like, addresses, eps, sizes, sources=SOURCES):
    """joined (B, L, 2D) = LayerNorm of plain and masked (B, L, D) side by side; weight, bias (2D,)."""
    plain, masked, weight, bias, joined, scratch = pointers(like, addresses)
    rows, _, width = sizes
    for row in range(first * ROWS, min(last * ROWS, rows)):
        a, b, out = shift(plain, row * width), shift(masked, row * width), shift(joined, row * 2 * width)
        mean, scale = moments(a, b, width, eps, scratch)
        for lane in range(0, width, LANES):
            y = (load(a, lane) - mean) * scale
            store(out, lane, fma(y, load(weight, lane), load(bias, lane)))
            y = (load(b, lane) - mean) * scale
            store(out, width + lane, fma(y, load(weight, width + lane), load(bias, width + lane)))


@compiled
def leave(first, last, like, addresses, eps, sizes, sources=SOURCES):
    """out (B, L, D) = x + gate * lerp(masked, plain, sigmoid(weight SiLU(hidden) + bias)).

    hidden (B, L, D); weight (D,), bias (1,); modulation (B, 3, D).
    """
    x, plain, masked, hidden, weight, bias, modulation, out, scratch = pointers(like, addresses)
    rows, length, width = sizes
    for row in range(first * ROWS, min(last * ROWS, rows)):
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


@njit(nogil=True)
def rows_of(task, length, tasks):
    """Sample, first row and row behind the last of a task."""
    sample, part = task // tasks, task % tasks
    return sample, sample * length + part * BACKWARD_ROWS, sample * length + min((part + 1) * BACKWARD_ROWS, length)


@njit(nogil=True)
def gather(pointer, lane, value):
    store(pointer, lane, load(pointer, lane) + value)


@compiled
def leave_backward(first, last, like, addresses, eps, sizes, sources=SOURCES):
    """Gradients of `leave`: of plain and masked (B, L, D) without the share of the blend's input, and of hidden.

    dout (B, L, D); sums (tasks, 4, D): of the gate, the weight, hidden's columns, and in the first lane the bias.
    """
    plain, masked, hidden, weight, bias, modulation, dout, dplain, dmasked, dhidden, sums, scratch = pointers(
        like, addresses
    )
    length, width, tasks = sizes
    for task in range(first, last):
        sample, begin, end = rows_of(task, length, tasks)
        gate = shift(modulation, (sample * 3 + 2) * width)
        dgate, dweight = shift(sums, task * 4 * width), shift(sums, (task * 4 + 1) * width)
        dcolumns, dbias = shift(sums, (task * 4 + 2) * width), shift(sums, (task * 4 + 3) * width)
        clear(dgate, 4 * width)
        one = number(plain, 1.0)
        total_bias = number(plain, 0.0)
        for row in range(begin, end):
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


@compiled
def join_backward(first, last, like, addresses, eps, sizes, sources=SOURCES):
    """Gradients of `join`: added to dplain and dmasked (B, L, D); sums (tasks, 4, D): of the weight (2D), the bias."""
    plain, masked, weight, djoined, dplain, dmasked, sums, scratch = pointers(like, addresses)
    length, width, tasks = sizes
    for task in range(first, last):
        _, begin, end = rows_of(task, length, tasks)
        dweight, dbias = shift(sums, task * 4 * width), shift(sums, (task * 4 + 2) * width)
        clear(dweight, 4 * width)
        for row in range(begin, end):
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


@compiled
def enter_backward(first, last, like, addresses, eps, sizes, sources=SOURCES):
    """Gradients of `enter`: dx (B, L, D), to which dout is added, and of the mask (B, L).

    sums (tasks, 4, D): of shift, scale, weight and bias.
    """
    x, weight, bias, modulation, mask, dplain, dmasked, dout, dx, dmask, sums, scratch = pointers(like, addresses)
    length, width, tasks = sizes
    for task in range(first, last):
        sample, begin, end = rows_of(task, length, tasks)
        by = shift(modulation, sample * 3 * width)
        dshift, dscale = shift(sums, task * 4 * width), shift(sums, (task * 4 + 1) * width)
        dweight, dbias = shift(sums, (task * 4 + 2) * width), shift(sums, (task * 4 + 3) * width)
        clear(dshift, 4 * width)
        one = number(x, 1.0)
        for row in range(begin, end):
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
