"""The exponential linear unit, and that of rows with a shift in one pass, forwards and backwards."""

from __future__ import annotations

from typing import Any

from oihedge.forecast.compiled.compiling import compiled, inlined
from oihedge.forecast.compiled.lanes import WIDTH, splat, where_above_zero
from oihedge.forecast.compiled.maths import ONE, Array, add_to, exp, get, put


@inlined
def bent(x: Any) -> Any:
    """Return x where it is above 0 and e**x - 1 elsewhere."""
    return where_above_zero(x, x, exp(x) - splat(ONE))


@inlined
def unbent(d_out: Any, out: Any) -> Any:
    """Turn the gradient of what `bent` gave into that of what it got."""
    return where_above_zero(out, d_out, d_out * (out + splat(ONE)))


@compiled
def shift_elu_forward(x: Array, shift: Array, out: Array) -> None:
    """Work out ELU(x[b, r] + shift[b]): x and out (blocks, rows, hidden), shift (blocks, hidden)."""
    blocks, rows, size = out.shape
    for b in range(blocks):
        for r in range(rows):
            for j in range(0, size, WIDTH):
                left = size - j
                put(out[b, r], j, left, bent(get(x[b, r], j, left) + get(shift[b], j, left)))


@compiled
def shift_elu_backward(d_out: Array, out: Array, d_x: Array, d_shift: Array) -> None:
    """Turn d_out into the gradients of x and shift; that of shift is added to."""
    blocks, rows, size = out.shape
    for b in range(blocks):
        for r in range(rows):
            for j in range(0, size, WIDTH):
                left = size - j
                grad = unbent(get(d_out[b, r], j, left), get(out[b, r], j, left))
                put(d_x[b, r], j, left, grad)
                add_to(d_shift[b], j, left, grad)
