"""Triton kernels of the selective scan: one program walks one sequence over one block of channels.

A tile is T tokens by E channels. Its channels lie across the lanes of a warp and its tokens within each thread, so
that the recurrences over the tokens are straight multiply-adds without a shuffle. The compiler would rather lay the
tokens across lanes: it must not learn that channels are neighbours, so no stride is specialised (``EXACT``). So it is
in Triton 3.9; 3.3 to 3.6 lay the tokens across lanes all the same, which is right but slow.

Of the state only what stands at the tiles' borders reaches memory; the backward pass recomputes the rest. Sums over
channels leave as one partial sum a program: no atomics, the same bits every time. Exponents are powers of two:
A comes multiplied by log2(e). Everything is computed in float32.
"""

# mypy: ignore-errors
# Triton gives its own meaning to Python inside kernels.
from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
EXACT = [
    *(f"{name}_{axis}" for name in ("u", "delta", "z", "y", "du", "ddelta", "dz") for axis in ("token", "channel")),
    *("one", "length"),
]


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(x * -LOG2E))


@triton.jit
def softplus(x):
    """max(x, 0) + log(1 + exp(-|x|)), the logarithm as 2 artanh(e / (2 + e)) by its series: six digits anywhere."""
    e = tl.exp2(tl.abs(x) * -LOG2E)
    s = e / (2.0 + e)
    q = s * s
    series = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13))))))
    return tl.maximum(x, 0.0) + 2.0 * s * series


