"""Functions of sixteen numbers at once (`compiled.lanes`), and rows that do not fill them.

`exp` is a polynomial, because a call into libm would take one number at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oihedge.forecast.compiled.compiling import inlined
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
