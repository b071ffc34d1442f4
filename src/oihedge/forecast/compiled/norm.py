"""GLU, sum and LayerNorm in one pass, forwards and backwards, for rows and for the choice among variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from oihedge.forecast.compiled.maths import ONE, ZERO, Array, Rows, compiled, inlined, sigmoid


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


@compiled
def glu_norm_forward(gated: Array, skip: Array, starts: Rows, weight: Array, bias: Array, eps: Any, out: Array) -> None:
    """Work out LayerNorm(gated[..., :h] * sigmoid(gated[..., h:]) + skip) * weight + bias.

    Args:
        gated: (blocks, rows, 2 hidden).
        skip: (any, hidden); row r of block b is added row starts[b] + r.
        starts: (blocks,).
        weight: (hidden,), as bias.
        bias: see weight.
        eps: of the norm.
        out: (blocks, rows, hidden).
    """
    blocks, rows, size = out.shape
    total = np.empty(size, np.float32)
    for b in range(blocks):
        for r in range(rows):
            g, s, y = gated[b, r], skip[starts[b] + r], out[b, r]
            for j in range(size):
                total[j] = g[j] * sigmoid(g[size + j]) + s[j]
            _standardise(total, eps)
            for j in range(size):
                y[j] = total[j] * weight[j] + bias[j]


@compiled
def glu_norm_backward(
    d_out: Array, gated: Array, skip: Array, starts: Rows, weight: Array, eps: Any, d_gated: Array, d_skip: Array,
    d_weight: Array, d_bias: Array,
) -> None:  # fmt: skip
    """Turn d_out into the gradients of `glu_norm_forward`'s inputs; d_skip, d_weight and d_bias are added to."""
    blocks, rows, size = d_out.shape
    total, grad, dw, db = np.empty((4, size), np.float32)
    for b in range(blocks):
        dw[:], db[:] = ZERO, ZERO
        for r in range(rows):
            g, s, dy = gated[b, r], skip[starts[b] + r], d_out[b, r]
            dg, ds = d_gated[b, r], d_skip[starts[b] + r]
            for j in range(size):
                total[j] = g[j] * sigmoid(g[size + j]) + s[j]
            inverse = _standardise(total, eps)
            for j in range(size):
                dw[j] += dy[j] * total[j]
                db[j] += dy[j]
                grad[j] = dy[j] * weight[j]
            _unstandardise(grad, total, inverse)
            for j in range(size):
                open_ = sigmoid(g[size + j])
                ds[j] += grad[j]
                dg[j] = grad[j] * open_
                dg[size + j] = grad[j] * g[j] * open_ * (ONE - open_)
        for j in range(size):
            d_weight[j] += dw[j]
            d_bias[j] += db[j]


@inlined
def _line_and_gate(g: Array, x: Any, line: Array, eps: Array, inner: Array, total: Array) -> Any:
    """Fill `inner` with the standardised line and `total` with the standardised sum; return both inverses."""
    size = inner.shape[0]
    for j in range(size):
        inner[j] = x * line[0, j] + line[1, j]
    inverse_in = _standardise(inner, eps[0])
    for j in range(size):
        total[j] = g[j] * sigmoid(g[size + j]) + inner[j] * line[2, j] + line[3, j]
    return inverse_in, _standardise(total, eps[1])


@compiled
def select_forward(
    gated: Array, values: Array, weights: Array, line: Array, weight: Array, bias: Array, eps: Array, out: Array
) -> None:
    """Add up what the variables' own networks say, by the variables' weights.

    out[r] += sum over v of weights[v, r] * (LayerNorm(GLU(gated[v, r]) + skip) * weight[v] + bias[v]), in which
    skip = LayerNorm(values[v, r] * line[v, 0] + line[v, 1]) * line[v, 2] + line[v, 3].

    Args:
        gated: (variables, rows, 2 hidden).
        values: (variables, rows), as weights.
        weights: see values.
        line: (variables, 4, hidden).
        weight: (variables, hidden), as bias.
        bias: see weight.
        eps: (2,) of the skip's norm and of the outer one.
        out: (rows, hidden).
    """
    variables, rows, double = gated.shape
    size = double // 2
    total, inner = np.empty((2, size), np.float32)
    for v in range(variables):
        scale, offset = weight[v], bias[v]
        for r in range(rows):
            y, part = out[r], weights[v, r]
            _line_and_gate(gated[v, r], values[v, r], line[v], eps, inner, total)
            for j in range(size):
                y[j] += part * (total[j] * scale[j] + offset[j])


@compiled
def select_backward(
    d_out: Array, gated: Array, values: Array, weights: Array, line: Array, weight: Array, bias: Array, eps: Array,
    d_gated: Array, d_weights: Array, d_line: Array, d_weight: Array, d_bias: Array,
) -> None:  # fmt: skip
    """Turn d_out into the gradients of `select_forward`'s inputs; d_line, d_weight and d_bias are added to."""
    variables, rows, double = gated.shape
    size = double // 2
    total, inner, grad = np.empty((3, size), np.float32)
    for v in range(variables):
        gain, scale, offset, dl, dw, db = line[v, 2], weight[v], bias[v], d_line[v], d_weight[v], d_bias[v]
        for r in range(rows):
            g, dy, dg, x, part = gated[v, r], d_out[r], d_gated[v, r], values[v, r], weights[v, r]
            inverse_in, inverse = _line_and_gate(g, x, line[v], eps, inner, total)
            said = ZERO
            for j in range(size):
                said += dy[j] * (total[j] * scale[j] + offset[j])
                dw[j] += part * dy[j] * total[j]
                db[j] += part * dy[j]
                grad[j] = part * dy[j] * scale[j]
            d_weights[v, r] = said
            _unstandardise(grad, total, inverse)
            for j in range(size):
                open_ = sigmoid(g[size + j])
                dg[j] = grad[j] * open_
                dg[size + j] = grad[j] * g[j] * open_ * (ONE - open_)
                dl[2, j] += grad[j] * inner[j]
                dl[3, j] += grad[j]
                grad[j] *= gain[j]
            _unstandardise(grad, inner, inverse_in)
            for j in range(size):
                dl[0, j] += grad[j] * x
                dl[1, j] += grad[j]
