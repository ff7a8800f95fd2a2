"""Numba kernels of the gradients of a block's two Mambas: what lies between their matrix products.

Tasks, tiles and pointers are those of :mod:`fused_kernels`. The tiles of an order are taken from the last to the
first; what is cheap (convolution, steps, the states within a tile) is computed again, the columns and the states before
every tile are what training kept. Gradients of parameters are left as one partial sum a task, to be added up in a fixed
order, so that they do not depend on the threads.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan import numba_backward, numba_forward, numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_backward import recompute, retrace
from DiffMaCore.ops.scan.numba_forward import STATES, clear
from DiffMaCore.ops.scan.numba_lanes import (
    LN2,
    fma,
    load,
    number,
    pointers,
    prefetch,
    shift,
    sigmoid,
    store,
    store_totals,
)
from DiffMaCore.ops.spiral import fused_kernels as order_fused_kernels
from DiffMaCore.ops.spiral import kernels as order_kernels
from DiffMaCore.ops.spiral.fused_kernels import (
    AHEAD,
    PAIR,
    PART,
    PLANE,
    ROOM,
    TOKENS,
    convolve_slowly,
    convolve_tile,
    find_steps,
    multiply_six,
)
from DiffMaCore.ops.spiral.kernels import LANES


def scratch_size(length: int, inner: int, states: int, columns: int) -> int:
    """Numbers of scratch memory a task needs."""
    return (
        length * inner
        + 4 * inner * ROOM
        + TOKENS * columns
        + (8 + 2 * STATES + 2 * states) * PLANE
        + inner * (states + 3)
    )


@njit(nogil=True)
def scan_backward_task(task, data, order, sizes):
    """Gradients of one sample of one branch along some orders.

    Beside what the scan is given: falls (2, R / PAIR, E, PAIR) and projection (2, R + 2N, E), the weights the other
    way; dy0, dy1 (S, L, E); dx0, dx1 (S, K / together, L, E), rows ``dstride`` apart; and of every task dprojection
    (R + 2N, E), drise (R, E), dbias (E,), dA (E / lanes, N, lanes), dskip (E,), dtaps (T, E), dtap_bias (E,).
    """
    (
        x0, x1, taps, tap_bias, rise, bias, A, skip, falls, projection, kept_rows, kept_states, dy0, dy1,
        dx0, dx1, dprojection, drise, dbias, dA, dskip, dtaps, dtap_bias, nothing, scratch,
    ) = data  # fmt: skip
    orders, together, samples, length, inner, stride, dstride, count_taps, rank, states, columns = sizes
    parts, used = orders // together, rank + 2 * states
    row, part = task // parts, task % parts
    branch, sample = row // samples, row % samples
    x = shift(x0 if branch == 0 else x1, sample * length * stride)
    dy = shift(dy0 if branch == 0 else dy1, sample * length * inner)
    to = shift(dx0 if branch == 0 else dx1, (sample * parts + part) * length * dstride)
    taps, tap_bias = shift(taps, branch * count_taps * inner), shift(tap_bias, branch * inner)
    rise, bias = shift(rise, branch * rank * inner), shift(bias, branch * inner)
    A, skip = shift(A, branch * states * inner), shift(skip, branch * inner)
    falls = shift(falls, branch * ((rank + PAIR - 1) // PAIR * PAIR * inner))
    projection = shift(projection, branch * used * inner)
    dprojection, drise = shift(dprojection, task * used * inner), shift(drise, task * rank * inner)
    dbias, dskip = shift(dbias, task * inner), shift(dskip, task * inner)
    dA = shift(dA, task * states * inner)
    dtaps, dtap_bias = shift(dtaps, task * count_taps * inner), shift(dtap_bias, task * inner)
    clear(dprojection, used * inner)
    clear(drise, rank * inner)
    clear(dA, states * inner)
    clear(dtaps, count_taps * inner)
    for total in (dbias, dskip, dtap_bias):
        clear(total, inner)
    dx, scratch = scratch, shift(scratch, length * inner)
    clear(dx, length * inner)

    tile, slopes = scratch, shift(scratch, inner * ROOM)
    back, draws = shift(scratch, 2 * inner * ROOM), shift(scratch, 3 * inner * ROOM)
    drows = shift(scratch, 4 * inner * ROOM)
    deltas = shift(drows, TOKENS * columns)
    rates, work = shift(deltas, 2 * PLANE), shift(deltas, 4 * PLANE)
    dBs = shift(deltas, (8 + 2 * STATES) * PLANE)
    dCs = shift(dBs, states * PLANE)
    carried = shift(dCs, states * PLANE)
    ahead = shift(carried, inner * states)
    tiles = (length + TOKENS - 1) // TOKENS
    for k in range(part * together, (part + 1) * together):
        place, sequence = k * length, row * orders + k
        clear(carried, inner * (states + 3))
        for index in range(tiles - 1, -1, -1):
            start = index * TOKENS
            count = min(TOKENS, length - start)
            rows = shift(kept_rows, (sequence * length + start) * columns)
            starts = shift(kept_states, (sequence * tiles + index) * inner * states)
            if count_taps == 4:
                convolve_tile(x, stride, order, place, start, count, taps, tap_bias, inner, tile, slopes, True)
            else:
                convolve_slowly(
                    x, stride, order, place, start, count, taps, tap_bias, inner, count_taps, tile, slopes, True
                )
            clear(dBs, 2 * states * PLANE)
            for lane in range(0, inner, PAIR):
                find_steps(rows, columns, shift(rise, lane * rank), rank, shift(bias, lane), count, deltas, rates, True)
                for half in range(2):
                    at = lane + half * LANES
                    scan_register_backward(
                        rows, rank, columns, states, count, load(skip, at), shift(A, at * states), nothing,
                        shift(starts, at * states), shift(deltas, half * PLANE), shift(rates, half * PLANE),
                        shift(tile, at * ROOM), shift(dy, at), order, place + start, inner, work, dBs, dCs,
                        shift(carried, at * states), shift(dA, at * states), shift(dskip, at), shift(dbias, at),
                        shift(back, at * ROOM), shift(draws, at * ROOM),
                    )  # fmt: skip
            clear(drows, count * columns)
            for column in range(0, rank, PAIR):
                for token in range(0, count, 6):
                    multiply_six(
                        draws, LANES, inner // LANES, LANES, PLANE,
                        shift(falls, column * inner), PAIR, LANES, token, count - 1,
                        shift(drows, column), columns, LANES,
                    )  # fmt: skip
            total_columns(dBs, dCs, rank, states, count, drows, columns)
            for lane in range(0, inner, PAIR):
                own, own_draws = shift(tile, lane * ROOM), shift(draws, lane * ROOM)
                for token in range(0, count, 6):
                    multiply_six(
                        drows, columns, 1, used, 0,
                        shift(projection, lane), inner, LANES, token, count - 1, shift(back, lane * ROOM), LANES, PLANE,
                    )  # fmt: skip
                for column in range(0, used, 6):
                    multiply_six(
                        drows, 1, count, 1, columns,
                        own, LANES, PLANE, column, used - 1, shift(dprojection, lane), inner, LANES,
                    )  # fmt: skip
                for column in range(0, rank, 6):
                    multiply_six(
                        rows, 1, count, 1, columns,
                        own_draws, LANES, PLANE, column, rank - 1, shift(drise, lane), inner, LANES,
                    )  # fmt: skip
            if count_taps == 4:
                convolve_back(
                    x, stride, order, place, start, count, taps, inner, back, slopes, ahead, dx, dtaps, dtap_bias
                )  # fmt: skip
            else:
                convolve_back_slowly(
                    x, stride, order, place, start, count, taps, inner, count_taps, back, slopes, dx, dtaps, dtap_bias
                )  # fmt: skip
    for token in range(length):
        for lane in range(0, inner, LANES):
            store(to, token * dstride + lane, load(dx, token * inner + lane))


@njit(nogil=True)
def scan_register_backward(
    rows, rank, columns, states, count, skip, A, nothing, starts, deltas, rates, tile, dy, order, first, inner,
    work, dBs, dCs, carried, dA, dskip, dbias, back, draws,
):  # fmt: skip
    """Gradients of one register of channels through a tile: ``back`` of what is scanned, ``draws`` of the raw steps."""
    drives, dys = work, shift(work, PLANE)
    ddrives, dexponents = shift(work, 2 * PLANE), shift(work, 3 * PLANE)
    decays, befores = shift(work, 4 * PLANE), shift(work, (4 + STATES) * PLANE)
    zero = number(rows, 0.0)
    for token in range(count):
        at = token * LANES
        store(drives, at, load(deltas, at) * load(tile, at))
        source = order[first + token] * inner
        prefetch(dy, source + AHEAD)
        store(dys, at, load(dy, source))
        store(ddrives, at, zero)
        store(dexponents, at, zero)
    for n in range(0, states, STATES):
        B, C, slab = shift(rows, rank + n), shift(rows, rank + states + n), n * PLANE
        recompute(
            shift(A, n * LANES), B, C, nothing, 0, shift(starts, n * LANES), columns, LANES, count, False,
            deltas, drives, dys, nothing, decays, befores, shift(dCs, slab), nothing, LANES,
        )  # fmt: skip
        retrace(
            shift(A, n * LANES), B, C, nothing, 0, columns, LANES, count, deltas, drives, dys,
            decays, befores, ddrives, dexponents, shift(dBs, slab), shift(carried, n * LANES), shift(dA, n * LANES),
            LANES,
        )  # fmt: skip
    total_skip, total_bias = load(dskip, 0), load(dbias, 0)
    ln2 = number(rows, LN2)
    for token in range(count):
        at = token * LANES
        u, g, dx = load(tile, at), load(dys, at), load(ddrives, at)
        store(back, at, fma(dx, load(deltas, at), g * skip))
        raw = fma(dx, u, load(dexponents, at) * ln2) * load(rates, at)
        store(draws, at, raw)
        total_skip, total_bias = fma(g, u, total_skip), total_bias + raw
    store(dskip, 0, total_skip)
    store(dbias, 0, total_bias)


@njit(nogil=True)
def total_columns(dBs, dCs, rank, states, count, drows, columns):
    """Sums over the channels: the gradients of B and C in the columns of drows (TOKENS, C)."""
    for n in range(0, states, STATES):
        for token in range(count):
            at, to = n * PLANE + token * STATES * LANES, token * columns + rank + n
            store_totals(
                drows, to, load(dBs, at), load(dBs, at + LANES), load(dBs, at + 2 * LANES), load(dBs, at + 3 * LANES)
            )
            store_totals(
                drows, to + states,
                load(dCs, at), load(dCs, at + LANES), load(dCs, at + 2 * LANES), load(dCs, at + 3 * LANES),
            )  # fmt: skip


@njit(nogil=True)
def convolve_back(x, stride, order, place, start, count, taps, inner, back, slopes, ahead, dx, dtaps, dtap_bias):
    """Through SiLU and the four taps to the tokens' places in dx; ``ahead`` (3, E): what the tile behind hands on."""
    first = place + start
    for lane in range(0, inner, LANES):
        w0, w1 = load(taps, lane), load(taps, inner + lane)
        w2, w3 = load(taps, 2 * inner + lane), load(taps, 3 * inner + lane)
        d0, d1 = load(dtaps, lane), load(dtaps, inner + lane)
        d2, d3 = load(dtaps, 2 * inner + lane), load(dtaps, 3 * inner + lane)
        total = load(dtap_bias, lane)
        n1, n2, n3 = load(ahead, lane), load(ahead, inner + lane), load(ahead, 2 * inner + lane)
        v0 = v1 = v2 = v3 = number(x, 0.0)
        last = start + count - 1
        v3 = load(x, order[place + last] * stride + lane)
        if last > 0:
            v2 = load(x, order[place + last - 1] * stride + lane)
        if last > 1:
            v1 = load(x, order[place + last - 2] * stride + lane)
        for token in range(count - 1, -1, -1):
            v0 = number(x, 0.0)
            if start + token > 2:
                v0 = load(x, order[first + token - 3] * stride + lane)
            at = lane * ROOM + token * LANES
            dv = load(back, at) * load(slopes, at)
            total = total + dv
            d0, d1, d2, d3 = fma(dv, v0, d0), fma(dv, v1, d1), fma(dv, v2, d2), fma(dv, v3, d3)
            to = order[first + token] * inner + lane
            store(dx, to, fma(dv, w3, fma(n1, w2, fma(n2, w1, fma(n3, w0, load(dx, to))))))
            n1, n2, n3 = dv, n1, n2
            v1, v2, v3 = v0, v1, v2
        store(ahead, lane, n1)
        store(ahead, inner + lane, n2)
        store(ahead, 2 * inner + lane, n3)
        store(dtaps, lane, d0)
        store(dtaps, inner + lane, d1)
        store(dtaps, 2 * inner + lane, d2)
        store(dtaps, 3 * inner + lane, d3)
        store(dtap_bias, lane, total)


