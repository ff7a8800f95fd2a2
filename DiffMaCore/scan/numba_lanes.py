"""SIMD lanes for Numba kernels: a value of several floats that LLVM keeps in one vector register.

Loops that LLVM may or may not vectorise are not left to luck: kernels written with these lanes are
vector code on every processor, split into narrower registers where it has no wider ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numpy.polynomial import Chebyshev, Polynomial


def _register_bytes() -> int:
    try:
        return 64 if llvm.get_host_cpu_features().get("avx512f") else 32
    except RuntimeError:
        return 32


REGISTER_BYTES = _register_bytes()
HAS_SCALEF = True
LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453


class LanesType(types.Type):
    """Numba type of a register of float32 or float64 lanes."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.count = REGISTER_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype} x {self.count})")


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


def _polynomial(builder: ir.IRBuilder, x: ir.Value, coefficients: list[float]) -> ir.Value:
    total: ir.Value = _constant(x.type, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = _fma(builder, total, x, _constant(x.type, coefficient))
    return total


def _fit(function: Callable[[Any], Any], degree: int, low: float, high: float) -> list[float]:
    """Near-minimax polynomial: the interpolant at Chebyshev nodes."""
    return list(Chebyshev.interpolate(function, degree, [low, high]).convert(kind=Polynomial).coef)


def _exp2_series(bits: int) -> list[float]:
    """2**f on [-1/2, 1/2]; exactly 1 at 0, so that slow decays keep their precision over many tokens."""
    degree = 4 if bits == 32 else 10
    def slope(f: Any) -> Any:
        return np.where(f == 0, LN2, np.expm1(f * LN2) / np.where(f == 0, 1, f))

    return [1.0, *_fit(slope, degree, -0.5, 0.5)]


def _log1p_series(bits: int) -> list[float]:
    """log1p(e) / e on [0, 1]."""
    return _fit(lambda e: np.log1p(e) / e, 8 if bits == 32 else 20, 0.0, 1.0)


def _exp2(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """2**x; 0 below the smallest normal number, infinity above the largest."""
    bits = _bits(x.type)
    mantissa, bias = (23, 127) if bits == 32 else (52, 1023)
    if HAS_SCALEF and x.type.count == 16:
        return _exp2_by_scalef(builder, x)
    x = _clamp(builder, x, -bias, bias + 1)
    # Adding 1.5 * 2**mantissa rounds to an integer and leaves it in the low bits.
    magic = _constant(x.type, 1.5 * 2.0**mantissa)
    shifted = builder.fadd(x, magic)
    fraction = builder.fsub(x, builder.fsub(shifted, magic))
    power = _polynomial(builder, fraction, _exp2_series(bits))
    integers = ir.VectorType(ir.IntType(bits), x.type.count)
    places = ir.Constant(integers, [mantissa] * x.type.count)
    exponent = builder.shl(builder.bitcast(shifted, integers), places)
    return builder.bitcast(builder.add(builder.bitcast(power, integers), exponent), x.type)


def _exp2_by_scalef(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """2**x = p(x - n) * 2**n with n = round(x); the latter by an AVX-512 instruction that saturates."""
    unary = ir.FunctionType(x.type, [x.type])
    integer = builder.call(cgutils.get_or_insert_function(builder.module, unary, "llvm.nearbyint.v16f32"), [x])
    power = _polynomial(builder, builder.fsub(x, integer), _exp2_series(32))
    mask, mode = ir.IntType(16), ir.IntType(32)
    scalef = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(x.type, [x.type, x.type, x.type, mask, mode]),
        "llvm.x86.avx512.mask.scalef.ps.512",
    )
    current_rounding = 4
    return builder.call(scalef, [power, integer, x, ir.Constant(mask, -1), ir.Constant(mode, current_rounding)])


def _sigmoid(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    one = _constant(x.type, 1.0)
    decay = _exp2(builder, builder.fmul(x, _constant(x.type, -LOG2E)))
    return builder.fdiv(one, builder.fadd(one, decay))


def _softplus(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """max(x, 0) + log1p(exp(-|x|))."""
    zero = _constant(x.type, 0.0)
    below = builder.fcmp_ordered("<", x, zero)
    magnitude = builder.select(below, builder.fneg(x), x)
    e = _exp2(builder, builder.fmul(magnitude, _constant(x.type, -LOG2E)))
    return _fma(builder, e, _polynomial(builder, e, _log1p_series(_bits(x.type))), builder.select(below, zero, x))


def _elementwise(emit: Callable[..., ir.Value], arity: int, name: str) -> Callable[..., Any]:
    """An intrinsic of `arity` lanes that gives lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return emit(builder, *args)

    if arity == 1:

        def unary(typingctx: Any, a: Any) -> Any:
            return (a(a), codegen) if isinstance(a, LanesType) else None

        unary.__name__ = unary.__qualname__ = name
        return intrinsic(unary)
    if arity == 2:

        def binary(typingctx: Any, a: Any, b: Any) -> Any:
            return (a(a, b), codegen) if isinstance(a, LanesType) and a == b else None

        binary.__name__ = binary.__qualname__ = name
        return intrinsic(binary)

    def ternary(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        return (a(a, b, c), codegen) if isinstance(a, LanesType) and a == b == c else None

    ternary.__name__ = ternary.__qualname__ = name
    return intrinsic(ternary)


add = _elementwise(lambda builder, a, b: builder.fadd(a, b), 2, "add")
subtract = _elementwise(lambda builder, a, b: builder.fsub(a, b), 2, "subtract")
multiply = _elementwise(lambda builder, a, b: builder.fmul(a, b), 2, "multiply")
fma = _elementwise(_fma, 3, "fma")
exp2 = _elementwise(_exp2, 1, "exp2")
sigmoid = _elementwise(_sigmoid, 1, "sigmoid")
softplus = _elementwise(_softplus, 1, "softplus")


def _operator(elementwise: Any) -> Any:
    # Not annotated: Numba wants the same signature here and in what is returned.
    def choose(a, b):
        return (lambda a, b: elementwise(a, b)) if isinstance(a, LanesType) and a == b else None

    return choose


overload(operator.add)(_operator(add))
overload(operator.sub)(_operator(subtract))
overload(operator.mul)(_operator(multiply))


def _address(context: Any, builder: ir.IRBuilder, array: Any, value: ir.Value, offset: ir.Value, lanes: Any) -> ir.Value:
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [offset]), context.get_value_type(lanes).as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """Lanes from a flat contiguous array, from element `offset` on (unchecked)."""
    lanes = LanesType(array.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = _address(context, builder, array, args[0], args[1], lanes)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write lanes to a flat contiguous array, from element `offset` on (unchecked)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = _address(context, builder, array, args[0], args[1], value)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


def _spread(builder: ir.IRBuilder, vector: ir.VectorType, scalar: ir.Value) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, undefined, mask)


@intrinsic
def spread(typingctx: Any, array: Any, offset: Any) -> Any:
    """Element `offset` of a flat array in every lane (unchecked)."""
    lanes = LanesType(array.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        data = context.make_array(array)(context, builder, args[0]).data
        return _spread(builder, context.get_value_type(lanes), builder.load(builder.gep(data, [args[1]])))

    return lanes(array, types.intp), codegen


@intrinsic
def number(typingctx: Any, like: Any, value: Any) -> Any:
    """A float64 number in every lane, as the array's type."""
    lanes = LanesType(like.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        scalar = context.cast(builder, args[1], types.float64, like.dtype)
        return _spread(builder, context.get_value_type(lanes), scalar)

    return lanes(like, types.float64), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of element `offset`; harmless beyond the array's end."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        data = context.make_array(array)(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), cgutils.voidptr_t)
        flag = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag]), "llvm.prefetch.p0"
        )
        read, keep_in_all_caches, data_cache = (ir.Constant(flag, value) for value in (0, 3, 1))
        builder.call(function, [pointer, read, keep_in_all_caches, data_cache])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Sum over the lanes, always in the same order (halves are folded)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector, half = args[0], args[0].type.count // 2
        while half:
            undefined = ir.Constant(vector.type, ir.Undefined)
            index = ir.VectorType(ir.IntType(32), half)
            low = builder.shuffle_vector(vector, undefined, ir.Constant(index, list(range(half))))
            high = builder.shuffle_vector(vector, undefined, ir.Constant(index, list(range(half, 2 * half))))
            vector, half = builder.fadd(low, high), half // 2
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return value.dtype(value), codegen
