"""What the loops share: how they are compiled, and functions of sixteen numbers at once (`compiled.lanes`).

`exp` is a polynomial, because a call into libm would take one number at a time. Infinities and NaN keep their meaning.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from oihedge.forecast.compiled.lanes import (
    WIDTH,
    larger,
    load,
    load_part,
    power_of_two,
    smaller,
    splat,
    store,
    store_part,
)

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_F = np.float32
ONE, TWO, ZERO = _F(1), _F(2), _F(0)
_LOG2E, _LN2_HIGH, _LN2_LOW = _F(1.44269504088896341), _F(0.693359375), _F(-2.12194440e-4)
_ROUNDS = _F(1.5 * 2**23)
"""Added to a smaller number it leaves no room for anything behind the point."""
_LOW, _HIGH = _F(-87.0), _F(88.0)
_P0, _P1, _P2, _P3, _P4, _P5 = (
    _F(1.9875691500e-4), _F(1.3981999507e-3), _F(8.3334519073e-3), _F(4.1665795894e-2), _F(1.6666665459e-1), _F(0.5),
)  # fmt: skip
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
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
    bounded = smaller(splat(_HIGH), larger(splat(_LOW), x))
    near = bounded * splat(_LOG2E) + splat(_ROUNDS)
    whole = near - splat(_ROUNDS)
    rest = bounded - whole * splat(_LN2_HIGH) - whole * splat(_LN2_LOW)
    poly = splat(_P0) * rest + splat(_P1)
    poly = poly * rest + splat(_P2)
    poly = poly * rest + splat(_P3)
    poly = poly * rest + splat(_P4)
    poly = poly * rest + splat(_P5)
    return (poly * rest * rest + rest + splat(ONE)) * power_of_two(near)


@inlined
def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x)."""
    return splat(ONE) / (splat(ONE) + exp(splat(ZERO) - x))


@inlined
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return splat(TWO) * sigmoid(splat(TWO) * x) - splat(ONE)


@inlined
def get(x: Any, at: int, left: int) -> Any:
    """Return the numbers from x[at] on, of a row of which `left` are left there; zeros beyond."""
    return load(x, at) if left >= WIDTH else load_part(x, at, left)


@inlined
def put(x: Any, at: int, left: int, value: Any) -> None:
    """Write to x[at] and on, of a row of which `left` are left there."""
    if left >= WIDTH:
        store(x, at, value)
    else:
        store_part(x, at, left, value)


@inlined
def add_to(x: Any, at: int, left: int, value: Any) -> None:
    """Add to x[at] and on, of a row of which `left` are left there."""
    put(x, at, left, get(x, at, left) + value)
