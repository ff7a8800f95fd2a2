"""Forward kernel of the Numba scan: one task is one sample and one block of channels, over all tokens.

All memory is contiguous; channels lie next to each other (token-major), in whole registers. The null
pointer stands for an option that is not used.
"""

# mypy: ignore-errors
# (The kernels are typed by Numba, whose intrinsics take fewer arguments than their definitions.)

from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan.numba_lanes import (
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
    softplus,
    spread,
    steps,
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

    u, delta, z, out (B, L, D); A (N, D), in units of log2(e); B, C (B, G, L, N); skip, bias (D,);
    starts (B, tiles, N, D): the state before each tile; last (B, N, D).
    """
    u, delta, A, B, C, skip, z, bias, out, starts, last, scratch = data
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
                    shift(A, n * channels + first + lane), shift(B, row + n), shift(C, row + n), states, channels,
                    count, shift(deltas, at), shift(drives, at), shift(sums, at),
                    shift(state, n * BLOCK + lane), BLOCK,
                )  # fmt: skip
        finish_tile(u, skip, z, start, channels, first, width, count, sums, out)
    copy_states(state, last, sample * states * channels + first, states, channels, width)


@njit(nogil=True)
def copy_states(state, target, start, states, channels, width):
    for n in range(states):
        for lane in range(0, width, width_of(state)):
            store(target, start + n * channels + lane, load(state, n * BLOCK + lane))


@njit(nogil=True)
def advance(A, B, C, states, channels, count, deltas, drives, sums, state, row):
    """Take STATES states of one register of channels through a tile, in registers.

    Rows of A lie ``channels`` apart, those of B and C ``states``, of the state ``row``.
    """
    lanes = width_of(A)
    a, h = load(A, steps(0, channels)), load(state, steps(0, row))
    for token in range(count):
        own, weights = token * lanes, steps(token * states, 1)
        decay = exp2(multiply(a, load(deltas, own)))
        h = fma(decay, h, multiply(spread(B, weights), load(drives, own)))
        store(sums, own, dot(h, spread(C, weights), load(sums, own)))
    store(state, steps(0, row), h)


@njit(nogil=True)
def finish_tile(u, skip, z, start, channels, first, width, count, sums, out):
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
