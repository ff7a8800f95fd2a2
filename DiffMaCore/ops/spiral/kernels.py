"""Numba kernels of what surrounds the scan on a CPU: one task is one sample and one branch.

Pointers lead to contiguous float32 memory, `order` and `position` are flat arrays; E is the inner width of a
branch, K the number of orders. `sizes` holds K, B, L, E and the taps of the convolution.
"""

# mypy: ignore-errors
# Numba infers its own types, and its intrinsics have other signatures inside kernels.
from __future__ import annotations

from numba import njit

from DiffMaCore.ops.scan import numba_lanes
from DiffMaCore.ops.scan.compiling import compiled, source_digest
from DiffMaCore.ops.scan.numba_lanes import REGISTER_BYTES, fma, load, number, pointers, shift, sigmoid, store

LANES = REGISTER_BYTES // 4


@njit(nogil=True)
def convolve(x, order, place, token, width, weight, bias, taps, channels):
    """Depthwise causal convolution at one token of one order, one register of channels.

    Pointers lead to this register: in x (L, width), in weight (taps, channels) and in bias.
    """
    total = load(bias, 0)
    for tap in range(max(0, taps - 1 - token), taps):
        source = order[place + token - (taps - 1) + tap]
        total = fma(load(x, source * width), load(weight, tap * channels), total)
    return total


@njit(nogil=True)
def convolve_four(x, at0, at1, at2, at3, weight, bias, channel, channels):
    """The same for four taps that are all there, from where their tokens begin in x, as straight code."""
    total = fma(load(x, at0), load(weight, channel), load(bias, channel))
    total = fma(load(x, at1), load(weight, channels + channel), total)
    total = fma(load(x, at2), load(weight, 2 * channels + channel), total)
    return fma(load(x, at3), load(weight, 3 * channels + channel), total)


@njit(nogil=True)
def gather_task(task, data, order, sizes):
    """out (B, K, L, 2E) = SiLU(conv(x (2, B, L, E) along order (K, L))); weight (taps, 2E), bias (2E,)."""
    x, weight, bias, out = data
    orders, batch, length, inner, taps = sizes
    branch, sample = task % 2, task // 2
    row = (branch * batch + sample) * length
    for k in range(orders):
        for token in range(length):
            target = ((sample * orders + k) * length + token) * 2 * inner + branch * inner
            if taps == 4 and token >= 3:
                place = k * length + token
                at0, at1 = (row + order[place - 3]) * inner, (row + order[place - 2]) * inner
                at2, at3 = (row + order[place - 1]) * inner, (row + order[place]) * inner
                for lane in range(0, inner, LANES):
                    channel = branch * inner + lane
                    v = convolve_four(
                        x, at0 + lane, at1 + lane, at2 + lane, at3 + lane, weight, bias, channel, 2 * inner
                    )
                    store(out, target + lane, v * sigmoid(v))
            else:
                for lane in range(0, inner, LANES):
                    channel = branch * inner + lane
                    given, w, b = shift(x, row * inner + lane), shift(weight, channel), shift(bias, channel)
                    v = convolve(given, order, k * length, token, inner, w, b, taps, 2 * inner)
                    store(out, target + lane, v * sigmoid(v))


@njit(nogil=True)
def gather_backward_task(task, data, order, sizes):
    """dx (2, B, L, E), and each sample's own dweight (B, taps, 2E) and dbias (B, 2E); all start at zero."""
    x, weight, bias, dout, dx, dweight, dbias = data
    orders, batch, length, inner, taps = sizes
    branch, sample = task % 2, task // 2
    row = (branch * batch + sample) * length
    one = number(x, 1.0)
    for k in range(orders):
        for token in range(length):
            target = ((sample * orders + k) * length + token) * 2 * inner + branch * inner
            for lane in range(0, inner, LANES):
                channel = branch * inner + lane
                given, w, b = shift(x, row * inner + lane), shift(weight, channel), shift(bias, channel)
                v = convolve(given, order, k * length, token, inner, w, b, taps, 2 * inner)
                s = sigmoid(v)
                g = load(dout, target + lane) * (s * fma(v, one - s, one))
                at = sample * 2 * inner + channel
                store(dbias, at, load(dbias, at) + g)
                for tap in range(max(0, taps - 1 - token), taps):
                    source = (row + order[k * length + token - (taps - 1) + tap]) * inner + lane
                    at = (sample * taps + tap) * 2 * inner + channel
                    store(dweight, at, fma(g, load(x, source), load(dweight, at)))
                    store(dx, source, fma(g, load(weight, tap * 2 * inner + channel), load(dx, source)))


@njit(nogil=True)
def collect(y, position, sample, token, channel, sizes):
    """Sum over the orders of what stands at one raster token, one register of channels."""
    orders, _, length, inner, _ = sizes
    total = load(y, ((sample * orders) * length + position[token]) * 2 * inner + channel)
    for k in range(1, orders):
        at = (sample * orders + k) * length + position[k * length + token]
        total = total + load(y, at * 2 * inner + channel)
    return total


@njit(nogil=True)
def merge_task(task, data, position, sizes):
    """out (2, B, L, E) = (sum over orders of y (B, K, L, 2E)) * SiLU(z (2, B, L, E))."""
    y, z, out = data
    _, batch, length, inner, _ = sizes
    branch, sample = task % 2, task // 2
    row = (branch * batch + sample) * length
    for token in range(length):
        for lane in range(0, inner, LANES):
            gate = load(z, (row + token) * inner + lane)
            total = collect(y, position, sample, token, branch * inner + lane, sizes)
            store(out, (row + token) * inner + lane, total * (gate * sigmoid(gate)))


@njit(nogil=True)
def merge_backward_task(task, data, position, sizes):
    """dy (B, K, L, 2E) and dz (2, B, L, E)."""
    y, z, dout, dy, dz = data
    orders, batch, length, inner, _ = sizes
    branch, sample = task % 2, task // 2
    row = (branch * batch + sample) * length
    one = number(y, 1.0)
    for token in range(length):
        for lane in range(0, inner, LANES):
            at = (row + token) * inner + lane
            channel = branch * inner + lane
            gate = load(z, at)
            s = sigmoid(gate)
            g = load(dout, at)
            total = collect(y, position, sample, token, channel, sizes)
            store(dz, at, g * total * (s * fma(gate, one - s, one)))
            back = g * (gate * s)
            for k in range(orders):
                there = (sample * orders + k) * length + position[k * length + token]
                store(dy, there * 2 * inner + channel, back)


def _entry_points(digest):
    """The loops over tasks [first, last), compiled at their first call and cached on disk."""

    @compiled
    def gather(first, last, like, addresses, order, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            gather_task(task, data, order, sizes)
        return digest

    @compiled
    def gather_backward(first, last, like, addresses, order, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            gather_backward_task(task, data, order, sizes)
        return digest

    @compiled
    def merge(first, last, like, addresses, position, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            merge_task(task, data, position, sizes)
        return digest

    @compiled
    def merge_backward(first, last, like, addresses, position, sizes):
        data = pointers(like, addresses)
        for task in range(first, last):
            merge_backward_task(task, data, position, sizes)
        return digest

    return gather, gather_backward, merge, merge_backward


gather, gather_backward, merge, merge_backward = _entry_points(source_digest(numba_lanes))
