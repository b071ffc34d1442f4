"""Sixteen float32 at once, as a number of its own: LLVM's vectors, written down instead of hoped for.

LLVM turns a loop into vector instructions only where it can show that no array overlaps another; with the short rows
and many arrays here it gives up, or spends longer on showing it than on the loop. What is said by these functions it
translates into whatever the machine has: one register of 512 bits, two of 256, four of 128.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 16
_VECTOR, _MASK = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(1), WIDTH)
_BITS = ir.VectorType(ir.IntType(32), WIDTH)


class _Lanes(types.Type):
    """The type of sixteen float32."""


LANES = _Lanes(name="lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _VECTOR)


def _define(operation: Any, instruction: str) -> None:
    """Let `operation` of two vectors be that instruction; a product and a sum may become one."""
    infer_global(operation)(type("_OfLanes", (ConcreteTemplate,), {"cases": [signature(LANES, LANES, LANES)]}))

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        return getattr(builder, instruction)(*given, flags=("contract",))

    lower_builtin(operation, LANES, LANES)(generate)


for _operation, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _define(_operation, _instruction)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Return the address of array[at] as that of a vector."""
    if kind.dtype != types.float32 or kind.layout != "C":
        raise TypeError(f"vectors are of contiguous float32, got {kind}")
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _first(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    wanted = _splat(builder, builder.trunc(count, ir.IntType(32)), _BITS)
    return builder.icmp_signed("<", ir.Constant(_BITS, list(range(WIDTH))), wanted)


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, x: Any, at: Any) -> Any:
    """Return x[at : at + 16] of a contiguous row x."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        found = builder.load(_place(context, builder, signed.args[0], *given))
        found.align = 4
        return found

    return LANES(x, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, x: Any, at: Any, value: Any) -> Any:
    """Write `value` to x[at : at + 16]."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        builder.store(given[2], _place(context, builder, signed.args[0], *given[:2])).align = 4
        return context.get_dummy_value()

    return types.none(x, types.intp, LANES), generate


@intrinsic  # type: ignore[untyped-decorator]
def load_part(typing: Any, x: Any, at: Any, count: Any) -> Any:
    """Return x[at : at + count], then zeros."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        place = _place(context, builder, signed.args[0], *given[:2])
        kind = ir.FunctionType(_VECTOR, [place.type, ir.IntType(32), _MASK, _VECTOR])
        call = builder.module.declare_intrinsic("llvm.masked.load.v16f32.p0", (), kind)
        given_to = [place, ir.Constant(ir.IntType(32), 4), _first(builder, given[2]), ir.Constant(_VECTOR, None)]
        return builder.call(call, given_to)

    return LANES(x, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_part(typing: Any, x: Any, at: Any, count: Any, value: Any) -> Any:
    """Write the first lanes of `value` to x[at : at + count]."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        place = _place(context, builder, signed.args[0], *given[:2])
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, place.type, ir.IntType(32), _MASK])
        call = builder.module.declare_intrinsic("llvm.masked.store.v16f32.p0", (), kind)
        builder.call(call, [given[3], place, ir.Constant(ir.IntType(32), 4), _first(builder, given[2])])
        return context.get_dummy_value()

    return types.none(x, types.intp, types.intp, LANES), generate


@intrinsic  # type: ignore[untyped-decorator]
def splat(typing: Any, value: Any) -> Any:
    """Return a number in every lane."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        return _splat(builder, given[0], _VECTOR)

    return LANES(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def keep(typing: Any, x: Any, count: Any, otherwise: Any) -> Any:
    """Return x with another number from lane `count` on."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        return builder.select(_first(builder, given[1]), given[0], _splat(builder, given[2], _VECTOR))

    return LANES(LANES, types.intp, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def larger(typing: Any, a: Any, b: Any) -> Any:
    """Return a where it is above b, elsewhere b: also where b is no number."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *given), *given)

    return LANES(LANES, LANES), generate


@intrinsic  # type: ignore[untyped-decorator]
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """Return a where it is below b, elsewhere b: also where b is no number."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *given), *given)

    return LANES(LANES, LANES), generate


@intrinsic  # type: ignore[untyped-decorator]
def where_above_zero(typing: Any, x: Any, then: Any, otherwise: Any) -> Any:
    """Return `then` where x is above 0, elsewhere `otherwise`."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", given[0], ir.Constant(_VECTOR, None)), *given[1:])

    return LANES(LANES, LANES, LANES), generate


@intrinsic  # type: ignore[untyped-decorator]
def power_of_two(typing: Any, x: Any) -> Any:
    """Return 2**n of x = 1.5 * 2**23 + n, whose lowest bits are n."""

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        place, one = (ir.Constant(_BITS, [number] * WIDTH) for number in (23, 127 << 23))
        return builder.bitcast(builder.add(builder.shl(builder.bitcast(given[0], _BITS), place), one), _VECTOR)

    return LANES(LANES), generate


@intrinsic  # type: ignore[untyped-decorator]
def dropped(typing: Any, x: Any, at: Any, seed: Any, threshold: Any, scale: Any) -> Any:
    """Return x * scale where a hash of (seed, position) is at or above `threshold`, elsewhere 0.

    The positions of the lanes are `at` and the fifteen that follow. A threshold of 0 drops nothing.
    """

    def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
        def constant(number: int) -> Any:
            return ir.Constant(_BITS, [number] * WIDTH)

        first, salt, least = (_splat(builder, builder.trunc(one, ir.IntType(32)), _BITS) for one in given[1:4])
        place = builder.add(first, ir.Constant(_BITS, list(range(WIDTH))))
        bits = builder.add(builder.mul(place, constant(0x9E3779B1)), salt)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            bits = builder.mul(builder.xor(bits, builder.lshr(bits, constant(shift))), constant(factor))
        scaled = builder.fmul(given[0], _splat(builder, given[4], _VECTOR))
        return builder.select(builder.icmp_unsigned(">=", bits, least), scaled, ir.Constant(_VECTOR, None))

    return LANES(LANES, types.int64, types.int64, types.int64, types.float32), generate


def _reduced(name: str, *start: float) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def reduced(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signed: Any, given: Any) -> Any:
            kind = ir.FunctionType(ir.FloatType(), [*([ir.FloatType()] * len(start)), _VECTOR])
            call = builder.module.declare_intrinsic(f"llvm.vector.reduce.{name}.v16f32", (), kind)
            begin = [ir.Constant(ir.FloatType(), one) for one in start]
            return builder.call(call, [*begin, *given], fastmath=("reassoc",))

        return types.float32(LANES), generate

    return reduced


total_of = _reduced("fadd", -0.0)
largest_of = _reduced("fmax")
