"""The exponential linear unit of a line in a number, and of rows with a shift, forwards and backwards in one pass."""

from __future__ import annotations

from oihedge.forecast.compiled.maths import ONE, ZERO, Array, add_to, compiled, exp, inlined


@inlined
def _bend(x: Array) -> None:
    """Replace x by x where it is above 0 and by e**x - 1 elsewhere."""
    for j in range(x.shape[0]):
        x[j] = x[j] if x[j] > ZERO else exp(x[j]) - ONE


@inlined
def _unbend(d_out: Array, out: Array, d_in: Array) -> None:
    """Turn the gradient of what `_bend` gave into that of what it got."""
    for j in range(out.shape[0]):
        d_in[j] = d_out[j] if out[j] > ZERO else d_out[j] * (out[j] + ONE)


@compiled
def line_elu_forward(values: Array, slope: Array, level: Array, out: Array) -> None:
    """Work out ELU(values * slope + level).

    Args:
        values: (variables, rows).
        slope: (variables, hidden), as level.
        level: see slope.
        out: (variables, rows, hidden).
    """
    variables, rows, size = out.shape
    for v in range(variables):
        s, b = slope[v], level[v]
        for r in range(rows):
            x, y = values[v, r], out[v, r]
            for j in range(size):
                y[j] = x * s[j] + b[j]
            _bend(y)


@compiled
def line_elu_backward(d_out: Array, out: Array, values: Array, d_slope: Array, d_level: Array, work: Array) -> None:
    """Add to the gradients of slope and level; `work` is (1, hidden) to work in."""
    variables, rows, size = out.shape
    grad = work[0]
    for v in range(variables):
        d_s, d_b = d_slope[v], d_level[v]
        for r in range(rows):
            x = values[v, r]
            _unbend(d_out[v, r], out[v, r], grad)
            for j in range(size):
                d_s[j] += x * grad[j]
            add_to(d_b, grad)


@compiled
def shift_elu_forward(x: Array, shift: Array, out: Array) -> None:
    """Work out ELU(x[b, r] + shift[b]): x and out (blocks, rows, hidden), shift (blocks, hidden)."""
    blocks, rows, size = out.shape
    for b in range(blocks):
        s = shift[b]
        for r in range(rows):
            row, y = x[b, r], out[b, r]
            for j in range(size):
                y[j] = row[j] + s[j]
            _bend(y)


@compiled
def shift_elu_backward(d_out: Array, out: Array, d_x: Array, d_shift: Array) -> None:
    """Turn d_out into the gradients of x and shift; that of shift is added to."""
    blocks, rows, _ = out.shape
    for b in range(blocks):
        d_s = d_shift[b]
        for r in range(rows):
            _unbend(d_out[b, r], out[b, r], d_x[b, r])
            add_to(d_s, d_x[b, r])
