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
    dot,
    exp2,
    fma,
    given,
    load,
    multiply,
    number,
    prefetch,
    shift,
    sigmoid,
    spread,
    steps,
    store,
    store_totals,
    width_of,
)

# A tile's values of one register of channels and STATES states.
SLAB = TILE * STATES * 16


def backward_scratch(states: int) -> int:
    return 6 * PLANE + 4 * SLAB + 2 * states * BLOCK + 2 * BLOCK


@njit(nogil=True)
def backward_task(task, data, softplus_on, sizes):
    """Gradients of one block of channels.

    u, delta, z, dout, du, ddelta, dz (B, L, D); A (N, D); dlast, dA (B, N, D); dskip, dbias (B, D);
    B, C (B, G, L, N); dB, dC (B, G, blocks, L, N).
    """
    (
        u, delta, A, B, C, skip, z, bias, starts, dout, dlast, du, ddelta, dz, dA, dskip, dbias, dB, dC, scratch,
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
    dAs = shift(carried, states * BLOCK)
    dskips = shift(dAs, states * BLOCK)
    dbiases = shift(dskips, BLOCK)
    clear(dAs, states * BLOCK + 2 * BLOCK)  # and what follows: the sums over all tokens
    for n in range(states):
        for lane in range(0, width, lanes):
            store(carried, n * BLOCK + lane, load(dlast, (sample * states + n) * channels + first + lane))
    for tile in range(tiles - 1, -1, -1):
        count = min(TILE, length - tile * TILE)
        start = (sample * length + tile * TILE) * channels + first
        ahead = -TILE * channels
        prepare_tile(u, delta, bias, softplus_on, start, channels, first, width, count, ahead, deltas, drives)
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
                    shift(A, column), shift(B, row + n), shift(C, row + n), shift(starts, kept + column), states,
                    channels, count, given(z), shift(deltas, at), shift(drives, at), shift(dys, at), shift(sums, at),
                    decays, befores, dCs,
                )  # fmt: skip
                retrace(
                    shift(A, column), shift(B, row + n), shift(C, row + n), states, channels, count,
                    shift(deltas, at), shift(drives, at), shift(dys, at), decays, befores,
                    shift(ddrives, at), shift(dexponents, at), dBs, shift(carried, slot), shift(dAs, slot), BLOCK,
                )  # fmt: skip
            for token in range(count):
                to, at = partial + token * states + n, steps(token * STATES * lanes, lanes)
                store_totals(dB, to, load(dBs, at))
                store_totals(dC, to, load(dCs, at))
        finish_gradient(
            u, delta, skip, z, bias, softplus_on, dout, start, channels, first, width, count,
            deltas, sums, dys, ddrives, dexponents, du, ddelta, dz, dskips, dbiases,
        )  # fmt: skip
    copy_states(dAs, dA, sample * states * channels + first, states, channels, width)
    if given(skip):
        copy_states(dskips, dskip, sample * channels + first, 1, channels, width)
    if given(bias):
        copy_states(dbiases, dbias, sample * channels + first, 1, channels, width)


@njit(nogil=True)
def prepare_gradient(z, dout, start, channels, width, count, dys):
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
def recompute(A, B, C, starts, states, channels, count, gated, deltas, drives, dys, sums, decays, befores, dCs):
    """Run a tile forward again, keeping decays and the states before each token; gradients of C."""
    lanes = width_of(A)
    a, h = load(A, steps(0, channels)), load(starts, steps(0, channels))
    for token in range(count):
        own, weights, four = token * lanes, steps(token * states, 1), steps(token * STATES * lanes, lanes)
        decay = exp2(multiply(a, load(deltas, own)))
        store(decays, four, decay)
        store(befores, four, h)
        h = fma(decay, h, multiply(spread(B, weights), load(drives, own)))
        store(dCs, four, fma(h, load(dys, own), load(dCs, four)))
        if gated:
            store(sums, own, dot(h, spread(C, weights), load(sums, own)))


@njit(nogil=True)
def retrace(
    A, B, C, states, channels, count, deltas, drives, dys, decays, befores, ddrives, dexponents, dBs,
    carried, dAs, block,
):  # fmt: skip
    """Take the gradients of STATES states from a tile's end to its start, in registers.

    Rows of carried and dAs lie ``block`` apart.
    """
    lanes = width_of(A)
    a = load(A, steps(0, channels))
    g, total = load(carried, steps(0, block)), load(dAs, steps(0, block))
    for back in range(count):
        token = count - 1 - back
        own, weights, four = token * lanes, steps(token * states, 1), steps(token * STATES * lanes, lanes)
        g = fma(spread(C, weights), load(dys, own), g)
        store(ddrives, own, dot(g, spread(B, weights), load(ddrives, own)))
        store(dBs, four, fma(g, load(drives, own), load(dBs, four)))
        g = multiply(g, load(decays, four))
        q = multiply(g, load(befores, four))
        store(dexponents, own, dot(q, a, load(dexponents, own)))
        total = fma(q, load(deltas, own), total)
    store(carried, steps(0, block), g)
    store(dAs, steps(0, block), total)


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
