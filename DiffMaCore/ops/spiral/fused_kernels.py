"""Numba kernels of a block's two Mambas without gradients: what lies between their matrix products.

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
    fma,
    given,
    load,
    number,
    pointers,
    prefetch,
    shift,
    sigmoid,
    sigmoid_four,
    softplus_four,
    spread,
    store,
)
from DiffMaCore.ops.spiral import kernels as order_kernels
from DiffMaCore.ops.spiral.kernels import LANES, convolve

TOKENS = 30  # of a tile: five times the six that are multiplied at once
ROOM = 32  # tokens of a plane: whole fours
PAIR = 2 * LANES  # columns that are multiplied at once
RUN = 4  # registers of channels that are multiplied before the next: their weights stay in the first cache
AHEAD = 2 * LANES  # channels of a row that are asked for early
PLANE = ROOM * LANES  # numbers of one register of channels in a tile
PART = 1 << 14  # numbers that a task of the gate takes

NOTHING = 0  # the null pointer, for an option of the scan that is not used


def scratch_size(inner: int, states: int, columns: int) -> int:
    """Numbers of scratch memory a task of the scan needs."""
    return inner * ROOM + TOKENS * columns + 4 * PLANE + inner * states


@njit(nogil=True)
def scan_task(task, data, order, sizes):
    """The sum of some orders' scans of one sample of one branch, in raster order.

    x0, x1 (S, L, E), rows ``stride`` apart, are what the branches scan; taps (2, T, E) and tap_bias (2, E) convolve it;
    weights (2, C / PAIR, E, PAIR) give the columns: steps before ``rise`` (2, E / PAIR, R, PAIR) and ``bias`` (2, E), B
    and C; A (2, E / lanes, N, lanes), in units of log2(e); skip (2, E); out (2, S, K / together, L, E). Training also
    keeps the columns (2, S, K, L, C) and the states before every tile (2, S, K, tiles, E / lanes, N, lanes).
    """
    x0, x1, taps, tap_bias, weights, rise, bias, A, skip, out, kept_rows, kept_states, nothing, scratch = data
    orders, together, samples, length, inner, stride, count_taps, rank, states, columns = sizes
    parts = orders // together
    row, part = task // parts, task % parts
    branch, sample = row // samples, row % samples
    x = shift(x0 if branch == 0 else x1, sample * length * stride)
    taps, tap_bias = shift(taps, branch * count_taps * inner), shift(tap_bias, branch * inner)
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
            if count_taps == 4:
                convolve_tile(x, stride, order, place, start, count, taps, tap_bias, inner, tile, tile, False)
            else:
                convolve_slowly(
                    x, stride, order, place, start, count, taps, tap_bias, inner, count_taps, tile, tile, False
                )
            project_tile(tile, weights, count, inner, columns, rows)
            for lane in range(0, inner, PAIR):
                find_steps(
                    rows, columns, shift(rise, lane * rank), rank, shift(bias, lane), count, deltas, deltas, False
                )
                for half in range(2):
                    at = lane + half * LANES
                    scan_register(
                        rows, rank, columns, states, count, load(skip, at), shift(A, at * states), nothing,
                        shift(deltas, half * PLANE), shift(drives, half * PLANE), shift(tile, at * ROOM),
                        shift(state, at * states),
                    )  # fmt: skip
            put_back(tile, count, order, place + start, inner, k > part * together, out)


@njit(nogil=True)
def copy(source, target, count):
    """Copy whole registers."""
    for at in range(0, count, LANES):
        store(target, at, load(source, at))


@njit(nogil=True)
def scan_register(rows, rank, columns, states, count, skip, A, nothing, deltas, drives, sums, state):
    """The scan of one register of channels through a tile: ``sums`` holds what is scanned, and then the result."""
    for token in range(0, count * LANES, LANES):
        u = load(sums, token)
        store(drives, token, load(deltas, token) * u)
        store(sums, token, u * skip)
    for n in range(0, states, STATES):
        advance(
            shift(A, n * LANES), shift(rows, rank + n), shift(rows, rank + states + n), nothing, 0, columns, LANES,
            count, deltas, drives, sums, shift(state, n * LANES), LANES,
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
def convolve_tile(x, stride, order, place, start, count, taps, bias, inner, tile, slopes, sloped):
    """tile (E / lanes, ROOM, lanes) = SiLU of the convolution by four taps, of ``count`` tokens from ``start`` on;
    ``slopes``, where asked for, SiLU's slope there."""
    one = number(x, 1.0)
    first = place + start
    for lane in range(0, inner, LANES):
        w0, w1 = load(taps, lane), load(taps, inner + lane)
        w2, w3 = load(taps, 2 * inner + lane), load(taps, 3 * inner + lane)
        b = load(bias, lane)
        v0 = v1 = v2 = number(x, 0.0)
        if start > 0:
            v0, v1 = load(x, order[first - 3] * stride + lane), load(x, order[first - 2] * stride + lane)
            v2 = load(x, order[first - 1] * stride + lane)
        to = lane * ROOM
        for token in range(0, count, 4):
            at0 = order[first + token] * stride + lane
            at1 = order[first + min(token + 1, count - 1)] * stride + lane
            at2 = order[first + min(token + 2, count - 1)] * stride + lane
            at3 = order[first + min(token + 3, count - 1)] * stride + lane
            prefetch(x, at0 + AHEAD)
            prefetch(x, at1 + AHEAD)
            prefetch(x, at2 + AHEAD)
            prefetch(x, at3 + AHEAD)
            v3, v4, v5, v6 = load(x, at0), load(x, at1), load(x, at2), load(x, at3)
            y0 = fma(v3, w3, fma(v2, w2, fma(v1, w1, fma(v0, w0, b))))
            y1 = fma(v4, w3, fma(v3, w2, fma(v2, w1, fma(v1, w0, b))))
            y2 = fma(v5, w3, fma(v4, w2, fma(v3, w1, fma(v2, w0, b))))
            y3 = fma(v6, w3, fma(v5, w2, fma(v4, w1, fma(v3, w0, b))))
            s0, s1, s2, s3 = sigmoid_four(y0, y1, y2, y3)
            y0, y1, y2, y3 = y0 * s0, y1 * s1, y2 * s2, y3 * s3
            at = to + token * LANES
            store(tile, at, y0)
            store(tile, at + LANES, y1)
            store(tile, at + 2 * LANES, y2)
            store(tile, at + 3 * LANES, y3)
            if sloped:
                store(slopes, at, fma(y0, one - s0, s0))
                store(slopes, at + LANES, fma(y1, one - s1, s1))
                store(slopes, at + 2 * LANES, fma(y2, one - s2, s2))
                store(slopes, at + 3 * LANES, fma(y3, one - s3, s3))
            v0, v1, v2 = v4, v5, v6


