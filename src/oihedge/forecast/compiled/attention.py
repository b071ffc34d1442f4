"""Attention of a window's hours ahead over all its hours: a head's keys lie by channel, so that hours are vectors."""

from __future__ import annotations

from typing import Any

from oihedge.forecast.compiled.maths import ONE, ZERO, Array, compiled, exp, fill, inlined


@inlined
def _turn(rows: Array, out: Array) -> None:
    """Write the transpose of `rows` into `out`."""
    for t in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            out[c, t] = rows[t, c]


@inlined
def _largest(row: Array, seen: Any, lanes: Array) -> Any:
    """Return the largest of row[:seen], lane by lane: a plain running maximum is not vectorised."""
    size = lanes.shape[0]
    fill(lanes, row[0])
    t = 0
    while t + size <= seen:
        part = row[t : t + size]
        for j in range(size):
            lanes[j] = part[j] if part[j] > lanes[j] else lanes[j]
        t += size
    most = lanes[0]
    for j in range(size):
        most = max(most, lanes[j])
    while t < seen:
        most = max(most, row[t])
        t += 1
    return most


@compiled
def attend_forward(
    query: Array, key: Array, value: Array, causal: bool, attention: Array, out: Array, work: Array, lanes: Array
) -> None:
    """Weigh the values by softmax(query . key).

    Args:
        query: (windows, ahead, heads * size), scaled.
        key: (windows, steps, heads * size).
        value: (windows, steps, channels), the same for all heads.
        causal: whether hour d ahead sees only hours before it; else it sees all.
        attention: out, (windows, heads, ahead, steps).
        out: out, (windows, heads, ahead, channels).
        work: (heads * size + channels, steps) to work in.
        lanes: (32,) to work in.
    """
    windows, heads, ahead, steps = attention.shape
    size, channels = query.shape[2] // heads, value.shape[2]
    keys, values = work[: heads * size], work[heads * size :]
    for w in range(windows):
        _turn(key[w], keys)
        _turn(value[w], values)
        for i in range(heads):
            for d in range(ahead):
                seen = steps - ahead + d if causal else steps
                row = attention[w, i, d]
                fill(row, ZERO)
                for c in range(i * size, (i + 1) * size):
                    q, k = query[w, d, c], keys[c]
                    for t in range(seen):
                        row[t] += q * k[t]
                most, total = _largest(row, seen, lanes), ZERO
                for t in range(seen):
                    row[t] = exp(row[t] - most)
                for t in range(seen):
                    total += row[t]
                share = ONE / total
                for t in range(seen):
                    row[t] *= share
                for c in range(channels):
                    v, said = values[c], ZERO
                    for t in range(seen):
                        said += row[t] * v[t]
                    out[w, i, d, c] = said


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

    `work`: (2 * (heads * size + channels) + 1, steps) to work in.
    """
    windows, heads, ahead, steps = attention.shape
    size, channels = query.shape[2] // heads, value.shape[2]
    first, both = heads * size, heads * size + channels
    keys, values = work[:first], work[first:both]
    d_keys, d_values, grad = work[both : both + first], work[both + first : 2 * both], work[2 * both]
    for w in range(windows):
        _turn(key[w], keys)
        _turn(value[w], values)
        for c in range(both, 2 * both):
            fill(work[c], ZERO)
        for i in range(heads):
            for d in range(ahead):
                seen = steps - ahead + d if causal else steps
                row = attention[w, i, d]
                for t in range(seen):
                    grad[t] = ZERO
                for c in range(channels):
                    dy, v, dv = d_out[w, i, d, c], values[c], d_values[c]
                    for t in range(seen):
                        grad[t] += dy * v[t]
                        dv[t] += dy * row[t]
                mean = ZERO
                for t in range(seen):
                    mean += grad[t] * row[t]
                for t in range(seen):
                    grad[t] = row[t] * (grad[t] - mean)
                for c in range(i * size, (i + 1) * size):
                    q, k, dk, dq = query[w, d, c], keys[c], d_keys[c], ZERO
                    for t in range(seen):
                        dq += grad[t] * k[t]
                        dk[t] += q * grad[t]
                    d_query[w, d, c] = dq
        _turn(d_keys, d_key[w])
        _turn(d_values, d_value[w])
