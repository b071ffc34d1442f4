"""Attention of a window's hours ahead over all its hours: a head's keys lie by channel, so that hours are vectors."""

from __future__ import annotations

import numpy as np

from oihedge.forecast.compiled.maths import ONE, ZERO, Array, compiled, exp, inlined


@inlined
def _turn(rows: Array, out: Array) -> None:
    """Write the transpose of `rows` into `out`."""
    for t in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            out[c, t] = rows[t, c]


@compiled
def attend_forward(query: Array, key: Array, value: Array, causal: bool, attention: Array, out: Array) -> None:
    """Weigh the values by softmax(query . key).

    Args:
        query: (windows, ahead, heads * size), scaled.
        key: (windows, steps, heads * size).
        value: (windows, steps, channels), the same for all heads.
        causal: whether hour d ahead sees only hours before it; else it sees all.
        attention: out, (windows, heads, ahead, steps).
        out: out, (windows, heads, ahead, channels).
    """
    windows, heads, ahead, steps = attention.shape
    size, channels = query.shape[2] // heads, value.shape[2]
    keys, values = np.empty((heads * size, steps), np.float32), np.empty((channels, steps), np.float32)
    for w in range(windows):
        _turn(key[w], keys)
        _turn(value[w], values)
        for i in range(heads):
            for d in range(ahead):
                seen = steps - ahead + d if causal else steps
                row = attention[w, i, d]
                for t in range(steps):
                    row[t] = ZERO
                for c in range(i * size, (i + 1) * size):
                    q, k = query[w, d, c], keys[c]
                    for t in range(seen):
                        row[t] += q * k[t]
                most = row[0]
                for t in range(seen):
                    most = max(most, row[t])
                total = ZERO
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
) -> None:
    """Turn d_out (windows, heads, ahead, channels) into the gradients of `attend_forward`'s inputs."""
    windows, heads, ahead, steps = attention.shape
    size, channels = query.shape[2] // heads, value.shape[2]
    keys, values = np.empty((heads * size, steps), np.float32), np.empty((channels, steps), np.float32)
    d_keys, d_values = np.empty((heads * size, steps), np.float32), np.empty((channels, steps), np.float32)
    grad = np.empty(steps, np.float32)
    for w in range(windows):
        _turn(key[w], keys)
        _turn(value[w], values)
        d_keys[:], d_values[:] = ZERO, ZERO
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
