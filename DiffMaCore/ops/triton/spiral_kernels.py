"""Triton kernels of what surrounds the scan on a GPU: gather and convolve along every order, sum and gate.

All large tensors are contiguous: x, z and the outputs (2, B, L, E) in raster order, u (2, B, K, L, E) in scan order,
y (2, B, K, L, E) in raster order; a row is one branch of one sample. They are walked in tiles of T tokens by E
channels (`LANES`). Nothing is added by atomics: whatever is summed is gathered, or leaves as partial sums.
"""

# mypy: ignore-errors
# Triton gives its own meaning to Python inside kernels.
from __future__ import annotations

import triton
import triton.language as tl

from DiffMaCore.ops.triton.scan_kernels import sigmoid


@triton.jit
def _convolved(
    x, order, weight, bias, row, branch, k, token, lane, valid, length, width,
    TAPS: tl.constexpr,
):  # fmt: skip
    """Depthwise causal convolution of a tile of one order (T, LANES)."""
    total = tl.load(bias + branch * width + lane, mask=valid, other=0.0)[None, :]
    for tap in tl.static_range(TAPS):
        given = _tap(x, order, row, k, token - (TAPS - 1) + tap, lane, valid, length, width)
        total = total + given * tl.load(weight + (branch * TAPS + tap) * width + lane, mask=valid, other=0.0)[None, :]
    return total


@triton.jit
def _tap(x, order, row, k, at, lane, valid, length, width):
    """x at some places of an order; zero before its beginning and after its end."""
    there = (at >= 0) & (at < length)
    source = tl.load(order + k * length + at, mask=there, other=0).to(tl.int64)
    inside = there[:, None] & valid[None, :]
    return tl.load(x + (row * length + source[:, None]) * width + lane[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def gather(
    x, order, weight, bias, u, batch, length, width,
    ORDERS: tl.constexpr, TAPS: tl.constexpr, T: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """u = SiLU(convolution of x along every order); weight (2, TAPS, E), bias (2, E)."""
    tiles, blocks = tl.cdiv(length, T), tl.cdiv(width, LANES)
    program = tl.program_id(0).to(tl.int64)
    sequence, token = program // (blocks * tiles), program // blocks % tiles * T + tl.arange(0, T)
    lane = program % blocks * LANES + tl.arange(0, LANES)
    row, k, valid = sequence // ORDERS, sequence % ORDERS, lane < width
    v = _convolved(x, order, weight, bias, row, row // batch, k, token, lane, valid, length, width, TAPS)
    target = u + (sequence * length + token[:, None]) * width + lane[None, :]
    tl.store(target, v * sigmoid(v), mask=(token < length)[:, None] & valid[None, :])


@triton.jit
def gather_backward(
    x, order, weight, bias, du, dv, dweight, batch, length, width, spans,
    ORDERS: tl.constexpr, TAPS: tl.constexpr, SPAN: tl.constexpr, T: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """dv (like u), what the convolution's value is worth, and partial sums of the gradients of weight and bias.

    dweight: (2 * B * K, spans, TAPS + 1, E), the bias last; a program takes SPAN tiles.
    """
    blocks = tl.cdiv(width, LANES)
    program = tl.program_id(0).to(tl.int64)
    sequence, span = program // (blocks * spans), program // blocks % spans
    lane = program % blocks * LANES + tl.arange(0, LANES)
    row, k, valid = sequence // ORDERS, sequence % ORDERS, lane < width
    own = dweight + (sequence * spans + span) * (TAPS + 1) * width + lane
    dbias = tl.zeros([T, LANES], tl.float32)
    for tile in range(SPAN):
        token = (span * SPAN + tile) * T + tl.arange(0, T)
        inside = (token < length)[:, None] & valid[None, :]
        v = _convolved(x, order, weight, bias, row, row // batch, k, token, lane, valid, length, width, TAPS)
        s = sigmoid(v)
        at = (sequence * length + token[:, None]) * width + lane[None, :]
        g = tl.load(du + at, mask=inside, other=0.0).to(tl.float32) * s * (1.0 + v * (1.0 - s))
        tl.store(dv + at, g, mask=inside)
        dbias += g
        for tap in tl.static_range(TAPS):
            given = _tap(x, order, row, k, token - (TAPS - 1) + tap, lane, valid, length, width)
            share = tl.sum(g * given, axis=0)
            so_far = tl.load(own + tap * width, mask=valid & (lane * 0 + tile > 0), other=0.0)
            tl.store(own + tap * width, so_far + share, mask=valid)
        tl.debug_barrier()  # the next tile reads the sums that this one wrote
    tl.store(own + TAPS * width, tl.sum(dbias, axis=0), mask=valid)


@triton.jit
def scatter_backward(
    dv, position, weight, dx, batch, length, width,
    ORDERS: tl.constexpr, TAPS: tl.constexpr, T: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """dx: every raster token gathers dv from the places of every order that its value went to."""
    tiles, blocks = tl.cdiv(length, T), tl.cdiv(width, LANES)
    program = tl.program_id(0).to(tl.int64)
    row, token = program // (blocks * tiles), program // blocks % tiles * T + tl.arange(0, T)
    lane = program % blocks * LANES + tl.arange(0, LANES)
    branch, valid, here = row // batch, lane < width, token < length
    total = tl.zeros([T, LANES], tl.float32)
    for k in tl.static_range(ORDERS):
        place = tl.load(position + k * length + token, mask=here, other=0).to(tl.int64)
        for tap in tl.static_range(TAPS):
            at = place + (TAPS - 1) - tap
            inside = (here & (at < length))[:, None] & valid[None, :]
            source = dv + ((row * ORDERS + k) * length + at[:, None]) * width + lane[None, :]
            w = tl.load(weight + (branch * TAPS + tap) * width + lane, mask=valid, other=0.0)[None, :]
            total += tl.load(source, mask=inside, other=0.0).to(tl.float32) * w
    target = dx + (row * length + token[:, None]) * width + lane[None, :]
    tl.store(target, total, mask=here[:, None] & valid[None, :])


@triton.jit
def merge(y, z, total, out, size, ORDERS: tl.constexpr, KEEP: tl.constexpr, SIZE: tl.constexpr):
    """out = (total = sum of y over the orders) * SiLU(z); size = L * E."""
    blocks = tl.cdiv(size, SIZE)
    program = tl.program_id(0).to(tl.int64)
    row, at = program // blocks, program % blocks * SIZE + tl.arange(0, SIZE)
    inside = at < size
    gate = tl.load(z + row * size + at, mask=inside, other=0.0).to(tl.float32)
    summed = tl.zeros([SIZE], tl.float32)
    for k in tl.static_range(ORDERS):
        summed += tl.load(y + (row * ORDERS + k) * size + at, mask=inside, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(total + row * size + at, summed, mask=inside)
    tl.store(out + row * size + at, summed * gate * sigmoid(gate), mask=inside)


@triton.jit
def merge_backward(dout, total, z, dtotal, dz, count, SIZE: tl.constexpr):
    """dtotal and dz from dout, over all `count` numbers at once."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    gate = tl.load(z + at, mask=inside, other=0.0).to(tl.float32)
    pull = tl.load(dout + at, mask=inside, other=0.0).to(tl.float32)
    summed = tl.load(total + at, mask=inside, other=0.0).to(tl.float32)
    s = sigmoid(gate)
    tl.store(dtotal + at, pull * gate * s, mask=inside)
    tl.store(dz + at, pull * summed * s * (1.0 + gate * (1.0 - s)), mask=inside)