@njit(nogil=True)
def convolve_back_slowly(
    x, stride, order, place, start, count, taps, inner, count_taps, back, slopes, dx, dtaps, dtap_bias
):
    """The same by any number of taps."""
    for token in range(count):
        for lane in range(0, inner, LANES):
            at = lane * ROOM + token * LANES
            dv = load(back, at) * load(slopes, at)
            store(dtap_bias, lane, load(dtap_bias, lane) + dv)
            for tap in range(max(0, count_taps - 1 - start - token), count_taps):
                source, weight = order[place + start + token - (count_taps - 1) + tap], tap * inner + lane
                store(dtaps, weight, fma(dv, load(x, source * stride + lane), load(dtaps, weight)))
                to = source * inner + lane
                store(dx, to, fma(dv, load(taps, weight), load(dx, to)))


@njit(nogil=True)
def gate_rows_task(task, data, sizes):
    """out (S, L, E) = SiLU(z) times the sum over the orders of y (S, K, L, E); rows of z lie ``stride`` apart."""
    y, z, out = data
    parts, length, inner, stride, rows = sizes
    for row in range(task * PART // inner, min((task + 1) * PART // inner, rows)):
        sample, token = row // length, row % length
        for lane in range(0, inner, LANES):
            gate = load(z, row * stride + lane)
            total = total_of(y, parts, length, inner, sample, token, lane)
            store(out, row * inner + lane, total * (gate * sigmoid(gate)))


@njit(nogil=True)
def gate_rows_backward_task(task, data, sizes):
    """dout (S, L, E) becomes the gradient of y's sum; dz, rows ``stride`` apart; out as it was in the forward pass."""
    y, z, dout, dz, out = data
    parts, length, inner, stride, rows = sizes
    one = number(y, 1.0)
    for row in range(task * PART // inner, min((task + 1) * PART // inner, rows)):
        sample, token = row // length, row % length
        for lane in range(0, inner, LANES):
            gate, g = load(z, row * stride + lane), load(dout, row * inner + lane)
            s = sigmoid(gate)
            weight = gate * s
            total = total_of(y, parts, length, inner, sample, token, lane)
            store(out, row * inner + lane, total * weight)
            store(dz, row * stride + lane, g * total * fma(weight, one - s, s))
            store(dout, row * inner + lane, g * weight)


@njit(nogil=True)
def total_of(y, parts, length, inner, sample, token, lane):
    """Sum over the orders of y (S, K, L, E) at one token, one register of channels."""
    total = load(y, (sample * parts * length + token) * inner + lane)
    for k in range(1, parts):
        total = total + load(y, ((sample * parts + k) * length + token) * inner + lane)
    return total


def _entry_points(digest):
    """The loops over tasks [first, last), compiled at their first call and cached on disk."""

    @compiled
    def scan_backward(first, last, like, addresses, order, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            scan_backward_task(task, data, order, sizes)
        return digest

    @compiled
    def gate_rows(first, last, like, addresses, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            gate_rows_task(task, data, sizes)
        return digest

    @compiled
    def gate_rows_backward(first, last, like, addresses, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            gate_rows_backward_task(task, data, sizes)
        return digest

    return scan_backward, gate_rows, gate_rows_backward


scan_backward, gate_rows, gate_rows_backward = _entry_points(
    source_digest(numba_lanes, numba_forward, numba_backward, order_kernels, order_fused_kernels)
)
