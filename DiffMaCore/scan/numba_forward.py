"""Forward kernel of the Numba scan: one task is one sample and one block of channels, over all tokens.

All arrays are flat and contiguous; channels lie next to each other (token-major), in whole registers.
An empty array stands for an option that is not used.
"""

# mypy: ignore-errors
# (The kernels are typed by Numba, whose intrinsics take fewer arguments than their definitions.)

from __future__ import annotations

import numpy as np
from numba import njit

from .numba_lanes import REGISTER_BYTES, exp2, fma, load, prefetch, sigmoid, softplus, spread, store

# Tokens whose intermediate values stay in the first-level cache; a state is kept for every tile.
TILE = 32
# Channels of a task: a row of a tile is then four cache lines, so that memory is read in long runs.
BLOCK = 64
# States that are advanced together, in registers.
STATES = 4


@njit(nogil=True)
def aligned(count, like):
    """Uninitialised array of another's type that starts on a cache line."""
    buffer = np.empty(count * like.itemsize + 64, np.uint8)
    start = (-buffer.ctypes.data) % 64
    return buffer[start : start + count * like.itemsize].view(like.dtype)


@njit(nogil=True)
def place(task, groups, per_group):
    """Sample, group, first channel and number of channels of a task."""
    blocks = (per_group + BLOCK - 1) // BLOCK
    block = task % blocks
    group = (task // blocks) % groups
    sample = task // (blocks * groups)
    return sample, group, group * per_group + block * BLOCK, min(BLOCK, per_group - block * BLOCK)


@njit(nogil=True)
def prepare_tile(u, delta, bias, softplus_on, row, channels, first, width, count, deltas, drives):
    """Fill a tile's delta (bias added, softplus taken) and delta * u; rows of BLOCK channels."""
    lanes = REGISTER_BYTES // u.itemsize
    for token in range(count):
        for lane in range(0, width, lanes):
            at = (row + token) * channels + first + lane
            d = load(delta, at)
            if bias.size > 0:
                d = d + load(bias, first + lane)
            if softplus_on:
                d = softplus(d)
            prefetch(u, at + TILE * channels)
            prefetch(delta, at + TILE * channels)
            store(deltas, lane * TILE + token * lanes, d)
            store(drives, lane * TILE + token * lanes, d * load(u, at))


@njit(nogil=True)
def forward_task(task, u, delta, A, B, C, weight, skip, z, bias, softplus_on, sizes, out, starts, last):
    """Scan one block of channels.

    u, delta, z, out (B, L, D); A, weight (N, D), A in units of log2(e); B, C (B, G, L, N);
    skip, bias (D,); starts (B, tiles, N, D): the state before each tile; last (B, N, D).
    y_t = sum over n of C weight h, where weight is 1 unless given.
    """
    length, channels, groups, states = sizes
    sample, group, first, width = place(task, groups, channels // groups)
    lanes = REGISTER_BYTES // u.itemsize
    tiles = (length + TILE - 1) // TILE
    deltas = aligned(TILE * BLOCK, u)
    drives = aligned(TILE * BLOCK, u)
    sums = aligned(TILE * BLOCK, u)
    state = aligned(states * BLOCK, u)
    state[:] = 0
    for tile in range(tiles):
        count = min(TILE, length - tile * TILE)
        row = sample * length + tile * TILE
        if starts.size > 0:
            for n in range(states):
                for lane in range(0, width, lanes):
                    kept = ((sample * tiles + tile) * states + n) * channels + first + lane
                    store(starts, kept, load(state, n * BLOCK + lane))
        prepare_tile(u, delta, bias, softplus_on, row, channels, first, width, count, deltas, drives)
        sums[:] = 0
        rows = ((sample * groups + group) * length + tile * TILE) * states
        for lane in range(0, width, lanes):
            for n in range(0, states, STATES):
                advance(A, B, C, weight, rows + n, states, n * channels + first + lane, channels, lane, count,
                        deltas, drives, sums, state, n * BLOCK + lane)
        finish_tile(u, skip, z, row, channels, first, width, count, sums, out)
    for n in range(states):
        for lane in range(0, width, lanes):
            store(last, (sample * states + n) * channels + first + lane, load(state, n * BLOCK + lane))


@njit(nogil=True)
def advance(A, B, C, weight, row, states, column, channels, lane, count, deltas, drives, sums, state, kept):
    """Take STATES states of one register of channels through a tile, in registers."""
    lanes = REGISTER_BYTES // deltas.itemsize
    a0, a1 = load(A, column), load(A, column + channels)
    a2, a3 = load(A, column + 2 * channels), load(A, column + 3 * channels)
    h0, h1 = load(state, kept), load(state, kept + BLOCK)
    h2, h3 = load(state, kept + 2 * BLOCK), load(state, kept + 3 * BLOCK)
    weighted = weight.size > 0
    w0 = w1 = w2 = w3 = a0
    if weighted:
        w0, w1 = load(weight, column), load(weight, column + channels)
        w2, w3 = load(weight, column + 2 * channels), load(weight, column + 3 * channels)
    for token in range(count):
        d = load(deltas, lane * TILE + token * lanes)
        x = load(drives, lane * TILE + token * lanes)
        y = load(sums, lane * TILE + token * lanes)
        at = row + token * states
        h0 = fma(exp2(d * a0), h0, x * spread(B, at))
        h1 = fma(exp2(d * a1), h1, x * spread(B, at + 1))
        h2 = fma(exp2(d * a2), h2, x * spread(B, at + 2))
        h3 = fma(exp2(d * a3), h3, x * spread(B, at + 3))
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
        store(sums, lane * TILE + token * lanes, y)
    store(state, kept, h0)
    store(state, kept + BLOCK, h1)
    store(state, kept + 2 * BLOCK, h2)
    store(state, kept + 3 * BLOCK, h3)


@njit(nogil=True)
def finish_tile(u, skip, z, row, channels, first, width, count, sums, out):
    """Add the skip, gate, and write a tile's rows."""
    lanes = REGISTER_BYTES // u.itemsize
    for token in range(count):
        for lane in range(0, width, lanes):
            at = (row + token) * channels + first + lane
            y = load(sums, lane * TILE + token * lanes)
            if skip.size > 0:
                y = fma(load(u, at), load(skip, first + lane), y)
            if z.size > 0:
                gate = load(z, at)
                y = y * gate * sigmoid(gate)
            store(out, at, y)