@triton.jit
def _tile(pointer, inside):
    return tl.load(pointer, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _constants(pointer, channel, one, valid, GIVEN: tl.constexpr, E: tl.constexpr):
    """One number a channel (1, E), zeros where there are none."""
    row = tl.load(pointer + channel * one, mask=valid, other=0.0) if GIVEN else tl.zeros([E], tl.float32)
    return row[None, :]


@triton.jit
def _row(pointer, row, n, chunk, chunks, T: tl.constexpr):
    """One state's weights for a tile, of B or C (T, 1)."""
    return tl.load(pointer + ((row + n) * chunks + chunk) * T + tl.arange(0, T))[:, None]


@triton.jit
def _at(pointer, seq, group, token, lane, of_seq, of_group, of_token, of_lane):
    """Where the numbers of a tile stand (T, E)."""
    return pointer + seq * of_seq + group * of_group + token[:, None] * of_token + lane[None, :] * of_lane


@triton.jit
def _place(place, seq, token, length, ORDERS: tl.constexpr):
    """Where the tokens of a tile stand in raster order; without orders they stand where they are."""
    if ORDERS > 0:
        where = tl.load(place + (seq % ORDERS) * length + token, mask=token < length, other=0).to(tl.int64)
    else:
        where = token
    return where


@triton.jit
def _pick(tile, here):
    """One token's row (1, E) of a tile: a register, as `here` is known to the compiler and adding -0.0 to nothing."""
    return tl.sum(tl.where(here, tile, -0.0), axis=0)[None, :]


@triton.jit
def _states(decay, x, state, t, T: tl.constexpr):
    """States of a tile (T, E), and the last one (1, E), from the one before it (1, E).

    Token by token, which compiles to the same as tl.associative_scan and also goes backward without turning tiles.
    """
    states = x
    for i in tl.static_range(T):
        here = (t == i)[:, None]
        state = _pick(decay, here) * state + _pick(x, here)
        states = tl.where(here, state, states)
    return states, state


@triton.jit
def _pulls(decay, pull, after, t, T: tl.constexpr):
    """What the outputs say about every state of a tile (T, E), and about the state before it (1, E).

    `after` (1, E) is what the tokens after the tile say about its last state.
    """
    pulls = pull
    for i in tl.static_range(T):
        here = (t == T - 1 - i)[:, None]
        pulled = _pick(pull, here) + after
        pulls = tl.where(here, pulled, pulls)
        after = _pick(decay, here) * pulled
    return pulls, after


@triton.jit(do_not_specialize=EXACT)
def scan_forward(
    u, delta, z, A, B, C, D, bias, place, y, border,
    u_seq, u_group, u_token, u_channel, delta_seq, delta_group, delta_token, delta_channel,
    z_seq, z_group, z_token, z_channel, y_seq, y_group, y_token, y_channel, one, length, chunks, groups, width,
    N: tl.constexpr, T: tl.constexpr, E: tl.constexpr, ORDERS: tl.constexpr, WHOLE: tl.constexpr,
    SOFTPLUS: tl.constexpr, HAS_Z: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    """Outputs y and the state at the end of each tile.

    u, delta, z and y (S, groups, width, length) by their strides; A (N, channels); B, C (S, G, N, chunks * T);
    D, bias (channels,); border (S, chunks, N, channels), or (S, 1, N, channels) if only the last state is kept. With
    ORDERS, `place` (ORDERS, length) tells where in y the tokens of each order belong; sequences count the orders
    fastest.
    """
    blocks = tl.cdiv(width, E)
    program = tl.program_id(0).to(tl.int64)
    seq, group, lane = program // (blocks * groups), program // blocks % groups, program % blocks * E + tl.arange(0, E)
    channels, channel, valid = groups * width, group * width + lane, lane < width
    row = (seq * groups + group) * N
    t = tl.arange(0, T)
    shift = _constants(bias, channel, one, valid, HAS_BIAS, E)
    skip = _constants(D, channel, one, valid, HAS_D, E)
    for chunk in range(chunks):
        token = (chunk * T + t).to(tl.int64)
        inside = (token < length)[:, None]
        if not WHOLE:
            inside = inside & valid[None, :]
        raw = _tile(_at(delta, seq, group, token, lane, delta_seq, delta_group, delta_token, delta_channel), inside)
        given = _tile(_at(u, seq, group, token, lane, u_seq, u_group, u_token, u_channel), inside)
        step = raw + shift
        if SOFTPLUS:
            step = softplus(step)
        step = tl.where(inside, step, 0.0)  # beyond the end the state stays
        drive = step * given
        out = given * skip
        ending = border + (seq * chunks + chunk if KEEP else seq) * N * channels + channel * one
        before = ending - (N * channels if KEEP else 0)
        for n in range(N):
            decay = tl.exp2(step * tl.load(A + n * channels + channel * one, mask=valid, other=0.0)[None, :])
            b = _row(B, row, n, chunk, chunks, T)
            c = _row(C, row, n, chunk, chunks, T)
            start = tl.load(before + n * channels, mask=valid & (chunk > 0), other=0.0)
            h, state = _states(decay, drive * b, start[None, :], t, T)
            tl.store(ending + n * channels, tl.sum(state, axis=0), mask=valid)
            out += h * c
        if HAS_Z:
            gate = _tile(_at(z, seq, group, token, lane, z_seq, z_group, z_token, z_channel), inside)
            out *= gate * sigmoid(gate)
        where = _place(place, seq, token, length, ORDERS)
        tl.store(_at(y, seq, group, where, lane, y_seq, y_group, y_token, y_channel), out, mask=inside)
        tl.debug_barrier()  # the next tile reads the states that this one wrote


@triton.jit
def _add(pointer, value, again, valid):
    """Add to a sum that one program owns; it starts at its first addition."""
    tl.store(pointer, tl.load(pointer, mask=again, other=0.0) + value, mask=valid)


@triton.jit(do_not_specialize=EXACT)
def scan_backward(
    dy, u, delta, z, A, B, C, D, bias, place, border, dlast, carry, du, ddelta, dz, dA, dB, dC, dD, dbias,
    y_seq, y_group, y_token, y_channel, u_seq, u_group, u_token, u_channel,
    delta_seq, delta_group, delta_token, delta_channel, z_seq, z_group, z_token, z_channel,
    du_seq, du_group, du_token, du_channel, ddelta_seq, ddelta_group, ddelta_token, ddelta_channel,
    dz_seq, dz_group, dz_token, dz_channel, one, length, chunks, groups, width,
    N: tl.constexpr, T: tl.constexpr, E: tl.constexpr, ORDERS: tl.constexpr, WHOLE: tl.constexpr,
    SOFTPLUS: tl.constexpr, HAS_Z: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_LAST: tl.constexpr,
):  # fmt: skip
    """Gradients of what `scan_forward` was given, from those of y (`dy`) and of the last state (`dlast`).

    dA, dlast and the scratch `carry` are (S, N, channels); dD and dbias (S, channels); dB and dC
    (S, G, blocks, N, chunks * T). With ORDERS, dy has one row for all orders of a sample.
    """
    blocks = tl.cdiv(width, E)
    program = tl.program_id(0).to(tl.int64)
    seq, group, lane = program // (blocks * groups), program // blocks % groups, program % blocks * E + tl.arange(0, E)
    channels, channel, valid = groups * width, group * width + lane, lane < width
    row = (seq * groups + group) * N
    own = seq * N * channels + channel * one
    t = tl.arange(0, T)
    shift = _constants(bias, channel, one, valid, HAS_BIAS, E)
    skip = _constants(D, channel, one, valid, HAS_D, E)
    sum_D, sum_bias = tl.zeros([E], tl.float32), tl.zeros([E], tl.float32)
    for done in range(chunks):
        chunk = chunks - 1 - done
        again = valid & (done > 0)
        token = (chunk * T + t).to(tl.int64)
        inside = (token < length)[:, None]
        if not WHOLE:
            inside = inside & valid[None, :]
        at_delta = _at(delta, seq, group, token, lane, delta_seq, delta_group, delta_token, delta_channel)
        at_u = _at(u, seq, group, token, lane, u_seq, u_group, u_token, u_channel)
        where = _place(place, seq, token, length, ORDERS)
        sample = seq // ORDERS if ORDERS > 0 else seq
        pull = _tile(_at(dy, sample, group, where, lane, y_seq, y_group, y_token, y_channel), inside)
        if HAS_Z:
            gate = _tile(_at(z, seq, group, token, lane, z_seq, z_group, z_token, z_channel), inside)
            open_ = sigmoid(gate)
            dgate = pull * open_ * (1.0 + gate * (1.0 - open_))
            pull *= gate * open_
            out = _tile(at_u, inside) * skip
        step = _tile(at_delta, inside) + shift
        if SOFTPLUS:
            step = softplus(step)
        step = tl.where(inside, step, 0.0)
        drive = step * _tile(at_u, inside)
        ddrive = tl.zeros([T, E], tl.float32)
        dexponent = tl.zeros([T, E], tl.float32)
        before = border + (seq * chunks + chunk - 1) * N * channels + channel * one
        begun = valid & (lane * 0 + chunk > 0)
        for n in range(N):
            a = tl.load(A + n * channels + channel * one, mask=valid, other=0.0)[None, :]
            b = _row(B, row, n, chunk, chunks, T)
            c = _row(C, row, n, chunk, chunks, T)
            start = tl.load(before + n * channels, mask=begun, other=0.0)
            after = tl.load(carry + own + n * channels, mask=again, other=0.0)
            if HAS_LAST:
                after += tl.load(dlast + own + n * channels, mask=valid & (done == 0), other=0.0)
            decay = tl.exp2(step * a)
            x = drive * b
            h, _ = _states(decay, x, start[None, :], t, T)
            p, passed = _pulls(decay, pull * c, after[None, :], t, T)
            tl.store(carry + own + n * channels, tl.sum(passed, axis=0), mask=valid)
            if HAS_Z:
                out += h * c
            ddrive += p * b
            slowed = p * (h - x)  # h - x is decay times the state before
            dexponent += slowed * a
            _add(dA + own + n * channels, tl.sum(slowed * step, axis=0), again, valid)
            share = ((program * N + n) * chunks + chunk) * T + t
            tl.store(dB + share, tl.sum(p * drive, axis=1))
            tl.store(dC + share, tl.sum(pull * h, axis=1))
        given = _tile(at_u, inside)  # again, as registers are scarcer than bandwidth; so are the steps
        dstep = ddrive * given + dexponent * LN2
        if SOFTPLUS:
            dstep *= sigmoid(_tile(at_delta, inside) + shift)
        if HAS_D:
            sum_D += tl.sum(pull * given, axis=0)
        if HAS_BIAS:
            sum_bias += tl.sum(tl.where(inside, dstep, 0.0), axis=0)
        if HAS_Z:
            tl.store(_at(dz, seq, group, token, lane, dz_seq, dz_group, dz_token, dz_channel), dgate * out, mask=inside)
        at_du = _at(du, seq, group, token, lane, du_seq, du_group, du_token, du_channel)
        tl.store(at_du, ddrive * step + pull * skip, mask=inside)
        at_ddelta = _at(ddelta, seq, group, token, lane, ddelta_seq, ddelta_group, ddelta_token, ddelta_channel)
        tl.store(at_ddelta, dstep, mask=inside)
        tl.debug_barrier()  # the next tile reads the sums that this one wrote
    if HAS_D:
        tl.store(dD + seq * channels + channel * one, sum_D, mask=valid)
    if HAS_BIAS:
        tl.store(dbias + seq * channels + channel * one, sum_bias, mask=valid)
