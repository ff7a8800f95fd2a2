"""Forward kernel of the Numba scan: one task is one sample and one block of channels, over all tokens.

All memory is contiguous; channels lie next to each other (token-major), in whole registers. The null
pointer stands for an option that is not used.
"""

# mypy: ignore-errors
# (The kernels are typed by Numba, whose intrinsics take fewer arguments than their definitions.)

from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan.numba_lanes import (
    exp2_four,
    fma,
    given,
    load,
    number,
    prefetch,
    shift,
    sigmoid,
    softplus,
    spread,
    store,
    width_of,
)

# Tokens whose intermediate values stay in the caches; a state is kept for every tile.
TILE = 16
# Most channels of a task: the wider, the longer the runs in which memory is read.
BLOCK = 256
# States that are advanced together, in registers.
STATES = 4
# A tile's values of a block: one register of channels after the other, each over all tokens.
PLANE = TILE * BLOCK


def forward_scratch(states: int) -> int:
    """Numbers of scratch memory a forward task needs."""
    return 3 * PLANE + states * BLOCK


@njit(nogil=True)
def place(task, groups, per_group, block):
    """Sample, group, first channel and number of channels of a task, which has ``block`` of them at most."""
    blocks = (per_group + block - 1) // block
    first = task % blocks * block
    group = (task // blocks) % groups
    sample = task // (blocks * groups)
    return sample, group, group * per_group + first, min(block, per_group - first)


@njit(nogil=True)
def clear(pointer, count):
    """Fill whole registers with zeros."""
    for at in range(0, count, width_of(pointer)):
        store(pointer, at, number(pointer, 0.0))


@njit(nogil=True)
def prepare_tile(u, delta, bias, softplus_on, start, channels, first, width, count, ahead, deltas, drives):
    """Fill a tile's delta (bias added, softplus taken) and delta * u; `ahead` is where the next tile lies."""
    lanes = width_of(u)
    for token in range(count):
        for lane in range(0, width, lanes):
            at = start + token * channels + lane
            prefetch(u, at + ahead)
            prefetch(delta, at + ahead)
            d = load(delta, at)
            if given(bias):
                d = d + load(bias, first + lane)
            if softplus_on:
                d = softplus(d)
            to = lane * TILE + token * lanes
            store(deltas, to, d)
            store(drives, to, d * load(u, at))


@njit(nogil=True)
def forward_task(task, data, softplus_on, sizes):
    """Scan one block of channels.

    u, delta, z, out (B, L, D); A, weight (N, D), A in units of log2(e); B, C (B, G, L, N);
    skip, bias (D,); starts (B, tiles, N, D): the state before each tile; last (B, N, D).
    y_t = sum over n of C weight h, where weight is 1 unless given.
    """
    u, delta, A, B, C, weight, skip, z, bias, out, starts, last, scratch = data
    length, channels, groups, states, block = sizes
    sample, group, first, width = place(task, groups, channels // groups, block)
    lanes = width_of(u)
    tiles = (length + TILE - 1) // TILE
    deltas, drives, sums = scratch, shift(scratch, PLANE), shift(scratch, 2 * PLANE)
    state = shift(scratch, 3 * PLANE)
    clear(state, states * BLOCK)
    for tile in range(tiles):
        count = min(TILE, length - tile * TILE)
        start = (sample * length + tile * TILE) * channels + first
        if given(starts):
            kept = (sample * tiles + tile) * states * channels + first
            copy_states(state, starts, kept, states, channels, width)
        prepare_tile(u, delta, bias, softplus_on, start, channels, first, width, count, TILE * channels, deltas, drives)
        clear(sums, PLANE)
        row = ((sample * groups + group) * length + tile * TILE) * states
        for lane in range(0, width, lanes):
            at = lane * TILE
            for n in range(0, states, STATES):
                advance(
                    shift(A, n * channels + first + lane), shift(B, row + n), shift(C, row + n),
                    weight, n * channels + first + lane, states, channels, count,
                    shift(deltas, at), shift(drives, at), shift(sums, at), shift(state, n * BLOCK + lane), BLOCK,
                )  # fmt: skip
        finish_tile(u, skip, z, start, channels, first, width, count, sums, out)
    copy_states(state, last, sample * states * channels + first, states, channels, width)


@njit(nogil=True)
def copy_states(state, target, start, states, channels, width):
    """Write a block's states to rows of all channels."""
    for n in range(states):
        for lane in range(0, width, width_of(state)):
            store(target, start + n * channels + lane, load(state, n * BLOCK + lane))


@njit(nogil=True)
def advance(A, B, C, weight, column, states, channels, count, deltas, drives, sums, state, row):
    """Take STATES states of one register of channels through a tile, in registers.

    Rows of A and weight lie ``channels`` apart, those of B and C ``states``, of the state ``row``.
    """
    lanes = width_of(A)
    a0, a1, a2, a3 = load(A, 0), load(A, channels), load(A, 2 * channels), load(A, 3 * channels)
    h0, h1, h2, h3 = load(state, 0), load(state, row), load(state, 2 * row), load(state, 3 * row)
    weighted = given(weight)
    w0 = w1 = w2 = w3 = a0
    if weighted:
        w0, w1 = load(weight, column), load(weight, column + channels)
        w2, w3 = load(weight, column + 2 * channels), load(weight, column + 3 * channels)
    for token in range(count):
        d = load(deltas, token * lanes)
        x = load(drives, token * lanes)
        y = load(sums, token * lanes)
        at = token * states
        decay0, decay1, decay2, decay3 = exp2_four(d * a0, d * a1, d * a2, d * a3)
        h0 = fma(decay0, h0, x * spread(B, at))
        h1 = fma(decay1, h1, x * spread(B, at + 1))
        h2 = fma(decay2, h2, x * spread(B, at + 2))
        h3 = fma(decay3, h3, x * spread(B, at + 3))
        if weighted:
            y = fma(h0 * w0, spread(C, at), y)
            y = fma(h1 * w1, spread(C, at + 1), y)
            y = fma(h2 * w2, spread(C, at + 2), y)
            y = fma(h3 * w3, spread(C, at + 3), y)
        else:
            y = fma(h0, spread(C, at), y)
            y = fma(h1, spread(C, at + 1), y)
            y = fma(h2, spread(C, at + 2), y)
            y = fma(h3, spread(C, at + 3), y)
        store(sums, token * lanes, y)
    store(state, 0, h0)
    store(state, row, h1)
    store(state, 2 * row, h2)
    store(state, 3 * row, h3)


@njit(nogil=True)
def finish_tile(u, skip, z, start, channels, first, width, count, sums, out):
    """Add the skip, gate, and write a tile's rows."""
    lanes = width_of(u)
    for token in range(count):
        for lane in range(0, width, lanes):
            at = start + token * channels + lane
            y = load(sums, lane * TILE + token * lanes)
            if given(skip):
                y = fma(load(u, at), load(skip, first + lane), y)
            if given(z):
                gate = load(z, at)
                y = y * gate * sigmoid(gate)
            store(out, at, y)
