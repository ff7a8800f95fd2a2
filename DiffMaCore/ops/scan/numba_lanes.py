"""SIMD lanes for Numba kernels: a value of several floats that LLVM keeps in one vector register.

Loops that LLVM may or may not vectorise are not left to luck: kernels written with these lanes are
vector code on every processor, split into narrower registers where it has no wider ones.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, overload, register_model
from numpy.polynomial import Chebyshev, Polynomial


def _has_avx512() -> bool:
    told = ("CPU_NAME", "CPU_FEATURES")
    if any(getattr(config, name) is not None for name in told) or not getattr(config, "ENABLE_AVX", True):
        return False  # Numba is set to compile for something other than this processor
    try:
        features = llvm.get_host_cpu_features()
        return bool(features.get("avx512f") and features.get("avx512dq"))
    except RuntimeError:
        return False


HAS_AVX512 = _has_avx512()
REGISTER_BYTES = 64 if HAS_AVX512 else 32
LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453


class LanesType(types.Type):
    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.count = REGISTER_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype} x {self.count})")


def lanes_of(dtype: Any) -> LanesType:
    """The register for numbers in memory; uint16 stands for bfloat16, which is widened to float32."""
    return LanesType(types.float32 if dtype == types.uint16 else dtype)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: LanesType) -> None:
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.count))


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    if isinstance(vector.element, ir.FloatType):
        value = float(np.float32(value))
    return ir.Constant(vector, [value] * vector.count)


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    # fmuladd, not fma: without fused hardware it becomes a multiplication and an addition, not a call.
    name = f"llvm.fmuladd.v{a.type.count}f{_bits(a.type)}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
    return builder.call(function, [a, b, c])


def _bits(vector: ir.VectorType) -> int:
    return 32 if isinstance(vector.element, ir.FloatType) else 64


def _clamp(builder: ir.IRBuilder, x: ir.Value, low: float, high: float) -> ir.Value:
    # Written so that NaN stays NaN and x86 needs one instruction a side.
    least, most = _constant(x.type, low), _constant(x.type, high)
    x = builder.select(builder.fcmp_ordered(">", least, x), least, x)
    return builder.select(builder.fcmp_ordered("<", most, x), most, x)


Registers = Sequence[ir.Value]
"""That are taken through every step side by side: while the instructions of one wait, the processor works on others."""


def _polynomials(builder: ir.IRBuilder, xs: Registers, coefficients: Sequence[float]) -> Registers:
    totals: Registers = [_constant(xs[0].type, coefficients[-1])] * len(xs)
    for coefficient in reversed(coefficients[:-1]):
        totals = [_fma(builder, total, x, _constant(x.type, coefficient)) for total, x in zip(totals, xs, strict=True)]
    return totals


def _fit(function: Callable[[Any], Any], degree: int, low: float, high: float) -> list[float]:
    """Near-minimax polynomial: the interpolant at Chebyshev nodes."""
    return list(Chebyshev.interpolate(function, degree, [low, high]).convert(kind=Polynomial).coef)


def _exp2_series(bits: int) -> list[float]:
    """2**f on [-1/2, 1/2]; exactly 1 at 0, so that slow decays keep their precision over many tokens."""
    degree = 4 if bits == 32 else 10

    def slope(f: Any) -> Any:
        return np.where(f == 0, LN2, np.expm1(f * LN2) / np.where(f == 0, 1, f))

    return [1.0, *_fit(slope, degree, -0.5, 0.5)]


def _exp2_series_from_0_to_1() -> list[float]:
    """2**f on [0, 1], for float32; exactly 1 and 2 at the ends, so that slow decays keep their precision.

    The instruction cuts f off: just below 0 a power is 6e-8 too small at most.
    """

    def between(f: Any) -> Any:
        inside = np.clip(f, 1e-7, 1 - 1e-7)
        return (np.exp2(inside) - 1 - inside) / (inside * (1 - inside))

    middle = Chebyshev.interpolate(between, 3, [0.0, 1.0]).convert(kind=Polynomial)
    return list((Polynomial([1.0, 1.0]) + Polynomial([0.0, 1.0, -1.0]) * middle).coef)


def _log1p_series(bits: int) -> list[float]:
    """log1p(e) / e on [0, 1]."""
    return _fit(lambda e: np.log1p(e) / e, 8 if bits == 32 else 20, 0.0, 1.0)


def _exp2(builder: ir.IRBuilder, xs: Registers) -> Registers:
    """2**x; 0 below the smallest normal number, infinity above the largest."""
    bits = _bits(xs[0].type)
    if HAS_AVX512 and bits == 32:
        return _exp2_by_scalef(builder, xs)
    mantissa, bias = (23, 127) if bits == 32 else (52, 1023)
    xs = [_clamp(builder, x, -bias, bias + 1) for x in xs]
    # Adding 1.5 * 2**mantissa rounds to an integer and leaves it in the low bits.
    magic = _constant(xs[0].type, 1.5 * 2.0**mantissa)
    shifted = [builder.fadd(x, magic) for x in xs]
    fractions = [builder.fsub(x, builder.fsub(s, magic)) for x, s in zip(xs, shifted, strict=True)]
    powers = _polynomials(builder, fractions, _exp2_series(bits))
    integers = ir.VectorType(ir.IntType(bits), xs[0].type.count)
    places = ir.Constant(integers, [mantissa] * integers.count)
    exponents = [builder.shl(builder.bitcast(s, integers), places) for s in shifted]
    sums = [builder.add(builder.bitcast(p, integers), e) for p, e in zip(powers, exponents, strict=True)]
    return [builder.bitcast(value, xs[0].type) for value in sums]


def _exp2_by_scalef(builder: ir.IRBuilder, xs: Registers) -> Registers:
    """2**x = p(x - n) * 2**n with n = floor(x), both by AVX-512 instructions that saturate."""
    vector, mask, mode = xs[0].type, ir.IntType(16), ir.IntType(32)
    every, current_rounding, floor = ir.Constant(mask, -1), ir.Constant(mode, 4), ir.Constant(mode, 1)

    def instruction(name: str, *arguments: ir.Type) -> Any:
        kind = ir.FunctionType(vector, arguments)
        return cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.mask.{name}.ps.512")

    reduce = instruction("reduce", vector, mode, vector, mask, mode)
    scalef = instruction("scalef", vector, vector, vector, mask, mode)
    fractions = [builder.call(reduce, [x, floor, x, every, current_rounding]) for x in xs]
    powers = _polynomials(builder, fractions, _exp2_series_from_0_to_1())
    return [builder.call(scalef, [p, x, x, every, current_rounding]) for p, x in zip(powers, xs, strict=True)]


def _sigmoid(builder: ir.IRBuilder, xs: Registers) -> Registers:
    one, slope = _constant(xs[0].type, 1.0), _constant(xs[0].type, -LOG2E)
    decays = _exp2(builder, [builder.fmul(x, slope) for x in xs])
    return [builder.fdiv(one, builder.fadd(one, decay)) for decay in decays]


def _softplus(builder: ir.IRBuilder, xs: Registers) -> Registers:
    """max(x, 0) + log1p(exp(-|x|))."""
    vector = xs[0].type
    zero, slope = _constant(vector, 0.0), _constant(vector, -LOG2E)
    below = [builder.fcmp_ordered("<", x, zero) for x in xs]
    magnitudes = [builder.select(b, builder.fneg(x), x) for b, x in zip(below, xs, strict=True)]
    decays = _exp2(builder, [builder.fmul(magnitude, slope) for magnitude in magnitudes])
    slopes = _polynomials(builder, decays, _log1p_series(_bits(vector)))
    above = [builder.select(b, zero, x) for b, x in zip(below, xs, strict=True)]
    return [_fma(builder, *parts) for parts in zip(decays, slopes, above, strict=True)]


def _dot(builder: ir.IRBuilder, xs: Registers, ys: Registers, totals: Registers) -> Registers:
    total = totals[0]
    for x, y in zip(xs, ys, strict=True):
        total = _fma(builder, x, y, total)
    return [total]


def _each(emit: Callable[..., ir.Value]) -> Callable[..., Registers]:
    return lambda builder, *operands: [emit(builder, *each) for each in zip(*operands, strict=True)]


def _operation(name: str, operands: str, emit: Callable[..., Registers], single: bool = False) -> Any:
    """An intrinsic on registers, or on tuples of so many; a register serves beside a tuple as well.

    Its operands have names of one letter. Gives as many registers as it is given, or one where it is ``single``.
    """

    def define(typingctx: Any, *kinds: Any) -> Any:
        groups = [kind for kind in kinds if isinstance(kind, types.UniTuple)]
        lanes = groups[0].dtype if groups else kinds[0]
        if not isinstance(lanes, LanesType) or any(kind not in (lanes, *groups[:1]) for kind in kinds):
            return None
        result = groups[0] if groups and not single else lanes

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            count = groups[0].count if groups else 1
            values = [
                cgutils.unpack_tuple(builder, value) if isinstance(kind, types.UniTuple) else [value] * count
                for value, kind in zip(args, kinds, strict=True)
            ]
            made = emit(builder, *values)
            return made[0] if result is lanes else context.make_tuple(builder, result, made)

        return result(*kinds), codegen

    define.__name__ = name
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(each, kind) for each in ("typingctx", *operands)]
    define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(define)


add = _operation("add", "ab", _each(lambda builder, a, b: builder.fadd(a, b)))
subtract = _operation("subtract", "ab", _each(lambda builder, a, b: builder.fsub(a, b)))
multiply = _operation("multiply", "ab", _each(lambda builder, a, b: builder.fmul(a, b)))
fma = _operation("fma", "abc", _each(_fma))
"""a * b + c."""
dot = _operation("dot", "abc", _dot, single=True)
"""The register c, and added to it the products of the tuples a and b, one after the other."""
exp2 = _operation("exp2", "x", _exp2)
sigmoid = _operation("sigmoid", "x", _sigmoid)
softplus = _operation("softplus", "x", _softplus)


def _operator(elementwise: Any) -> Any:
    # Not annotated: Numba wants the same signature here and in what is returned.
    def choose(a, b):
        return (lambda a, b: elementwise(a, b)) if isinstance(a, LanesType) and a == b else None

    return choose


overload(operator.add)(_operator(add))
overload(operator.sub)(_operator(subtract))
overload(operator.mul)(_operator(multiply))


@njit
def steps(offset, step):  # type: ignore[no-untyped-def]
    """Four offsets, ``step`` numbers apart."""
    return offset, offset + step, offset + 2 * step, offset + 3 * step


@intrinsic
def pointers(typingctx: Any, like: Any, addresses: Any) -> Any:
    """Addresses of contiguous memory, as pointers to numbers of the type of `like`, or each of its own of a tuple.

    Pointers instead of arrays: Numba counts references to an array at every call, in atomic operations.
    """
    several: Any = like if isinstance(like, types.BaseTuple) else [like] * addresses.count
    kinds = [types.CPointer(each) for each in several]
    result = types.Tuple(kinds)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        given = zip(cgutils.unpack_tuple(builder, args[1]), kinds, strict=True)
        values = [builder.inttoptr(address, context.get_value_type(kind)) for address, kind in given]
        return context.make_tuple(builder, result, values)

    return result(like, addresses), codegen


@intrinsic
def shift(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """The pointer, `offset` numbers further on."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic
def given(typingctx: Any, pointer: Any) -> Any:
    """Whether the pointer points to something; an option that is not used has address 0."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return cgutils.is_not_null(builder, args[0])

    return types.boolean(pointer), codegen


@intrinsic
def width_of(typingctx: Any, pointer: Any) -> Any:
    """Lanes in a register of the numbers pointed to."""
    count = lanes_of(pointer.dtype).count

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(types.intp), count)

    return types.intp(pointer), codegen


def _integers(bits: int, lanes: Any) -> ir.VectorType:
    return ir.VectorType(ir.IntType(bits), lanes.count)


def _filled(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _widened(builder: ir.IRBuilder, half: ir.Value, lanes: Any, vector: ir.VectorType) -> ir.Value:
    wide = _integers(32, lanes)
    return builder.bitcast(builder.shl(builder.zext(half, wide), _filled(wide, 16)), vector)


def _rounded(builder: ir.IRBuilder, value: ir.Value, lanes: Any) -> ir.Value:
    """float32 to bfloat16, to the nearest, ties to even."""
    wide, half = _integers(32, lanes), _integers(16, lanes)
    bits = builder.bitcast(value, wide)
    odd = builder.and_(builder.lshr(bits, _filled(wide, 16)), _filled(wide, 1))
    near = builder.lshr(builder.add(bits, builder.add(odd, _filled(wide, 0x7FFF))), _filled(wide, 16))
    is_number = builder.fcmp_ordered("ord", value, value)
    return builder.trunc(builder.select(is_number, near, _filled(wide, 0x7FC0)), half)


def _offsets(kind: Any) -> Any:
    return types.UniTuple(types.intp, kind.count) if isinstance(kind, types.UniTuple) else types.intp


def _places(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value, kind: Any) -> list[ir.Value]:
    offsets = cgutils.unpack_tuple(builder, offset) if isinstance(kind, types.UniTuple) else [offset]
    return [builder.gep(pointer, [each]) for each in offsets]


def _reading(pointer: Any, offset: Any, emit: Callable[..., ir.Value]) -> Any:
    """Type and code of an intrinsic that makes a register from each place: a tuple of them where offsets are one."""
    lanes, places = lanes_of(pointer.dtype), _offsets(offset)
    several = isinstance(places, types.UniTuple)
    result = types.UniTuple(lanes, places.count) if several else lanes

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(lanes)
        made = [emit(builder, place, lanes, vector) for place in _places(builder, args[0], args[1], places)]
        return context.make_tuple(builder, result, made) if several else made[0]

    return result(pointer, places), codegen


@intrinsic
def load(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """Lanes from element ``offset`` on; of a tuple of offsets, a tuple."""

    def emit(builder: ir.IRBuilder, place: ir.Value, lanes: Any, vector: ir.VectorType) -> ir.Value:
        if pointer.dtype == types.uint16:
            half = builder.load(builder.bitcast(place, _integers(16, lanes).as_pointer()), align=2)
            return _widened(builder, half, lanes, vector)
        return builder.load(builder.bitcast(place, vector.as_pointer()), align=pointer.dtype.bitwidth // 8)

    return _reading(pointer, offset, emit)


@intrinsic
def spread(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """Element ``offset`` in every lane; of a tuple of offsets, a tuple."""
    return _reading(
        pointer, offset, lambda builder, place, lanes, vector: _spread(builder, vector, builder.load(place))
    )


@intrinsic
def store(typingctx: Any, pointer: Any, offset: Any, value: Any) -> Any:
    """Write lanes from element ``offset`` on, or each of a tuple from its offset."""
    places = _offsets(offset)
    several = isinstance(places, types.UniTuple)
    lanes = value.dtype if several else value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        values = cgutils.unpack_tuple(builder, args[2]) if several else [args[2]]
        for place, each in zip(_places(builder, args[0], args[1], places), values, strict=True):
            register = _rounded(builder, each, lanes) if pointer.dtype == types.uint16 else each
            target = builder.bitcast(place, register.type.as_pointer())
            builder.store(register, target, align=pointer.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(pointer, places, value), codegen


def _spread(builder: ir.IRBuilder, vector: ir.VectorType, scalar: ir.Value) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, undefined, mask)


@intrinsic
def number(typingctx: Any, pointer: Any, value: Any) -> Any:
    """A float64 number in every lane, as the type pointed to."""
    lanes = lanes_of(pointer.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        scalar = context.cast(builder, args[1], types.float64, lanes.dtype)
        return _spread(builder, context.get_value_type(lanes), scalar)

    return lanes(pointer, types.float64), codegen


@intrinsic
def prefetch(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """Ask for the cache line of element ``offset``, or of each of a tuple; harmless outside the memory."""
    places = _offsets(offset)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep_in_all_caches, data_cache = (ir.Constant(flag, value) for value in (0, 3, 1))
        for place in _places(builder, args[0], args[1], places):
            address = builder.bitcast(place, cgutils.voidptr_t)
            builder.call(function, [address, read, keep_in_all_caches, data_cache])
        return context.get_dummy_value()

    return types.void(pointer, places), codegen


def _shuffled_sum(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, first: list[int], second: list[int]) -> ir.Value:
    index = ir.VectorType(ir.IntType(32), len(first))
    parts = [builder.shuffle_vector(a, b, ir.Constant(index, lanes)) for lanes in (first, second)]
    return builder.fadd(*parts)


@intrinsic
def store_totals(typingctx: Any, pointer: Any, offset: Any, registers: Any) -> Any:
    """Write the sums over the lanes of each of four registers to elements `offset` to `offset + 3`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        a, b, c, d = cgutils.unpack_tuple(builder, args[2])
        count = registers.dtype.count
        quads = range(0, count, 4)
        # a0+a2 b0+b2 a1+a3 b1+b3 of every four lanes, then a b c d of every four lanes, then fold.
        pair = [[q + at + other for q in quads for at in (k, k + 1) for other in (0, count)] for k in (0, 2)]
        ab, cd = _shuffled_sum(builder, a, b, *pair), _shuffled_sum(builder, c, d, *pair)
        four = [[q + at + other for q in quads for other in (0, count) for at in (k, k + 1)] for k in (0, 2)]
        sums = _shuffled_sum(builder, ab, cd, *four)
        while count > 4:
            count //= 2
            sums = _shuffled_sum(builder, sums, sums, list(range(count)), list(range(count, 2 * count)))
        target = builder.bitcast(builder.gep(args[0], [args[1]]), sums.type.as_pointer())
        builder.store(sums, target, align=registers.dtype.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, registers), codegen
