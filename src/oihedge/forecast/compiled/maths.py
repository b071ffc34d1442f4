"""What the loops share: how they are compiled, and functions that LLVM can turn into vector instructions.

Loops over contiguous numbers are innermost and touch few arrays each: with many, LLVM gives up checking that none
overlaps another, and with it the vectors. `exp` is a polynomial, because a call into libm would do the same. Fast maths
is limited to contraction and reassociation: infinities and NaN keep their meaning.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_F = np.float32
_LOOSE = {"contract", "reassoc"}
ONE, _TWO, _HALF, ZERO = _F(1), _F(2), _F(0.5), _F(0)
_LOG2E, _LN2_HIGH, _LN2_LOW = _F(1.44269504088896341), _F(0.693359375), _F(-2.12194440e-4)
_LOW, _HIGH = _F(-87.0), _F(88.0)
_P0, _P1, _P2, _P3, _P4, _P5 = (
    _F(1.9875691500e-4), _F(1.3981999507e-3), _F(8.3334519073e-3), _F(4.1665795894e-2), _F(1.6666665459e-1), _F(0.5),
)  # fmt: skip


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(typing_context: Any, bits: Any) -> Any:
    """Read the bits of an int32 as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": _LOOSE, "_nrt": False}
"""Without numba's runtime (_nrt) views are not counted, which would take longer than short loops; nothing can be
allocated then, and callers bring arrays to work in."""


def compiled(function: Any, **more: Any) -> Any:
    """Compile for one thread, once per machine: numba keeps the code beside Python's own compiled files.

    Where neither that folder nor the user's own can be written to, each process compiles anew.
    """
    try:
        return numba.njit(**_OPTIONS, **more, cache=True)(function)
    except RuntimeError:
        return numba.njit(**_OPTIONS, **more)(function)


def inlined(function: Any) -> Any:
    """Compile into whatever calls it."""
    return compiled(function, inline="always")


@inlined
def exp(x: Any) -> Any:
    """e**x in float32 (Cephes' polynomial), saturated where it would overflow; NaN stays NaN."""
    bounded = min(max(x, _LOW), _HIGH)
    whole = np.floor(bounded * _LOG2E + _HALF)
    rest = bounded - whole * _LN2_HIGH - whole * _LN2_LOW
    poly = ((((_P0 * rest + _P1) * rest + _P2) * rest + _P3) * rest + _P4) * rest + _P5
    scale = _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))
    value = (poly * rest * rest + rest + ONE) * scale
    return value if x == x else x


@inlined
def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x)."""
    return ONE / (ONE + exp(-x))


@inlined
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _TWO * sigmoid(_TWO * x) - ONE


@inlined
def fill(x: Any, value: Any) -> None:
    """Set every number of x (n,)."""
    for j in range(x.shape[0]):
        x[j] = value


@inlined
def add_to(x: Any, y: Any) -> None:
    """Add y to x, both (n,)."""
    for j in range(x.shape[0]):
        x[j] += y[j]