@njit(nogil=True)
def convolve_slowly(x, stride, order, place, start, count, taps, bias, inner, count_taps, tile, slopes, sloped):
    """The same by any number of taps."""
    one = number(x, 1.0)
    for token in range(count):
        for lane in range(0, inner, LANES):
            own, w, b = shift(x, lane), shift(taps, lane), shift(bias, lane)
            y = convolve(own, order, place, start + token, stride, w, b, count_taps, inner)
            s = sigmoid(y)
            store(tile, lane * ROOM + token * LANES, y * s)
            if sloped:
                store(slopes, lane * ROOM + token * LANES, fma(y * s, one - s, s))


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
    r1, r2, r3 = min(token + 1, last), min(token + 2, last), min(token + 3, last)
    r4, r5 = min(token + 4, last), min(token + 5, last)
    o0, o1, o2 = shift(out, token * out_row), shift(out, r1 * out_row), shift(out, r2 * out_row)
    o3, o4, o5 = shift(out, r3 * out_row), shift(out, r4 * out_row), shift(out, r5 * out_row)
    s00, s10, s20, s30, s40, s50 = load(o0, 0), load(o1, 0), load(o2, 0), load(o3, 0), load(o4, 0), load(o5, 0)
    s01, s11, s21 = load(o0, half), load(o1, half), load(o2, half)
    s31, s41, s51 = load(o3, half), load(o4, half), load(o5, half)
    for k in range(runs):
        p = shift(a, k * next_run)
        p0, p1, p2 = shift(p, token * a_row), shift(p, r1 * a_row), shift(p, r2 * a_row)
        p3, p4, p5 = shift(p, r3 * a_row), shift(p, r4 * a_row), shift(p, r5 * a_row)
        for j in range(run):
            w = (k * run + j) * b_row
            w0, w1 = load(b, w), load(b, w + b_half)
            t0, t1, t2 = spread(p0, j), spread(p1, j), spread(p2, j)
            t3, t4, t5 = spread(p3, j), spread(p4, j), spread(p5, j)
            s00, s01, s10, s11 = fma(t0, w0, s00), fma(t0, w1, s01), fma(t1, w0, s10), fma(t1, w1, s11)
            s20, s21, s30, s31 = fma(t2, w0, s20), fma(t2, w1, s21), fma(t3, w0, s30), fma(t3, w1, s31)
            s40, s41, s50, s51 = fma(t4, w0, s40), fma(t4, w1, s41), fma(t5, w0, s50), fma(t5, w1, s51)
    store(o0, 0, s00)
    store(o0, half, s01)
    store(o1, 0, s10)
    store(o1, half, s11)
    store(o2, 0, s20)
    store(o2, half, s21)
    store(o3, 0, s30)
    store(o3, half, s31)
    store(o4, 0, s40)
    store(o4, half, s41)
    store(o5, 0, s50)
    store(o5, half, s51)


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
            four, slopes = shift(deltas, half * PLANE + at), shift(rates, half * PLANE + at)
            r0, r1, r2, r3 = load(four, 0), load(four, LANES), load(four, 2 * LANES), load(four, 3 * LANES)
            d0, d1, d2, d3 = softplus_four(r0, r1, r2, r3)
            store(four, 0, d0)
            store(four, LANES, d1)
            store(four, 2 * LANES, d2)
            store(four, 3 * LANES, d3)
            if sloped:
                s0, s1, s2, s3 = sigmoid_four(r0, r1, r2, r3)
                store(slopes, 0, s0)
                store(slopes, LANES, s1)
                store(slopes, 2 * LANES, s2)
                store(slopes, 3 * LANES, s3)


@njit(nogil=True)
def gate_task(task, data, sizes):
    """z (S, T, E) = SiLU(z) times the sum over the orders of y (S, K, L, E), at the T tokens from ``start`` on."""
    y, z = data
    orders, length, inner, start, tokens = sizes
    size = tokens * inner
    parts = (size + PART - 1) // PART
    sample, first = task // parts, task % parts * PART
    z, y = shift(z, sample * size), shift(y, (sample * orders * length + start) * inner)
    step = length * inner
    for at in range(first, min(first + PART, size), LANES):
        total = load(y, at)
        for k in range(1, orders):
            total = total + load(y, k * step + at)
        gate = load(z, at)
        store(z, at, total * (gate * sigmoid(gate)))


def _entry_points(digest):
    """The loops over tasks [first, last), compiled at their first call and cached on disk."""

    @compiled
    def scan(first, last, like, addresses, order, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            scan_task(task, data, order, sizes)
        return digest

    @compiled
    def gate(first, last, like, addresses, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            gate_task(task, data, sizes)
        return digest

    return scan, gate


scan, gate = _entry_points(source_digest(numba_lanes, numba_forward, order_kernels))
