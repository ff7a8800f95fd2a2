"""Numba kernels of the Mamba of one branch without gradients: what lies between its matrix products.

The sequences are taken in windows of T tokens, so that what is computed of them stays in the caches. Pointers
lead to contiguous float32 memory; S is the number of samples, K of orders, L of tokens, E the inner width, R the
rank of the steps' projection, N the states. ``order`` is (K, L), flat: raster indices in scan order.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

from numba import njit

from DiffMaCore.models import order_kernels
from DiffMaCore.models.order_kernels import convolve, convolve_four
from DiffMaCore.scan import numba_forward, numba_lanes
from DiffMaCore.scan.compiling import compiled, source_digest
from DiffMaCore.scan.numba_forward import BLOCK, PLANE, STATES, TILE, advance, copy_states
from DiffMaCore.scan.numba_lanes import fma, load, pointers, prefetch, shift, sigmoid, softplus, spread, store, width_of

NOTHING = 0  # the null pointer, for an option of the scan that is not used


AHEAD = 8  # tokens, of which the memory is asked for early


def scratch_size(states: int, rank: int) -> int:
    """Numbers of scratch memory a task of the scan needs."""
    return 3 * PLANE + (states + rank) * BLOCK


@njit(nogil=True)
def gather_window_task(task, data, order, sizes, start, window):
    """out (S, K, T, E) = SiLU(conv(x (S, L, E) along the orders)); one task is a tile of one order of one sample.

    weight and bias lead to the branch's part of (taps, 2E) and (2E,).
    """
    x, weight, bias, out = data
    orders, _, length, inner, taps = sizes
    tiles = (window + TILE - 1) // TILE
    sequence, tile = task // tiles, task % tiles
    sample, first = sequence // orders, sequence % orders * length
    lanes = width_of(x)
    for at in range(tile * TILE, min(window, (tile + 1) * TILE)):
        token, target = start + at, (sequence * window + at) * inner
        row = sample * length
        if taps == 4 and token >= 3:
            place = first + token
            at0, at1 = (row + order[place - 3]) * inner, (row + order[place - 2]) * inner
            at2, at3 = (row + order[place - 1]) * inner, (row + order[place]) * inner
            for lane in range(0, inner, lanes):
                v = convolve_four(x, at0 + lane, at1 + lane, at2 + lane, at3 + lane, weight, bias, lane, 2 * inner)
                store(out, target + lane, v * sigmoid(v))
        else:
            for lane in range(0, inner, lanes):
                v = convolve(x, row, order, first, token, weight, bias, lane, lane, sizes)
                store(out, target + lane, v * sigmoid(v))


@njit(nogil=True)
def scan_window_task(task, data, order, sizes, start, window):
    """total (S, L, E) += the scan of a window along every order, put back in raster order.

    One task is one sample and one block of channels. x (S, K, T, E) is what is scanned; rows (S, K, T, R + 2N)
    hold the steps before their projection by ``rise`` (R, E), B and C; A (N, E), in units of log2(e);
    skip, bias (E,); states (S, K, N, E) are those before the window, and then those after it.
    """
    x, rows, rise, bias, A, skip, states, total, nothing, scratch = data
    orders, length, inner, rank, count_states = sizes
    blocks = (inner + BLOCK - 1) // BLOCK
    sample, first = task // blocks, task % blocks * BLOCK
    width = min(BLOCK, inner - first)
    lanes = width_of(x)
    step = rank + 2 * count_states
    deltas, drives, sums = scratch, shift(scratch, PLANE), shift(scratch, 2 * PLANE)
    state = shift(scratch, 3 * PLANE)
    # Rows of all channels lie a power of two apart: the block's part is copied to lie together in the first cache.
    slopes = shift(state, count_states * BLOCK)
    for r in range(rank):
        for lane in range(0, width, lanes):
            store(slopes, r * BLOCK + lane, load(rise, r * inner + first + lane))
    for k in range(orders):
        sequence = sample * orders + k
        kept = sequence * count_states * inner + first
        for n in range(count_states):
            for lane in range(0, width, lanes):
                store(state, n * BLOCK + lane, load(states, kept + n * inner + lane))
        for begin in range(0, window, TILE):
            count = min(TILE, window - begin)
            given = shift(rows, (sequence * window + begin) * step)
            u = shift(x, (sequence * window + begin) * inner + first)
            place = k * length + start + begin
            for token in range(count):
                for lane in range(0, width, lanes):
                    at = lane * TILE + token * lanes
                    v = load(u, token * inner + lane)
                    prefetch(u, (token + AHEAD) * inner + lane)
                    prefetch(total, (sample * length + order[place + token]) * inner + first + lane)
                    store(drives, at, v)
                    store(sums, at, v * load(skip, first + lane))
            for lane in range(0, width, lanes):
                at = lane * TILE
                project(
                    given, step, shift(slopes, lane), rank, load(bias, first + lane), count,
                    shift(deltas, at), shift(drives, at),
                )  # fmt: skip
                for n in range(0, count_states, STATES):
                    advance(
                        shift(A, n * inner + first + lane),
                        shift(given, rank + n), shift(given, rank + count_states + n), nothing, 0, step, inner, count,
                        shift(deltas, at), shift(drives, at), shift(sums, at), shift(state, n * BLOCK + lane),
                    )  # fmt: skip
            for token in range(count):
                raster = (sample * length + order[place + token]) * inner + first
                for lane in range(0, width, lanes):
                    y = load(sums, lane * TILE + token * lanes)
                    store(total, raster + lane, load(total, raster + lane) + y)
        copy_states(state, states, kept, count_states, inner, width)


@njit(nogil=True)
def project(rows, step, slopes, rank, bias, count, deltas, drives):
    """Fill a tile's delta = softplus(rows slopes + bias), and multiply ``drives`` by it; one register of channels.

    Eight tokens at once; those behind the tile's last are read as the last, and nothing reads what they give.
    """
    lanes = width_of(slopes)
    last = count - 1
    for token in range(0, count, 8):
        p0, p1 = shift(rows, token * step), shift(rows, min(token + 1, last) * step)
        p2, p3 = shift(rows, min(token + 2, last) * step), shift(rows, min(token + 3, last) * step)
        p4, p5 = shift(rows, min(token + 4, last) * step), shift(rows, min(token + 5, last) * step)
        p6, p7 = shift(rows, min(token + 6, last) * step), shift(rows, min(token + 7, last) * step)
        d0 = d1 = d2 = d3 = d4 = d5 = d6 = d7 = bias
        for r in range(rank):
            w = load(slopes, r * BLOCK)
            d0, d1 = fma(w, spread(p0, r), d0), fma(w, spread(p1, r), d1)
            d2, d3 = fma(w, spread(p2, r), d2), fma(w, spread(p3, r), d3)
            d4, d5 = fma(w, spread(p4, r), d4), fma(w, spread(p5, r), d5)
            d6, d7 = fma(w, spread(p6, r), d6), fma(w, spread(p7, r), d7)
        at = token * lanes
        store(deltas, at, d0)
        store(deltas, at + lanes, d1)
        store(deltas, at + 2 * lanes, d2)
        store(deltas, at + 3 * lanes, d3)
        store(deltas, at + 4 * lanes, d4)
        store(deltas, at + 5 * lanes, d5)
        store(deltas, at + 6 * lanes, d6)
        store(deltas, at + 7 * lanes, d7)
    for at in range(0, count * lanes, lanes):
        d = softplus(load(deltas, at))
        store(deltas, at, d)
        store(drives, at, d * load(drives, at))


@njit(nogil=True)
def gate_task(task, data, size):
    """total *= SiLU(z), one part of both, which hold ``size`` numbers."""
    total, z = data
    for at in range(task * PLANE, min((task + 1) * PLANE, size), width_of(z)):
        gate = load(z, at)
        store(total, at, load(total, at) * (gate * sigmoid(gate)))


def _entry_points(digest):
    """The loops over tasks [first, last), compiled at their first call and cached on disk."""

    @compiled
    def gather_window(first, last, like, addresses, order, sizes, start, window):
        data = pointers(like, addresses)
        for task in range(first, last):
            gather_window_task(task, data, order, sizes, start, window)
        return digest

    @compiled
    def scan_window(first, last, like, addresses, order, sizes, start, window):
        data = pointers(like, addresses)
        for task in range(first, last):
            scan_window_task(task, data, order, sizes, start, window)
        return digest

    @compiled
    def gate(first, last, like, addresses, size):
        data = pointers(like, addresses)
        for task in range(first, last):
            gate_task(task, data, size)
        return digest

    return gather_window, scan_window, gate


gather_window, scan_window, gate = _entry_points(source_digest(numba_lanes, numba_forward, order_kernels))
