"""Attention of a window's hours ahead over all its hours: a head's keys lie by channel, so that hours are vectors."""

from __future__ import annotations

import numpy as np

from oihedge.forecast.compiled.compiling import compiled, inlined
from oihedge.forecast.compiled.lanes import WIDTH, keep, larger, largest_of, load, splat, store, total_of
from oihedge.forecast.compiled.maths import ONE, ZERO, Array, exp

_LEAST = np.float32(-np.inf)


@inlined
def _clear(x: Array) -> None:
    """Fill rows (n, whole vectors) with zeros."""
    for c in range(x.shape[0]):
        for t in range(0, x.shape[1], WIDTH):
            store(x[c], t, splat(ZERO))


@inlined
def _turn(rows: Array, out: Array) -> None:
    """Write the transpose of `rows` into `out`."""
    for t in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            out[c, t] = rows[t, c]


@inlined
def _turn_back(rows: Array, out: Array) -> None:
    """Write the transpose of the beginning of `rows` into `out`."""
    for t in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[t, c] = rows[c, t]


@inlined
def _softmax(row: Array, seen: int) -> None:
    """Replace scores row[:seen] by their softmax, in place, and what comes after them in the last vector by zeros."""
    most = splat(_LEAST)
    for t in range(0, seen, WIDTH):
        most = larger(most, keep(load(row, t), seen - t, _LEAST))
    top, total = splat(largest_of(most)), splat(ZERO)
    for t in range(0, seen, WIDTH):
        part = keep(exp(load(row, t) - top), seen - t, ZERO)
        total = total + part
        store(row, t, part)
    share = splat(ONE / total_of(total))
    for t in range(0, seen, WIDTH):
        store(row, t, load(row, t) * share)


@compiled
def attend_forward(
    query: Array, key: Array, value: Array, causal: bool, attention: Array, out: Array, work: Array
) -> None:
    """Weigh the values by softmax(query . key).

    Args:
        query: (windows, ahead, heads * size), scaled.
        key: (windows, steps, heads * size).
        value: (windows, steps, channels), the same for all heads.
        causal: whether hour d ahead sees only hours before it; else it sees all.
        attention: out, (windows, heads, ahead, steps or more: whole vectors).
        out: out, (windows, heads, ahead, channels).
        work: (heads * size + channels, as many steps as `attention`) to work in.
    """
    windows, heads, ahead, _ = attention.shape
    size, channels, steps = query.shape[2] // heads, value.shape[2], key.shape[1]
    keys, values = work[: heads * size], work[heads * size :]
    _clear(work)
    for w in range(windows):
        _turn(key[w], keys)
        _turn(value[w], values)
        for i in range(heads):
            for d in range(ahead):
                seen = steps - ahead + d if causal else steps
                row, q = attention[w, i, d], query[w, d]
                for t in range(0, seen, WIDTH):
                    score = splat(ZERO)
                    for c in range(i * size, (i + 1) * size):
                        score = score + splat(q[c]) * load(keys[c], t)
                    store(row, t, score)
                _softmax(row, seen)
                for c in range(channels):
                    said = splat(ZERO)
                    for t in range(0, seen, WIDTH):
                        said = said + load(row, t) * load(values[c], t)
                    out[w, i, d, c] = total_of(said)


@compiled
def attend_backward(
    d_out: Array,
    query: Array,
    key: Array,
    value: Array,
    causal: bool,
    attention: Array,
    d_query: Array,
    d_key: Array,
    d_value: Array,
    work: Array,
) -> None:
    """Turn d_out (windows, heads, ahead, channels) into the gradients of `attend_forward`'s inputs.

    `work`: (2 * (heads * size + channels) + 1, as many steps as `attention`) to work in.
    """
    windows, heads, ahead, _ = attention.shape
    size, channels, steps = query.shape[2] // heads, value.shape[2], key.shape[1]
    first, both = heads * size, heads * size + channels
    keys, values = work[:first], work[first:both]
    d_keys, d_values, grad = work[both : both + first], work[both + first : 2 * both], work[2 * both]
    _clear(work)
    for w in range(windows):
        _turn(key[w], keys)
        _turn(value[w], values)
        _clear(work[both : 2 * both])
        for i in range(heads):
            for d in range(ahead):
                seen = steps - ahead + d if causal else steps
                row, dy, q, mean = attention[w, i, d], d_out[w, i, d], query[w, d], splat(ZERO)
                for t in range(0, seen, WIDTH):
                    share, of = load(row, t), splat(ZERO)
                    for c in range(channels):
                        told = splat(dy[c])
                        of = of + told * load(values[c], t)
                        store(d_values[c], t, load(d_values[c], t) + told * share)
                    mean = mean + of * share
                    store(grad, t, of)
                middle = splat(total_of(mean))
                for t in range(0, seen, WIDTH):
                    store(grad, t, load(row, t) * (load(grad, t) - middle))
                for c in range(i * size, (i + 1) * size):
                    asked, of = splat(q[c]), splat(ZERO)
                    for t in range(0, seen, WIDTH):
                        one = load(grad, t)
                        of = of + one * load(keys[c], t)
                        store(d_keys[c], t, load(d_keys[c], t) + asked * one)
                    d_query[w, d, c] = total_of(of)
        _turn_back(d_keys, d_key[w])
        _turn_back(d_values, d_value[w])
