"""The choice among variables: each one's own network and the weighted sum, in one pass over a few rows at a time.

Nothing that lies between the numbers and their sum is ever written down for all rows: it would be the largest that a
step writes, and is worked out again on the way back while it is at hand. `hidden` and `width` are multiples of 16 here:
narrower networks are filled up with zeros, which stay zeros.
"""

from __future__ import annotations

from typing import Any

from oihedge.forecast.compiled.compiling import compiled, inlined
from oihedge.forecast.compiled.elu import bent, unbent
from oihedge.forecast.compiled.lanes import WIDTH, dropped, load, splat, store, total_of
from oihedge.forecast.compiled.maths import ONE, ZERO, Array, add_to, get, sigmoid
from oihedge.forecast.compiled.norm import standardise, unstandardise

TILE = 4
"""Rows that are worked out together: a weight that is at hand serves all of them."""


@inlined
def _multiply(x: Array, weight: Array, bias: Array, out: Array) -> None:
    """Fill out (4, m) with x (4, n) times weight (n, m), plus bias (m,)."""
    for j in range(0, out.shape[1], WIDTH):
        a = load(bias, j)
        b = c = d = a
        for k in range(x.shape[1]):
            w = load(weight[k], j)
            a, b = a + splat(x[0, k]) * w, b + splat(x[1, k]) * w
            c, d = c + splat(x[2, k]) * w, d + splat(x[3, k]) * w
        store(out[0], j, a)
        store(out[1], j, b)
        store(out[2], j, c)
        store(out[3], j, d)


@inlined
def _learn(x: Array, d_out: Array, d_weight: Array, d_bias: Array) -> None:
    """Add the gradients of weight and bias of `_multiply`, of x (4, n) and d_out (4, m)."""
    for j in range(0, d_out.shape[1], WIDTH):
        a, b, c, d = load(d_out[0], j), load(d_out[1], j), load(d_out[2], j), load(d_out[3], j)
        store(d_bias, j, load(d_bias, j) + ((a + b) + (c + d)))
        for k in range(x.shape[1]):
            told = splat(x[0, k]) * a + splat(x[1, k]) * b + splat(x[2, k]) * c + splat(x[3, k]) * d
            store(d_weight[k], j, load(d_weight[k], j) + told)


@inlined
def _enter(values: Array, first: int, count: int, slope: Array, level: Array, out: Array) -> None:
    """Fill out (4, width) with the bent lines of `count` rows from `first` on; the other rows with zeros."""
    for i in range(TILE):
        for k in range(0, out.shape[1], WIDTH):
            if i < count:
                store(out[i], k, bent(splat(values[first + i]) * load(slope, k) + load(level, k)))
            else:
                store(out[i], k, splat(ZERO))


@inlined
def _drop(x: Array, first: int, width: int, seed: int, threshold: int, scale: Any) -> None:
    """Drop from x (4, as many or more) in place; each row is `width` numbers, the first of which is number `first`."""
    for i in range(TILE):
        for k in range(0, x.shape[1], WIDTH):
            store(x[i], k, dropped(load(x[i], k), first + i * width + k, seed, threshold, scale))


@inlined
def _sum_up(x: Any, line: Array, gated: Array, eps: Array, size: int, inner: Array, standard: Array) -> Any:
    """Fill `inner` with the standardised line, `standard` with the standardised sum; return one over both spreads.

    The second half of `gated` becomes how far the gate is open.
    """
    wide = inner.shape[0]
    total = splat(ZERO)
    for j in range(0, wide, WIDTH):
        value = splat(x) * load(line[0], j) + load(line[1], j)
        total = total + value
        store(inner, j, value)
    inverse_in = standardise(inner, size, total, eps[0])
    total = splat(ZERO)
    for j in range(0, wide, WIDTH):
        door = sigmoid(load(gated, wide + j))
        summed = load(gated, j) * door + (load(inner, j) * load(line[2], j) + load(line[3], j))
        total = total + summed
        store(standard, j, summed)
        store(gated, wide + j, door)
    return inverse_in, standardise(standard, size, total, eps[1])


@compiled
def select_forward(
    values: Array, weights: Array, slope: Array, level: Array, second: Array, second_bias: Array,
    gate: Array, gate_bias: Array, line: Array, scale: Array, shift: Array,
    sizes: tuple[int, int], eps: Array, how: tuple[int, int, Any], out: Array, thin: Array, thick: Array,
) -> None:  # fmt: skip
    """Add up what the variables' own networks say, by the variables' weights.

    out[r] += sum over v of weights[v, r] * (LayerNorm(GLU(gated) + skip) * scale[v] + shift[v]), in which
    gated = dropout(ELU(values[v, r] * slope[v] + level[v]) @ second[v] + second_bias[v]) @ gate[v] + gate_bias[v] and
    skip = LayerNorm(values[v, r] * line[v, 0] + line[v, 1]) * line[v, 2] + line[v, 3].

    Args:
        values: (variables, rows), as weights.
        weights: see values.
        slope: (variables, width), as level.
        level: see slope.
        second: (variables, width, width).
        second_bias: (variables, width).
        gate: (variables, width, 2 hidden).
        gate_bias: (variables, 2 hidden).
        line: (variables, 4, hidden).
        scale: (variables, hidden), as shift.
        shift: see scale.
        sizes: of width and hidden, how many are no filling.
        eps: (2,) of the skip's norm and of the outer one.
        how: to drop: seed, threshold and scale of `compiled.lanes.dropped`.
        out: (rows, hidden without the filling).
        thin: (8, width) to work in.
        thick: (6, 2 hidden) to work in.
    """
    variables, rows = values.shape
    width, size = sizes
    hidden, after, gated = thin[:4], thin[4:8], thick[:4]
    wide = scale.shape[1]
    inner, standard = thick[4, :wide], thick[5, :wide]
    for v in range(variables):
        for first in range(0, rows, TILE):
            count = min(TILE, rows - first)
            _enter(values[v], first, count, slope[v], level[v], hidden)
            _multiply(hidden, second[v], second_bias[v], after)
            _drop(after, (v * rows + first) * width, width, how[0], how[1], how[2])
            _multiply(after, gate[v], gate_bias[v], gated)
            for i in range(count):
                r = first + i
                part = splat(weights[v, r])
                _sum_up(values[v, r], line[v], gated[i], eps, size, inner, standard)
                for j in range(0, wide, WIDTH):
                    add_to(out[r], j, size - j, part * (load(standard, j) * load(scale[v], j) + load(shift[v], j)))


