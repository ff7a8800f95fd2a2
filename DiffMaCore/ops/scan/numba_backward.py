"""Backward kernel of the Numba scan: tasks, layout and options as in the forward kernel.

The tiles are taken from the last to the first. A tile's states are recomputed from the state kept
before it. Sums over channels (B, C) and over samples (A, D, bias) are left as one partial sum a task,
to be added up in a fixed order, so that the result does not depend on the threads.
"""

# mypy: ignore-errors
# (The kernels are typed by Numba, whose intrinsics take fewer arguments than their definitions.)

from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan.numba_forward import BLOCK, PLANE, STATES, TILE, clear, copy_states, place, prepare_tile
from DiffMaCore.ops.scan.numba_lanes import (
    LN2,
    exp2_four,
    fma,
    given,
    load,
    number,
    prefetch,
    shift,
    sigmoid,
    spread,
    store,
    store_totals,
    width_of,
)

# A tile's values of one register of channels and STATES states.
SLAB = TILE * STATES * 16


def backward_scratch(states: int) -> int:
    """Numbers of scratch memory a backward task needs."""
    return 6 * PLANE + 4 * SLAB + 3 * states * BLOCK + 2 * BLOCK


@njit(nogil=True)
def backward_task(task, data, softplus_on, sizes):
    """Gradients of one block of channels.

    u, delta, z, dout, du, ddelta, dz (B, L, D); A, weight (N, D); dlast, dA, dweight (B, N, D);
    dskip, dbias (B, D); B, C (B, G, L, N); dB, dC (B, G, blocks, L, N).
    """
    (
        u, delta, A, B, C, weight, skip, z, bias, starts, dout, dlast,
        du, ddelta, dz, dA, dweight, dskip, dbias, dB, dC, scratch,
    ) = data  # fmt: skip
    length, channels, groups, states, block = sizes
    sample, group, first, width = place(task, groups, channels // groups, block)
    lanes = width_of(u)
    tiles = (length + TILE - 1) // TILE
    deltas, drives, sums = scratch, shift(scratch, PLANE), shift(scratch, 2 * PLANE)
    dys, ddrives, dexponents = shift(sums, PLANE), shift(sums, 2 * PLANE), shift(sums, 3 * PLANE)
    decays = shift(scratch, 6 * PLANE)
    befores, dBs, dCs = shift(decays, SLAB), shift(decays, 2 * SLAB), shift(decays, 3 * SLAB)
    carried = shift(decays, 4 * SLAB)
    dAs, dweights = shift(carried, states * BLOCK), shift(carried, 2 * states * BLOCK)
    dskips = shift(carried, 3 * states * BLOCK)
    dbiases = shift(dskips, BLOCK)
    # From dAs on: the sums over all tokens.
    clear(dAs, 2 * states * BLOCK + 2 * BLOCK)
    for n in range(states):
        for lane in range(0, width, lanes):
            store(carried, n * BLOCK + lane, load(dlast, (sample * states + n) * channels + first + lane))
    for tile in range(tiles - 1, -1, -1):
        count = min(TILE, length - tile * TILE)
        start = (sample * length + tile * TILE) * channels + first
        prepare_tile(
            u,
            delta,
            bias,
            softplus_on,
            start,
            channels,
            first,
            width,
            count,
            -TILE * channels,
            deltas,
            drives,
        )
        prepare_gradient(z, dout, start, channels, width, count, dys)
        # sums, ddrives and dexponents
        clear(sums, PLANE)
        clear(ddrives, 2 * PLANE)
        row = ((sample * groups + group) * length + tile * TILE) * states
        partial = (task * length + tile * TILE) * states
        kept = (sample * tiles + tile) * states * channels
        for n in range(0, states, STATES):
            clear(dBs, 2 * SLAB)
            for lane in range(0, width, lanes):
                column, at, slot = n * channels + first + lane, lane * TILE, n * BLOCK + lane
                recompute(
                    shift(A, column), shift(B, row + n), shift(C, row + n), weight, column,
                    shift(starts, kept + column), states, channels, count, given(z),
                    shift(deltas, at), shift(drives, at), shift(dys, at), shift(sums, at),
                    decays, befores, dCs, shift(dweights, slot), BLOCK,
                )  # fmt: skip
                retrace(
                    shift(A, column), shift(B, row + n), shift(C, row + n), weight, column,
                    states, channels, count, shift(deltas, at), shift(drives, at), shift(dys, at),
                    decays, befores, shift(ddrives, at), shift(dexponents, at), dBs,
                    shift(carried, slot), shift(dAs, slot), BLOCK,
                )  # fmt: skip
            for token in range(count):
                to, at = partial + token * states + n, token * STATES * lanes
                for total, parts in ((dB, dBs), (dC, dCs)):
                    store_totals(
                        total, to, load(parts, at), load(parts, at + lanes),
                        load(parts, at + 2 * lanes), load(parts, at + 3 * lanes),
                    )  # fmt: skip
        finish_gradient(
            u, delta, skip, z, bias, softplus_on, dout, start, channels, first, width, count,
            deltas, sums, dys, ddrives, dexponents, du, ddelta, dz, dskips, dbiases,
        )  # fmt: skip
    copy_states(dAs, dA, sample * states * channels + first, states, channels, width)
    if given(weight):
        copy_states(dweights, dweight, sample * states * channels + first, states, channels, width)
    if given(skip):
        copy_states(dskips, dskip, sample * channels + first, 1, channels, width)
    if given(bias):
        copy_states(dbiases, dbias, sample * channels + first, 1, channels, width)


@njit(nogil=True)
def prepare_gradient(z, dout, start, channels, width, count, dys):
    """Fill a tile's gradient of y, before the gate."""
    lanes = width_of(dout)
    for token in range(count):
        for lane in range(0, width, lanes):
            at = start + token * channels + lane
            prefetch(dout, at - TILE * channels)
            dy = load(dout, at)
            if given(z):
                gate = load(z, at)
                dy = dy * gate * sigmoid(gate)
            store(dys, lane * TILE + token * lanes, dy)


@njit(nogil=True)
def recompute(
    A, B, C, weight, column, starts, states, channels, count, gated,
    deltas, drives, dys, sums, decays, befores, dCs, dweights, block,
):  # fmt: skip
    """Run a tile forward again, keeping decays and the states before each token; gradients of C, weight.

    Rows of dweights lie ``block`` apart.
    """
    lanes = width_of(A)
    a0, a1, a2, a3 = load(A, 0), load(A, channels), load(A, 2 * channels), load(A, 3 * channels)
    h0, h1 = load(starts, 0), load(starts, channels)
    h2, h3 = load(starts, 2 * channels), load(starts, 3 * channels)
    weighted = given(weight)
    w0 = w1 = w2 = w3 = a0
    if weighted:
        w0, w1 = load(weight, column), load(weight, column + channels)
        w2, w3 = load(weight, column + 2 * channels), load(weight, column + 3 * channels)
    for token in range(count):
        d = load(deltas, token * lanes)
        x = load(drives, token * lanes)
        dy = load(dys, token * lanes)
        at = token * states
        to = token * STATES * lanes
        decay0, decay1, decay2, decay3 = exp2_four(d * a0, d * a1, d * a2, d * a3)
        store(decays, to, decay0)
        store(decays, to + lanes, decay1)
        store(decays, to + 2 * lanes, decay2)
        store(decays, to + 3 * lanes, decay3)
        store(befores, to, h0)
        store(befores, to + lanes, h1)
        store(befores, to + 2 * lanes, h2)
        store(befores, to + 3 * lanes, h3)
        h0 = fma(decay0, h0, x * spread(B, at))
        h1 = fma(decay1, h1, x * spread(B, at + 1))
        h2 = fma(decay2, h2, x * spread(B, at + 2))
        h3 = fma(decay3, h3, x * spread(B, at + 3))
        p0, p1, p2, p3 = h0, h1, h2, h3
        if weighted:
            store(dweights, 0, fma(dy * spread(C, at), h0, load(dweights, 0)))
            store(dweights, block, fma(dy * spread(C, at + 1), h1, load(dweights, block)))
            store(dweights, 2 * block, fma(dy * spread(C, at + 2), h2, load(dweights, 2 * block)))
            store(dweights, 3 * block, fma(dy * spread(C, at + 3), h3, load(dweights, 3 * block)))
            p0, p1, p2, p3 = h0 * w0, h1 * w1, h2 * w2, h3 * w3
        store(dCs, to, fma(p0, dy, load(dCs, to)))
        store(dCs, to + lanes, fma(p1, dy, load(dCs, to + lanes)))
        store(dCs, to + 2 * lanes, fma(p2, dy, load(dCs, to + 2 * lanes)))
        store(dCs, to + 3 * lanes, fma(p3, dy, load(dCs, to + 3 * lanes)))
        if gated:
            y = load(sums, token * lanes)
            y = fma(p0, spread(C, at), y)
            y = fma(p1, spread(C, at + 1), y)
            y = fma(p2, spread(C, at + 2), y)
            y = fma(p3, spread(C, at + 3), y)
            store(sums, token * lanes, y)


@njit(nogil=True)
def retrace(
    A, B, C, weight, column, states, channels, count, deltas, drives, dys,
    decays, befores, ddrives, dexponents, dBs, carried, dAs, block,
):  # fmt: skip
    """Take the gradients of STATES states from a tile's end to its start, in registers.

    Rows of carried and dAs lie ``block`` apart.
    """
    lanes = width_of(A)
    a0, a1, a2, a3 = load(A, 0), load(A, channels), load(A, 2 * channels), load(A, 3 * channels)
    g0, g1, g2, g3 = (
        load(carried, 0),
        load(carried, block),
        load(carried, 2 * block),
        load(carried, 3 * block),
    )
    s0, s1, s2, s3 = load(dAs, 0), load(dAs, block), load(dAs, 2 * block), load(dAs, 3 * block)
    weighted = given(weight)
    w0 = w1 = w2 = w3 = a0
    if weighted:
        w0, w1 = load(weight, column), load(weight, column + channels)
        w2, w3 = load(weight, column + 2 * channels), load(weight, column + 3 * channels)
    for back in range(count):
        token = count - 1 - back
        d = load(deltas, token * lanes)
        x = load(drives, token * lanes)
        dy = load(dys, token * lanes)
        dx = load(ddrives, token * lanes)
        de = load(dexponents, token * lanes)
        at = token * states
        to = token * STATES * lanes
        if weighted:
            g0 = fma(dy * w0, spread(C, at), g0)
            g1 = fma(dy * w1, spread(C, at + 1), g1)
            g2 = fma(dy * w2, spread(C, at + 2), g2)
            g3 = fma(dy * w3, spread(C, at + 3), g3)
        else:
            g0 = fma(dy, spread(C, at), g0)
            g1 = fma(dy, spread(C, at + 1), g1)
            g2 = fma(dy, spread(C, at + 2), g2)
            g3 = fma(dy, spread(C, at + 3), g3)
        dx = fma(g0, spread(B, at), dx)
        dx = fma(g1, spread(B, at + 1), dx)
        dx = fma(g2, spread(B, at + 2), dx)
        dx = fma(g3, spread(B, at + 3), dx)
        store(dBs, to, fma(g0, x, load(dBs, to)))
        store(dBs, to + lanes, fma(g1, x, load(dBs, to + lanes)))
        store(dBs, to + 2 * lanes, fma(g2, x, load(dBs, to + 2 * lanes)))
        store(dBs, to + 3 * lanes, fma(g3, x, load(dBs, to + 3 * lanes)))
        g0 = g0 * load(decays, to)
        g1 = g1 * load(decays, to + lanes)
        g2 = g2 * load(decays, to + 2 * lanes)
        g3 = g3 * load(decays, to + 3 * lanes)
        q0 = g0 * load(befores, to)
        q1 = g1 * load(befores, to + lanes)
        q2 = g2 * load(befores, to + 2 * lanes)
        q3 = g3 * load(befores, to + 3 * lanes)
        de = fma(q0, a0, de)
        de = fma(q1, a1, de)
        de = fma(q2, a2, de)
        de = fma(q3, a3, de)
        s0 = fma(q0, d, s0)
        s1 = fma(q1, d, s1)
        s2 = fma(q2, d, s2)
        s3 = fma(q3, d, s3)
        store(ddrives, token * lanes, dx)
        store(dexponents, token * lanes, de)
    store(carried, 0, g0)
    store(carried, block, g1)
    store(carried, 2 * block, g2)
    store(carried, 3 * block, g3)
    store(dAs, 0, s0)
    store(dAs, block, s1)
    store(dAs, 2 * block, s2)
    store(dAs, 3 * block, s3)


@njit(nogil=True)
def finish_gradient(
    u, delta, skip, z, bias, softplus_on, dout, start, channels, first, width, count,
    deltas, sums, dys, ddrives, dexponents, du, ddelta, dz, dskips, dbiases,
):  # fmt: skip
    """Gradients of a tile's u, delta and z; the tile's share of those of the skip and the bias."""
    lanes = width_of(u)
    for token in range(count):
        for lane in range(0, width, lanes):
            at = start + token * channels + lane
            to = lane * TILE + token * lanes
            x, dy, dx = load(u, at), load(dys, to), load(ddrives, to)
            y = load(sums, to)
            gradient = dx * load(deltas, to)
            if given(skip):
                d = load(skip, first + lane)
                gradient = fma(dy, d, gradient)
                y = fma(x, d, y)
                store(dskips, lane, fma(dy, x, load(dskips, lane)))
            store(du, at, gradient)
            if given(z):
                gate = load(z, at)
                s = sigmoid(gate)
                # d(z sigmoid(z))/dz = s + z s (1 - s)
                store(dz, at, load(dout, at) * y * fma(gate * s, number(u, 1.0) - s, s))
            slope = fma(dx, x, load(dexponents, to) * number(u, LN2))
            if softplus_on:
                raw = load(delta, at)
                if given(bias):
                    raw = raw + load(bias, first + lane)
                slope = slope * sigmoid(raw)
            store(ddelta, at, slope)
            if given(bias):
                store(dbiases, lane, load(dbiases, lane) + slope)
