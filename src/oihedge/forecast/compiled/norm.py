"""GLU, sum and LayerNorm in one pass, forwards and backwards, for rows and for the choice among variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from oihedge.forecast.compiled.maths import ONE, ZERO, Array, Rows, add_to, compiled, inlined, sigmoid


@inlined
def _standardise(x: Array, eps: Any) -> Any:
    """Take the mean from x and divide by its spread, in place; return one over the spread."""
    size = x.shape[0]
    share = ONE / np.float32(size)
    mean, spread = ZERO, ZERO
    for j in range(size):
        mean += x[j]
    mean *= share
    for j in range(size):
        x[j] -= mean
        spread += x[j] * x[j]
    inverse = ONE / np.sqrt(spread * share + eps)
    for j in range(size):
        x[j] *= inverse
    return inverse


@inlined
def _unstandardise(grad: Array, standard: Array, inverse: Any) -> None:
    """Turn the gradient of what `_standardise` returned into that of what it got, in place."""
    size = grad.shape[0]
    share = ONE / np.float32(size)
    mean, along = ZERO, ZERO
    for j in range(size):
        mean += grad[j]
        along += grad[j] * standard[j]
    mean *= share
    along *= share
    for j in range(size):
        grad[j] = inverse * (grad[j] - mean - standard[j] * along)


@inlined
def _gate(g: Array, bias: Array, into: Array) -> None:
    """Fill `into` with the gated linear unit of g + bias: one half by the sigmoid of the other."""
    size = into.shape[0]
    for j in range(size):
        into[j] = (g[j] + bias[j]) * sigmoid(g[size + j] + bias[size + j])


@inlined
def _ungate(grad: Array, g: Array, bias: Array, d_g: Array, d_bias: Array, open_: Array) -> None:
    """Turn the gradient of what `_gate` gave into those of what it got; d_bias is added to, `open_` is worked in."""
    size = grad.shape[0]
    for j in range(size):
        open_[j] = sigmoid(g[size + j] + bias[size + j])
    for j in range(size):
        d_g[j] = grad[j] * open_[j]
    for j in range(size):
        d_g[size + j] = d_g[j] * (g[j] + bias[j]) * (ONE - open_[j])
    add_to(d_bias, d_g)


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
    total = work[0]
    for b in range(blocks):
        for r in range(rows):
            s, y = skip[starts[b] + r], out[b, r]
            _gate(gated[b, r], gate_bias, total)
            add_to(total, s)
            _standardise(total, eps)
            for j in range(size):
                y[j] = total[j] * weight[j] + bias[j]


@compiled
def glu_norm_backward(
    d_out: Array, gated: Array, gate_bias: Array, skip: Array, starts: Rows, weight: Array, eps: Any,
    d_gated: Array, d_gate_bias: Array, d_skip: Array, d_weight: Array, d_bias: Array, work: Array,
) -> None:  # fmt: skip
    """Turn d_out into the gradients of `glu_norm_forward`'s inputs; all but d_gated are added to.

    `work`: (3, hidden) to work in.
    """
    blocks, rows, size = d_out.shape
    total, grad, open_ = work[0], work[1], work[2]
    for b in range(blocks):
        for r in range(rows):
            g, s, dy, ds = gated[b, r], skip[starts[b] + r], d_out[b, r], d_skip[starts[b] + r]
            _gate(g, gate_bias, total)
            add_to(total, s)
            inverse = _standardise(total, eps)
            for j in range(size):
                d_weight[j] += dy[j] * total[j]
            add_to(d_bias, dy)
            for j in range(size):
                grad[j] = dy[j] * weight[j]
            _unstandardise(grad, total, inverse)
            add_to(ds, grad)
            _ungate(grad, g, gate_bias, d_gated[b, r], d_gate_bias, open_)


@inlined
def _line_and_gate(g: Array, gate_bias: Array, x: Any, line: Array, eps: Array, inner: Array, total: Array) -> Any:
    """Fill `inner` with the standardised line and `total` with the standardised sum; return both inverses."""
    size = inner.shape[0]
    for j in range(size):
        inner[j] = x * line[0, j] + line[1, j]
    inverse_in = _standardise(inner, eps[0])
    _gate(g, gate_bias, total)
    for j in range(size):
        total[j] += inner[j] * line[2, j] + line[3, j]
    return inverse_in, _standardise(total, eps[1])


@compiled
def select_forward(
    gated: Array, gate_bias: Array, values: Array, weights: Array, line: Array, weight: Array, bias: Array, eps: Array,
    out: Array, work: Array,
) -> None:  # fmt: skip
    """Add up what the variables' own networks say, by the variables' weights.

    out[r] += sum over v of weights[v, r] * (LayerNorm(GLU(gated[v, r] + gate_bias[v]) + skip) * weight[v] + bias[v]),
    in which skip = LayerNorm(values[v, r] * line[v, 0] + line[v, 1]) * line[v, 2] + line[v, 3].

    Args:
        gated: (variables, rows, 2 hidden).
        gate_bias: (variables, 2 hidden).
        values: (variables, rows), as weights.
        weights: see values.
        line: (variables, 4, hidden).
        weight: (variables, hidden), as bias.
        bias: see weight.
        eps: (2,) of the skip's norm and of the outer one.
        out: (rows, hidden).
        work: (2, hidden) to work in.
    """
    variables, rows, _ = gated.shape
    size = out.shape[1]
    total, inner = work[0], work[1]
    for v in range(variables):
        scale, offset = weight[v], bias[v]
        for r in range(rows):
            y, part = out[r], weights[v, r]
            _line_and_gate(gated[v, r], gate_bias[v], values[v, r], line[v], eps, inner, total)
            for j in range(size):
                y[j] += part * (total[j] * scale[j] + offset[j])


@compiled
def select_backward(
    d_out: Array, gated: Array, gate_bias: Array, values: Array, weights: Array, line: Array, weight: Array,
    bias: Array, eps: Array,
    d_gated: Array, d_gate_bias: Array, d_weights: Array, d_line: Array, d_weight: Array, d_bias: Array,
    work: Array,
) -> None:  # fmt: skip
    """Turn d_out into the gradients of `select_forward`'s inputs; those without rows are added to.

    `work`: (5, hidden) to work in.
    """
    variables, rows, _ = gated.shape
    size = d_out.shape[1]
    total, inner, grad, along, open_ = work[0], work[1], work[2], work[3], work[4]
    for v in range(variables):
        gain, scale, offset = line[v, 2], weight[v], bias[v]
        d_slope, d_level, d_gain, d_shift = d_line[v, 0], d_line[v, 1], d_line[v, 2], d_line[v, 3]
        d_scale, d_offset, d_gate = d_weight[v], d_bias[v], d_gate_bias[v]
        for r in range(rows):
            g, dy, x, part = gated[v, r], d_out[r], values[v, r], weights[v, r]
            inverse_in, inverse = _line_and_gate(g, gate_bias[v], x, line[v], eps, inner, total)
            said = ZERO
            for j in range(size):
                said += dy[j] * (total[j] * scale[j] + offset[j])
            d_weights[v, r] = said
            for j in range(size):
                along[j] = part * dy[j]
            for j in range(size):
                d_scale[j] += along[j] * total[j]
            add_to(d_offset, along)
            for j in range(size):
                grad[j] = along[j] * scale[j]
            _unstandardise(grad, total, inverse)
            _ungate(grad, g, gate_bias[v], d_gated[v, r], d_gate, open_)
            for j in range(size):
                d_gain[j] += grad[j] * inner[j]
            add_to(d_shift, grad)
            for j in range(size):
                grad[j] *= gain[j]
            _unstandardise(grad, inner, inverse_in)
            for j in range(size):
                d_slope[j] += grad[j] * x
            add_to(d_level, grad)