@inlined
def _leave(
    d_out: Array, x: Any, part: Any, inverse: Any, line: Array, scale: Array, shift: Array, size: int,
    gated: Array, inner: Array, standard: Array, grad: Array, d_line: Array, d_scale: Array, d_shift: Array,
) -> Any:  # fmt: skip
    """Go back through `_sum_up` and the weighted sum of one row; `gated` becomes its own gradient.

    Returns:
        The gradient of the row's weight.
    """
    wide, said = inner.shape[0], splat(ZERO)
    for j in range(0, wide, WIDTH):
        one, form, bend = get(d_out, j, size - j), load(standard, j), load(scale, j)
        said = one * (form * bend + load(shift, j)) + said
        along = splat(part) * one
        store(d_scale, j, load(d_scale, j) + along * form)
        store(d_shift, j, load(d_shift, j) + along)
        store(grad, j, along * bend)
    unstandardise(grad, standard, size, inverse[1])
    for j in range(0, wide, WIDTH):
        one, door = load(grad, j), load(gated, wide + j)
        through = one * door
        store(gated, wide + j, through * load(gated, j) * (splat(ONE) - door))
        store(gated, j, through)
        store(d_line[2], j, load(d_line[2], j) + one * load(inner, j))
        store(d_line[3], j, load(d_line[3], j) + one)
        store(grad, j, one * load(line[2], j))
    unstandardise(grad, inner, size, inverse[0])
    for j in range(0, wide, WIDTH):
        one = load(grad, j)
        store(d_line[0], j, load(d_line[0], j) + one * splat(x))
        store(d_line[1], j, load(d_line[1], j) + one)
    return total_of(said)


@inlined
def _return(
    values: Array, first: int, hidden: Array, d_hidden: Array, d_slope: Array, d_level: Array, count: int
) -> None:
    """Add to the gradients of the lines that `_enter` bent."""
    for i in range(count):
        for k in range(0, hidden.shape[1], WIDTH):
            one = unbent(load(d_hidden[i], k), load(hidden[i], k))
            store(d_slope, k, load(d_slope, k) + splat(values[first + i]) * one)
            store(d_level, k, load(d_level, k) + one)


@compiled
def select_backward(
    d_out: Array, values: Array, weights: Array, slope: Array, level: Array, second: Array, second_bias: Array,
    gate: Array, gate_bias: Array, line: Array, scale: Array, shift: Array,
    back: tuple[Array, Array], sizes: tuple[int, int], eps: Array, how: tuple[int, int, Any],
    d_weights: Array, d_slope: Array, d_level: Array, d_second: Array, d_second_bias: Array,
    d_gate: Array, d_gate_bias: Array, d_line: Array, d_scale: Array, d_shift: Array,
    thin: Array, thick: Array, none: Array,
) -> None:  # fmt: skip
    """Turn d_out into the gradients of `select_forward`'s inputs; all but d_weights are added to.

    Args:
        back: `second` and `gate` with the last two dimensions exchanged.
        thin: (16, width) to work in.
        thick: (7, 2 hidden) to work in.
        none: (2 hidden,) or longer, zeros.
        The others are as in `select_forward`.
    """
    variables, rows = values.shape
    width, size = sizes
    hidden, after, d_after, d_hidden, gated = thin[:4], thin[4:8], thin[8:12], thin[12:16], thick[:4]
    wide = scale.shape[1]
    inner, standard, grad = thick[4, :wide], thick[5, :wide], thick[6, :wide]
    for v in range(variables):
        for first in range(0, rows, TILE):
            count, at = min(TILE, rows - first), (v * rows + first) * width
            _enter(values[v], first, count, slope[v], level[v], hidden)
            _multiply(hidden, second[v], second_bias[v], after)
            _drop(after, at, width, how[0], how[1], how[2])
            _multiply(after, gate[v], gate_bias[v], gated)
            for i in range(TILE):
                r = first + i
                if i < count:
                    inverse = _sum_up(values[v, r], line[v], gated[i], eps, size, inner, standard)
                    d_weights[v, r] = _leave(
                        d_out[r], values[v, r], weights[v, r], inverse, line[v], scale[v], shift[v], size,
                        gated[i], inner, standard, grad, d_line[v], d_scale[v], d_shift[v],
                    )  # fmt: skip
                else:
                    for j in range(0, 2 * wide, WIDTH):
                        store(gated[i], j, splat(ZERO))
            _learn(after, gated, d_gate[v], d_gate_bias[v])
            _multiply(gated, back[1][v], none, d_after)
            _drop(d_after, at, width, how[0], how[1], how[2])
            _learn(hidden, d_after, d_second[v], d_second_bias[v])
            _multiply(d_after, back[0][v], none, d_hidden)
            _return(values[v], first, hidden, d_hidden, d_slope[v], d_level[v], count)
