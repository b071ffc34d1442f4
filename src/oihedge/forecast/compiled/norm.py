"""GLU, sum and LayerNorm in one pass, forwards and backwards.

Rows to work in are as long as whole vectors; beyond a row's own numbers they hold zeros where they are added up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oihedge.forecast.compiled.compiling import compiled, inlined
from oihedge.forecast.compiled.lanes import WIDTH, keep, load, splat, store, total_of
from oihedge.forecast.compiled.maths import ONE, ZERO, Array, Rows, add_to, get, put, sigmoid


@inlined
def standardise(x: Array, size: int, total: Any, eps: Any) -> Any:
    """Take the mean from x, whose sum is `total`, and divide by its spread, in place; return one over the spread."""
    share = ONE / np.float32(size)
    mean, spread = splat(total_of(total) * share), splat(ZERO)
    for j in range(0, size, WIDTH):
        apart = keep(load(x, j) - mean, size - j, ZERO)
        spread = apart * apart + spread
        store(x, j, apart)
    inverse = splat(ONE / np.sqrt(total_of(spread) * share + eps))
    for j in range(0, size, WIDTH):
        store(x, j, load(x, j) * inverse)
    return inverse


@inlined
def unstandardise(grad: Array, standard: Array, size: int, inverse: Any) -> None:
    """Turn the gradient of what `standardise` made into that of what it got, in place; beyond `size` it is no zero."""
    share, total, both = ONE / np.float32(size), splat(ZERO), splat(ZERO)
    for j in range(0, size, WIDTH):
        one = load(grad, j)
        total = total + one
        both = one * load(standard, j) + both
    mean, along = splat(total_of(total) * share), splat(total_of(both) * share)
    for j in range(0, size, WIDTH):
        store(grad, j, inverse * (load(grad, j) - mean - load(standard, j) * along))


@inlined
def _opened(g: Array, bias: Array, j: int, size: int) -> Any:
    """Return what a gated linear unit lets through, and how far it is open, of g + bias from the j-th on."""
    let = get(g, j, size - j) + get(bias, j, size - j)
    return let, sigmoid(get(g, size + j, size - j) + get(bias, size + j, size - j))


@inlined
def _ungate(grad: Array, let: Array, open_: Array, d_g: Array, d_bias: Array, size: int) -> None:
    """Turn the gradient of a gated linear unit into those of what it got; d_bias is added to."""
    for j in range(0, size, WIDTH):
        wide, left = load(open_, j), size - j
        through = load(grad, j) * wide
        door = through * load(let, j) * (splat(ONE) - wide)
        put(d_g, j, left, through)
        put(d_g, size + j, left, door)
        add_to(d_bias, j, left, through)
        add_to(d_bias, size + j, left, door)


@compiled
def glu_norm_forward(
    gated: Array, gate_bias: Array, skip: Array, starts: Rows, weight: Array, bias: Array, eps: Any, out: Array,
    work: Array,
) -> None:  # fmt: skip
    """Work out LayerNorm(GLU(gated + gate_bias) + skip) * weight + bias.

    Args:
        gated: (blocks, rows, 2 hidden).
        gate_bias: (2 hidden,).
        skip: (any, hidden); row r of block b is added row starts[b] + r.
        starts: (blocks,).
        weight: (hidden,), as bias.
        bias: see weight.
        eps: of the norm.
        out: (blocks, rows, hidden).
        work: (1, hidden) to work in.
    """
    blocks, rows, size = out.shape
    standard = work[0]
    for b in range(blocks):
        for r in range(rows):
            g, s, y, total = gated[b, r], skip[starts[b] + r], out[b, r], splat(ZERO)
            for j in range(0, size, WIDTH):
                let, wide = _opened(g, gate_bias, j, size)
                summed = let * wide + get(s, j, size - j)
                total = total + summed
                store(standard, j, summed)
            standardise(standard, size, total, eps)
            for j in range(0, size, WIDTH):
                left = size - j
                put(y, j, left, load(standard, j) * get(weight, j, left) + get(bias, j, left))


@compiled
def glu_norm_backward(
    d_out: Array, gated: Array, gate_bias: Array, skip: Array, starts: Rows, weight: Array, eps: Any,
    d_gated: Array, d_gate_bias: Array, d_skip: Array, d_weight: Array, d_bias: Array, work: Array,
) -> None:  # fmt: skip
    """Turn d_out into the gradients of `glu_norm_forward`'s inputs; all but d_gated are added to.

    `work`: (4, hidden) to work in.
    """
    blocks, rows, size = d_out.shape
    standard, grad, through, open_ = work[0], work[1], work[2], work[3]
    for b in range(blocks):
        for r in range(rows):
            g, s, dy, ds, total = gated[b, r], skip[starts[b] + r], d_out[b, r], d_skip[starts[b] + r], splat(ZERO)
            for j in range(0, size, WIDTH):
                let, wide = _opened(g, gate_bias, j, size)
                summed = let * wide + get(s, j, size - j)
                total = total + summed
                store(standard, j, summed)
                store(through, j, let)
                store(open_, j, wide)
            inverse = standardise(standard, size, total, eps)
            for j in range(0, size, WIDTH):
                left = size - j
                one = get(dy, j, left)
                add_to(d_weight, j, left, one * load(standard, j))
                add_to(d_bias, j, left, one)
                store(grad, j, one * get(weight, j, left))
            unstandardise(grad, standard, size, inverse)
            for j in range(0, size, WIDTH):
                add_to(ds, j, size - j, load(grad, j))
            _ungate(grad, through, open_, d_gated[b, r], d_gate_bias, size)
