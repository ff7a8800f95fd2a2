"""Numba kernels of the spiral scan of a block's two Mambas: what lies between their matrix products.

One task takes one sample of one branch along one or more orders, tile by tile: a tile of tokens is gathered and
convolved, projected to steps, B and C, and scanned, all in memory of the task's own that stays in its core's caches.
Pointers lead to contiguous float32 memory; S is the number of samples, K of orders, L of tokens, E the inner width, R
the rank of the steps' projection, N the states, C the columns (R + 2N, and zeros up to whole pairs of registers).
``order`` is (K, L), flat: raster indices in scan order.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan import numba_forward, numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_forward import STATES, advance, clear
from DiffMaCore.ops.scan.numba_lanes import (
    REGISTER_BYTES,
    fma,
    given,
    load,
    multiply,
    number,
    pointers,
    prefetch,
    shift,
    sigmoid,
    softplus,
    spread,
    steps,
    store,
    subtract,
)

LANES = REGISTER_BYTES // 4
SOURCES = source_digest(numba_lanes, numba_forward)
TAPS = 4  # of the convolution
TOKENS = 30  # of a tile: five times the six that are multiplied at once
ROOM = 32  # tokens of a plane: whole fours
PAIR = 2 * LANES  # columns that are multiplied at once
RUN = 4  # registers of channels that are multiplied before the next: their weights stay in the first cache
AHEAD = 2 * LANES  # channels of a row that are asked for early
PLANE = ROOM * LANES  # numbers of one register of channels in a tile
PART = 1 << 14  # numbers that a task of the gate takes


def scratch_size(inner: int, states: int, columns: int) -> int:
    return inner * ROOM + TOKENS * columns + 4 * PLANE + inner * states


@njit(nogil=True)
def scan_task(task, data, order, sizes):
    """The sum of some orders' scans of one sample of one branch, in raster order.

    x0, x1 (S, L, E) are what the branches scan; taps (2, TAPS, E) and tap_bias (2, E) convolve it; the columns come by
    weights (2, C / PAIR, E, PAIR): steps before ``rise`` (2, E / PAIR, R, PAIR) and ``bias`` (2, E), B and C;
    A (2, E / lanes, N, lanes), in units of log2(e); skip (2, E); out (2, S, K / together, L, E). Training also keeps
    the columns (2, S, K, L, C) and the states before every tile (2, S, K, tiles, E / lanes, N, lanes).
    """
    x0, x1, taps, tap_bias, weights, rise, bias, A, skip, out, kept_rows, kept_states, scratch = data
    orders, together, samples, length, inner, rank, states, columns = sizes
    parts = orders // together
    row, part = task // parts, task % parts
    branch, sample = row // samples, row % samples
    x = shift(x0 if branch == 0 else x1, sample * length * inner)
    taps, tap_bias = shift(taps, branch * TAPS * inner), shift(tap_bias, branch * inner)
    weights = shift(weights, branch * inner * columns)
    rise, bias = shift(rise, branch * rank * inner), shift(bias, branch * inner)
    A, skip = shift(A, branch * states * inner), shift(skip, branch * inner)
    out = shift(out, task * length * inner)
    tile, rows = scratch, shift(scratch, inner * ROOM)
    deltas = shift(rows, TOKENS * columns)
    drives = shift(deltas, 2 * PLANE)
    state = shift(drives, 2 * PLANE)
    for k in range(part * together, (part + 1) * together):
        place = k * length
        clear(state, inner * states)
        for start in range(0, length, TOKENS):
            count = min(TOKENS, length - start)
            if given(kept_states):
                sequence = row * orders + k
                rows = shift(kept_rows, (sequence * length + start) * columns)
                tiles = (length + TOKENS - 1) // TOKENS
                copy(state, shift(kept_states, (sequence * tiles + start // TOKENS) * inner * states), inner * states)
            convolve_tile(x, order, place, start, count, taps, tap_bias, inner, tile, tile, False)
            project_tile(tile, weights, count, inner, columns, rows)
            for lane in range(0, inner, PAIR):
                find_steps(
                    rows, columns, shift(rise, lane * rank), rank, shift(bias, lane), count, deltas, deltas, False
                )
                for half in range(2):
                    at = lane + half * LANES
                    scan_register(
                        rows, rank, columns, states, count, load(skip, at), shift(A, at * states),
                        shift(deltas, half * PLANE), shift(drives, half * PLANE), shift(tile, at * ROOM),
                        shift(state, at * states),
                    )  # fmt: skip
            put_back(tile, count, order, place + start, inner, k > part * together, out)


@compiled
def scan(first, last, like, addresses, order, sizes, sources=SOURCES):
    for task in range(first, last):
        scan_task(task, pointers(like, addresses), order, sizes)


@njit(nogil=True)
def copy(source, target, count):
    for at in range(0, count, LANES):
        store(target, at, load(source, at))


@njit(nogil=True)
def scan_register(rows, rank, columns, states, count, skip, A, deltas, drives, sums, state):
    """The scan of one register of channels through a tile: ``sums`` holds what is scanned, and then the result."""
    for token in range(0, count * LANES, LANES):
        u = load(sums, token)
        store(drives, token, load(deltas, token) * u)
        store(sums, token, u * skip)
    for n in range(0, states, STATES):
        advance(
            shift(A, n * LANES), shift(rows, rank + n), shift(rows, rank + states + n), columns, LANES, count,
            deltas, drives, sums, shift(state, n * LANES), LANES,
        )  # fmt: skip


@njit(nogil=True)
def put_back(tile, count, order, first, inner, more, out):
    """Write a tile's tokens to their places in raster order, or add them to what is there."""
    for token in range(count):
        raster = order[first + token] * inner
        for lane in range(0, inner, LANES):
            y = load(tile, lane * ROOM + token * LANES)
            if more:
                y = y + load(out, raster + lane)
            store(out, raster + lane, y)


