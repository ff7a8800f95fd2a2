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
    steps,
    store,
    store_totals,
)
from DiffMaCore.ops.spiral import fused_kernels
from DiffMaCore.ops.spiral.fused_kernels import (
    AHEAD,
    LANES,
    PAIR,
    PART,
    PLANE,
    ROOM,
    TAPS,
    TOKENS,
    convolve_tile,
    find_steps,
    multiply_six,
    total_of,
)

SOURCES = source_digest(numba_lanes, numba_forward, numba_backward, fused_kernels)


def scratch_size(length: int, inner: int, states: int, columns: int) -> int:
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

    Further to what the scan is given: falls (2, R / PAIR, E, PAIR) and projection (2, R + 2N, E), the weights the other
    way; dy0, dy1 (S, L, E); dx0, dx1 (S, K / together, L, E), rows ``stride`` apart; and of every task dprojection
    (R + 2N, E), drise (R, E), dbias (E,), dA (E / lanes, N, lanes), dskip (E,), dtaps (TAPS, E), dtap_bias (E,).
    """
    (
        x0, x1, taps, tap_bias, rise, bias, A, skip, falls, projection, kept_rows, kept_states, dy0, dy1,
        dx0, dx1, dprojection, drise, dbias, dA, dskip, dtaps, dtap_bias, scratch,
    ) = data  # fmt: skip
    orders, together, samples, length, inner, stride, rank, states, columns = sizes
    parts, used = orders // together, rank + 2 * states
    row, part = task // parts, task % parts
    branch, sample = row // samples, row % samples
    x = shift(x0 if branch == 0 else x1, sample * length * inner)
    dy = shift(dy0 if branch == 0 else dy1, sample * length * inner)
    to = shift(dx0 if branch == 0 else dx1, (sample * parts + part) * length * stride)
    taps, tap_bias = shift(taps, branch * TAPS * inner), shift(tap_bias, branch * inner)
    rise, bias = shift(rise, branch * rank * inner), shift(bias, branch * inner)
    A, skip = shift(A, branch * states * inner), shift(skip, branch * inner)
    falls = shift(falls, branch * ((rank + PAIR - 1) // PAIR * PAIR * inner))
    projection = shift(projection, branch * used * inner)
    dprojection, drise = shift(dprojection, task * used * inner), shift(drise, task * rank * inner)
    dbias, dskip = shift(dbias, task * inner), shift(dskip, task * inner)
    dA = shift(dA, task * states * inner)
    dtaps, dtap_bias = shift(dtaps, task * TAPS * inner), shift(dtap_bias, task * inner)
    clear(dprojection, used * inner)
    clear(drise, rank * inner)
    clear(dA, states * inner)
    clear(dtaps, TAPS * inner)
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
            convolve_tile(x, order, place, start, count, taps, tap_bias, inner, tile, slopes, True)
            clear(dBs, 2 * states * PLANE)
            for lane in range(0, inner, PAIR):
                find_steps(rows, columns, shift(rise, lane * rank), rank, shift(bias, lane), count, deltas, rates, True)
                for half in range(2):
                    at = lane + half * LANES
                    scan_register_backward(
                        rows, rank, columns, states, count, load(skip, at), shift(A, at * states),
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
            convolve_back(x, order, place, start, count, taps, inner, back, slopes, ahead, dx, dtaps, dtap_bias)
    for token in range(length):
        for lane in range(0, inner, LANES):
            store(to, token * stride + lane, load(dx, token * inner + lane))


@compiled
def scan_backward(first, last, like, addresses, order, sizes, sources=SOURCES):
    for task in range(first, last):
        scan_backward_task(task, pointers(like, addresses), order, sizes)


@njit(nogil=True)
def scan_register_backward(
    rows, rank, columns, states, count, skip, A, starts, deltas, rates, tile, dy, order, first, inner,
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
            shift(A, n * LANES), B, C, shift(starts, n * LANES), columns, LANES, count, False,
            deltas, drives, dys, dys, decays, befores, shift(dCs, slab),
        )  # fmt: skip
        retrace(
            shift(A, n * LANES), B, C, columns, LANES, count, deltas, drives, dys, decays, befores,
            ddrives, dexponents, shift(dBs, slab), shift(carried, n * LANES), shift(dA, n * LANES), LANES,
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
            four, to = steps(n * PLANE + token * STATES * LANES, LANES), token * columns + rank + n
            store_totals(drows, to, load(dBs, four))
            store_totals(drows, to + states, load(dCs, four))


@njit(nogil=True)
def convolve_back(x, order, place, start, count, taps, inner, back, slopes, ahead, dx, dtaps, dtap_bias):
    """Through SiLU and the taps to the tokens' places in dx; ``ahead`` (3, E): what the tile behind hands on."""
    first = place + start
    last = first + count - 1
    for lane in range(0, inner, LANES):
        w0, w1, w2, w3 = load(taps, steps(lane, inner))
        d = load(dtaps, steps(lane, inner))
        total = load(dtap_bias, lane)
        n1, n2, n3 = load(ahead, (lane, inner + lane, 2 * inner + lane))
        v1 = v2 = number(x, 0.0)
        v3 = load(x, order[last] * inner + lane)
        if last > place:
            v2 = load(x, order[last - 1] * inner + lane)
        if last > place + 1:
            v1 = load(x, order[last - 2] * inner + lane)
        for token in range(count - 1, -1, -1):
            v0 = number(x, 0.0)
            if start + token > 2:
                v0 = load(x, order[first + token - 3] * inner + lane)
            at = lane * ROOM + token * LANES
            dv = load(back, at) * load(slopes, at)
            total = total + dv
            d = fma((v0, v1, v2, v3), dv, d)
            to = order[first + token] * inner + lane
            store(dx, to, fma(dv, w3, fma(n1, w2, fma(n2, w1, fma(n3, w0, load(dx, to))))))
            n1, n2, n3 = dv, n1, n2
            v1, v2, v3 = v0, v1, v2
        store(ahead, (lane, inner + lane, 2 * inner + lane), (n1, n2, n3))
        store(dtaps, steps(lane, inner), d)
        store(dtap_bias, lane, total)


@compiled
def gate_backward(first, last, like, addresses, sizes, sources=SOURCES):
    """dout (S, L, E) becomes the gradient of y's sum; dz, rows ``stride`` apart; out as it was in the forward pass."""
    y, z, dout, dz, out, _ = pointers(like, addresses)
    parts, length, inner, stride, samples = sizes
    one = number(y, 1.0)
    for row in range(first * PART // inner, min(last * PART // inner, samples * length)):
        scans = shift(y, (row // length * parts * length + row % length) * inner)
        for lane in range(0, inner, LANES):
            at = row * inner + lane
            gate, g = load(z, at), load(dout, at)
            s = sigmoid(gate)
            weight = gate * s
            total = total_of(scans, lane, parts, length * inner)
            store(out, at, total * weight)
            store(dz, row * stride + lane, g * total * fma(weight, one - s, s))
            store(dout, at, g * weight)
