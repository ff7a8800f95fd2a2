"""Backward kernel of the Numba scan: tasks, layout and options as in the forward kernel.

The tiles are taken from the last to the first. A tile's states are recomputed from the state kept
before it. Sums over channels (B, C) and over samples (A, D, bias) are left as one partial sum a task,
to be added up in a fixed order, so that the result does not depend on the threads.
"""

# mypy: ignore-errors
# (The kernels are typed by Numba, whose intrinsics take fewer arguments than their definitions.)

from __future__ import annotations

from numba import njit

from .numba_forward import BLOCK, STATES, TILE, aligned, place, prepare_tile
from .numba_lanes import LN2, REGISTER_BYTES, exp2, fma, load, number, sigmoid, spread, store, total


@njit(nogil=True)
def backward_task(
    task, u, delta, A, B, C, weight, skip, z, bias, softplus_on, sizes, starts, dout, dlast,
    du, ddelta, dz, dA, dweight, dskip, dbias, dB, dC,
):
    """Gradients of one block of channels.

    u, delta, z, dout, du, ddelta, dz (B, L, D); A, weight (N, D); dlast, dA, dweight (B, N, D);
    dskip, dbias (B, D); B, C (B, G, L, N); dB, dC (B, G, blocks, L, N).
    """
    length, channels, groups, states = sizes
    sample, group, first, width = place(task, groups, channels // groups)
    lanes = REGISTER_BYTES // u.itemsize
    tiles = (length + TILE - 1) // TILE
    deltas = aligned(TILE * BLOCK, u)
    drives = aligned(TILE * BLOCK, u)
    sums = aligned(TILE * BLOCK, u)
    dys = aligned(TILE * BLOCK, u)
    ddrives = aligned(TILE * BLOCK, u)
    dexponents = aligned(TILE * BLOCK, u)
    decays = aligned(TILE * STATES * lanes, u)
    befores = aligned(TILE * STATES * lanes, u)
    dBs = aligned(TILE * STATES * lanes, u)
    dCs = aligned(TILE * STATES * lanes, u)
    carried = aligned(states * BLOCK, u)
    dAs = aligned(states * BLOCK, u)
    dweights = aligned(states * BLOCK, u)
    dskips = aligned(BLOCK, u)
    dbiases = aligned(BLOCK, u)
    dAs[:] = 0
    dweights[:] = 0
    dskips[:] = 0
    dbiases[:] = 0
    for n in range(states):
        for lane in range(0, width, lanes):
            store(carried, n * BLOCK + lane, load(dlast, (sample * states + n) * channels + first + lane))
    for tile in range(tiles - 1, -1, -1):
        count = min(TILE, length - tile * TILE)
        row = sample * length + tile * TILE
        prepare_tile(u, delta, bias, softplus_on, row, channels, first, width, count, deltas, drives)
        prepare_gradient(z, dout, row, channels, first, width, count, dys)
        sums[:] = 0
        ddrives[:] = 0
        dexponents[:] = 0
        rows = ((sample * groups + group) * length + tile * TILE) * states
        partial = (task * length + tile * TILE) * states
        kept = (sample * tiles + tile) * states * channels
        for n in range(0, states, STATES):
            dBs[:] = 0
            dCs[:] = 0
            for lane in range(0, width, lanes):
                column = n * channels + first + lane
                recompute(A, B, C, weight, starts, rows + n, states, column, channels, kept, lane, count,
                          deltas, drives, dys, sums, decays, befores, dCs, dweights, n * BLOCK + lane)
                retrace(A, B, C, weight, rows + n, states, column, channels, lane, count, deltas, drives, dys,
                        decays, befores, ddrives, dexponents, dBs, carried, dAs, n * BLOCK + lane)
            for token in range(count):
                for k in range(STATES):
                    at = (token * STATES + k) * lanes
                    dB[partial + token * states + n + k] = total(load(dBs, at))
                    dC[partial + token * states + n + k] = total(load(dCs, at))
        finish_gradient(u, delta, skip, z, bias, softplus_on, dout, row, channels, first, width, count,
                        deltas, sums, dys, ddrives, dexponents, du, ddelta, dz, dskips, dbiases)
    for lane in range(0, width, lanes):
        if skip.size > 0:
            store(dskip, sample * channels + first + lane, load(dskips, lane))
        if bias.size > 0:
            store(dbias, sample * channels + first + lane, load(dbiases, lane))
        for n in range(states):
            at = (sample * states + n) * channels + first + lane
            store(dA, at, load(dAs, n * BLOCK + lane))
            if weight.size > 0:
                store(dweight, at, load(dweights, n * BLOCK + lane))


@njit(nogil=True)
def prepare_gradient(z, dout, row, channels, first, width, count, dys):
    """Fill a tile's gradient of y, before the gate."""
    lanes = REGISTER_BYTES // dout.itemsize
    for token in range(count):
        for lane in range(0, width, lanes):
            at = (row + token) * channels + first + lane
            dy = load(dout, at)
            if z.size > 0:
                gate = load(z, at)
                dy = dy * gate * sigmoid(gate)
            store(dys, lane * TILE + token * lanes, dy)


@njit(nogil=True)
def recompute(
    A, B, C, weight, starts, row, states, column, channels, kept, lane, count,
    deltas, drives, dys, sums, decays, befores, dCs, dweights, slot,
):
    """Run a tile forward again, keeping decays and the states before each token; gradients of C, weight."""
    lanes = REGISTER_BYTES // deltas.itemsize
    a0, a1 = load(A, column), load(A, column + channels)
    a2, a3 = load(A, column + 2 * channels), load(A, column + 3 * channels)
    h0, h1 = load(starts, kept + column), load(starts, kept + column + channels)
    h2, h3 = load(starts, kept + column + 2 * channels), load(starts, kept + column + 3 * channels)
    weighted = weight.size > 0
    w0 = w1 = w2 = w3 = a0
    if weighted:
        w0, w1 = load(weight, column), load(weight, column + channels)
        w2, w3 = load(weight, column + 2 * channels), load(weight, column + 3 * channels)
    for token in range(count):
        d = load(deltas, lane * TILE + token * lanes)
        x = load(drives, lane * TILE + token * lanes)
        dy = load(dys, lane * TILE + token * lanes)
        y = load(sums, lane * TILE + token * lanes)
        at = row + token * states
        to = token * STATES * lanes
        decay0, decay1, decay2, decay3 = exp2(d * a0), exp2(d * a1), exp2(d * a2), exp2(d * a3)
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
            store(dweights, slot, fma(dy * spread(C, at), h0, load(dweights, slot)))
            store(dweights, slot + BLOCK, fma(dy * spread(C, at + 1), h1, load(dweights, slot + BLOCK)))
            store(dweights, slot + 2 * BLOCK, fma(dy * spread(C, at + 2), h2, load(dweights, slot + 2 * BLOCK)))
            store(dweights, slot + 3 * BLOCK, fma(dy * spread(C, at + 3), h3, load(dweights, slot + 3 * BLOCK)))
            p0, p1, p2, p3 = h0 * w0, h1 * w1, h2 * w2, h3 * w3
        store(dCs, to, fma(p0, dy, load(dCs, to)))
        store(dCs, to + lanes, fma(p1, dy, load(dCs, to + lanes)))
        store(dCs, to + 2 * lanes, fma(p2, dy, load(dCs, to + 2 * lanes)))
        store(dCs, to + 3 * lanes, fma(p3, dy, load(dCs, to + 3 * lanes)))
        y = fma(p0, spread(C, at), y)
        y = fma(p1, spread(C, at + 1), y)
        y = fma(p2, spread(C, at + 2), y)
        y = fma(p3, spread(C, at + 3), y)
        store(sums, lane * TILE + token * lanes, y)


@njit(nogil=True)
def retrace(
    A, B, C, weight, row, states, column, channels, lane, count, deltas, drives, dys,
    decays, befores, ddrives, dexponents, dBs, carried, dAs, slot,
):
    """Take the gradients of STATES states from a tile's end to its start, in registers."""
    lanes = REGISTER_BYTES // deltas.itemsize
    a0, a1 = load(A, column), load(A, column + channels)
    a2, a3 = load(A, column + 2 * channels), load(A, column + 3 * channels)
    g0, g1 = load(carried, slot), load(carried, slot + BLOCK)
    g2, g3 = load(carried, slot + 2 * BLOCK), load(carried, slot + 3 * BLOCK)
    s0, s1 = load(dAs, slot), load(dAs, slot + BLOCK)
    s2, s3 = load(dAs, slot + 2 * BLOCK), load(dAs, slot + 3 * BLOCK)
    weighted = weight.size > 0
    w0 = w1 = w2 = w3 = a0
    if weighted:
        w0, w1 = load(weight, column), load(weight, column + channels)
        w2, w3 = load(weight, column + 2 * channels), load(weight, column + 3 * channels)
    for token in range(count - 1, -1, -1):
        d = load(deltas, lane * TILE + token * lanes)
        x = load(drives, lane * TILE + token * lanes)
        dy = load(dys, lane * TILE + token * lanes)
        dx = load(ddrives, lane * TILE + token * lanes)
        de = load(dexponents, lane * TILE + token * lanes)
        at = row + token * states
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
        store(ddrives, lane * TILE + token * lanes, dx)
        store(dexponents, lane * TILE + token * lanes, de)
    store(carried, slot, g0)
    store(carried, slot + BLOCK, g1)
    store(carried, slot + 2 * BLOCK, g2)
    store(carried, slot + 3 * BLOCK, g3)
    store(dAs, slot, s0)
    store(dAs, slot + BLOCK, s1)
    store(dAs, slot + 2 * BLOCK, s2)
    store(dAs, slot + 3 * BLOCK, s3)


@njit(nogil=True)
def finish_gradient(
    u, delta, skip, z, bias, softplus_on, dout, row, channels, first, width, count,
    deltas, sums, dys, ddrives, dexponents, du, ddelta, dz, dskips, dbiases,
):
    """Gradients of a tile's u, delta and z; the tile's share of those of the skip and the bias."""
    lanes = REGISTER_BYTES // u.itemsize
    for token in range(count):
        for lane in range(0, width, lanes):
            at = (row + token) * channels + first + lane
            to = lane * TILE + token * lanes
            x, dy, dx = load(u, at), load(dys, to), load(ddrives, to)
            y = load(sums, to)
            gradient = dx * load(deltas, to)
            if skip.size > 0:
                d = load(skip, first + lane)
                gradient = fma(dy, d, gradient)
                y = fma(x, d, y)
                store(dskips, lane, fma(dy, x, load(dskips, lane)))
            store(du, at, gradient)
            if z.size > 0:
                gate = load(z, at)
                s = sigmoid(gate)
                # d(z sigmoid(z))/dz = s + z s (1 - s)
                store(dz, at, load(dout, at) * y * fma(gate * s, number(u, 1.0) - s, s))
            slope = fma(dx, x, load(dexponents, to) * number(u, LN2))
            if softplus_on:
                raw = load(delta, at)
                if bias.size > 0:
                    raw = raw + load(bias, first + lane)
                slope = slope * sigmoid(raw)
            store(ddelta, at, slope)
            if bias.size > 0:
                store(dbiases, lane, load(dbiases, lane) + slope)