@njit(nogil=True)
def convolve_tile(x, order, place, start, count, taps, bias, inner, tile, slopes, sloped):
    """tile (E / lanes, ROOM, lanes) = SiLU of the convolution, of ``count`` tokens from ``start`` on; ``slopes``, where
    asked for, SiLU's slope there."""
    one = number(x, 1.0)
    first, last = place + start, place + start + count - 1
    for lane in range(0, inner, LANES):
        w0, w1, w2, w3 = load(taps, steps(lane, inner))
        b = load(bias, lane)
        v0 = v1 = v2 = number(x, 0.0)
        if start > 0:
            v0, v1 = load(x, order[first - 3] * inner + lane), load(x, order[first - 2] * inner + lane)
            v2 = load(x, order[first - 1] * inner + lane)
        for token in range(0, count, 4):
            at = first + token
            at0, at1 = order[at] * inner + lane, order[min(at + 1, last)] * inner + lane
            at2, at3 = order[min(at + 2, last)] * inner + lane, order[min(at + 3, last)] * inner + lane
            prefetch(shift(x, AHEAD), (at0, at1, at2, at3))
            v3, v4, v5, v6 = load(x, (at0, at1, at2, at3))
            y = fma((v1, v2, v3, v4), w1, fma((v0, v1, v2, v3), w0, b))
            y = fma((v3, v4, v5, v6), w3, fma((v2, v3, v4, v5), w2, y))
            s = sigmoid(y)
            y = multiply(y, s)
            to = steps(lane * ROOM + token * LANES, LANES)
            store(tile, to, y)
            if sloped:
                store(slopes, to, fma(y, subtract(one, s), s))
            v0, v1, v2 = v4, v5, v6


@njit(nogil=True)
def project_tile(tile, weights, count, inner, columns, rows):
    """rows (TOKENS, C) = the tile's tokens times the weights."""
    clear(rows, count * columns)
    for lane in range(0, inner, RUN * LANES):
        run = min(RUN, (inner - lane) // LANES)
        for column in range(0, columns, PAIR):
            w = shift(weights, column * inner + lane * PAIR)
            for token in range(0, count, 6):
                multiply_six(
                    shift(tile, lane * ROOM), LANES, run, LANES, PLANE,
                    w, PAIR, LANES, token, count - 1, shift(rows, column), columns, LANES,
                )  # fmt: skip


@njit(nogil=True)
def multiply_six(a, a_row, runs, run, next_run, b, b_row, b_half, token, last, out, out_row, half):
    """Add to six rows of ``out``, a pair of registers each that lie ``half`` apart, six rows of ``a`` times ``b``.

    The pairs of ``b`` lie ``b_half`` apart.
    A row of ``a`` holds ``runs`` times ``run`` numbers, ``next_run`` apart. Rows behind ``last`` are read and written
    as the last one, which comes out the same.
    """
    right = shift(out, half)
    to, own = six_rows(token, last, out_row), six_rows(token, last, a_row)
    s, t = load(out, to), load(right, to)
    for k in range(runs):
        for j in range(run):
            w = (k * run + j) * b_row
            p = spread(shift(a, k * next_run + j), own)
            s, t = fma(p, load(b, w), s), fma(p, load(b, w + b_half), t)
    store(out, to, s)
    store(right, to, t)


@njit(nogil=True)
def six_rows(token, last, row):
    """Where six rows begin, at ``last`` at most."""
    r1, r2, r3 = min(token + 1, last), min(token + 2, last), min(token + 3, last)
    return token * row, r1 * row, r2 * row, r3 * row, min(token + 4, last) * row, min(token + 5, last) * row


@njit(nogil=True)
def find_steps(rows, columns, rise, rank, bias, count, deltas, rates, sloped):
    """deltas (2, ROOM, lanes) = softplus(rows rise + bias), of a pair of registers of channels; ``rates``, where asked
    for, its slope."""
    b0, b1 = load(bias, 0), load(bias, LANES)
    for at in range(0, count * LANES, LANES):
        store(deltas, at, b0)
        store(deltas, PLANE + at, b1)
    for token in range(0, count, 6):
        multiply_six(rows, columns, 1, rank, 0, rise, PAIR, LANES, token, count - 1, deltas, LANES, PLANE)
    # Whole fours: what stands behind the last token is never read.
    for at in range(0, count * LANES, 4 * LANES):
        for half in range(2):
            four = steps(half * PLANE + at, LANES)
            raw = load(deltas, four)
            store(deltas, four, softplus(raw))
            if sloped:
                store(rates, four, sigmoid(raw))


@njit(nogil=True)
def total_of(y, at, parts, part):
    """The sum of ``parts`` registers of y from ``at`` on, which lie ``part`` numbers apart."""
    total = load(y, at)
    for k in range(1, parts):
        total = total + load(y, at + k * part)
    return total


@compiled
def gate(first, last, like, addresses, sizes, sources=SOURCES):
    """out (S, L, E) = SiLU(z) times the sum over the orders of y (S, K, L, E)."""
    y, z, out, _ = pointers(like, addresses)
    parts, length, inner, samples = sizes
    for row in range(first * PART // inner, min(last * PART // inner, samples * length)):
        scans = shift(y, (row // length * parts * length + row % length) * inner)
        for lane in range(0, inner, LANES):
            opening = load(z, row * inner + lane)
            total = total_of(scans, lane, parts, length * inner)
            store(out, row * inner + lane, total * (opening * sigmoid(opening)))
