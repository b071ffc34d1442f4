"""An LSTM over views of shared input gates, two windows at a time: both use a weight while it is at hand."""

from __future__ import annotations

from oihedge.forecast.compiled.maths import ONE, ZERO, Array, Rows, add_to, compiled, inlined, sigmoid, tanh


@inlined
def _enter(total: Array, h: Array, c: Array, gate: Array, cell: Array, out: Array) -> None:
    """Go through one step of one window: from the gates' sums to what it hands on."""
    size = h.shape[0]
    for j in range(2 * size):
        gate[j] = sigmoid(total[j])
    for j in range(2 * size, 3 * size):
        gate[j] = tanh(total[j])
    for j in range(3 * size, 4 * size):
        gate[j] = sigmoid(total[j])
    for j in range(size):
        c[j] = gate[size + j] * c[j] + gate[j] * gate[2 * size + j]
        cell[j] = c[j]
    for j in range(size):
        h[j] = gate[3 * size + j] * tanh(c[j])
        out[j] = h[j]


@inlined
def _add_products(h: Array, h_: Array, weight_t: Array, total: Array, other: Array) -> None:
    """Add weight_t's rows times two windows' states to their sums."""
    size = h.shape[0]
    k = 0
    while k + 4 <= size:
        a0, a1, a2, a3 = h[k], h[k + 1], h[k + 2], h[k + 3]
        b0, b1, b2, b3 = h_[k], h_[k + 1], h_[k + 2], h_[k + 3]
        w0, w1, w2, w3 = weight_t[k], weight_t[k + 1], weight_t[k + 2], weight_t[k + 3]
        for j in range(4 * size):
            total[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
            other[j] += b0 * w0[j] + b1 * w1[j] + b2 * w2[j] + b3 * w3[j]
        k += 4
    while k < size:
        a0, b0, w0 = h[k], h_[k], weight_t[k]
        for j in range(4 * size):
            total[j] += a0 * w0[j]
            other[j] += b0 * w0[j]
        k += 1


@compiled
def lstm_forward(
    gates_in: Array, starts: Rows, steps: int, hidden0: Array, cell0: Array, weight_t: Array,
    gates: Array, cells: Array, before: Array, out: Array, work: Array,
) -> None:  # fmt: skip
    """Run an LSTM over views of shared input gates.

    Args:
        gates_in: (rows, 4 hidden) input part of the gates i, f, g, o, biases included.
        starts: (windows,) the row of each window's first step.
        steps: how many rows a window reads.
        hidden0: (windows, hidden), as cell0.
        cell0: see hidden0.
        weight_t: (hidden, 4 hidden) the recurrent weight, transposed.
        gates: out, (windows, steps, 4 hidden) the gates after their nonlinearity.
        cells: out, (windows, steps, hidden), as before (the hidden state that enters a step) and out (that leaves it).
        before: see cells.
        out: see cells.
        work: (6, 4 hidden) to work in.
    """
    windows, size = hidden0.shape
    total, other = work[0], work[1]
    h, c, h_, c_ = work[2, :size], work[3, :size], work[4, :size], work[5, :size]
    for w in range(0, windows, 2):
        v = min(w + 1, windows - 1)
        for j in range(size):
            h[j], c[j] = hidden0[w, j], cell0[w, j]
            h_[j], c_[j] = hidden0[v, j], cell0[v, j]
        for t in range(steps):
            row, row_ = gates_in[starts[w] + t], gates_in[starts[v] + t]
            for j in range(4 * size):
                total[j] = row[j]
                other[j] = row_[j]
            for j in range(size):  # the second first: a lone last window is its own neighbour, whose state stands still
                before[v, t, j] = h_[j]
            for j in range(size):
                before[w, t, j] = h[j]
            _add_products(h, h_, weight_t, total, other)
            _enter(total, h, c, gates[w, t], cells[w, t], out[w, t])
            if v != w:
                _enter(other, h_, c_, gates[v, t], cells[v, t], out[v, t])


@inlined
def _leave(d_out: Array, dh: Array, dc: Array, gate: Array, cell: Array, cell_before: Array, grad: Array) -> None:
    """Go back through one step of one window: from what it handed on to the gates' sums."""
    size = dh.shape[0]
    for j in range(size):
        i, f, g, o = gate[j], gate[size + j], gate[2 * size + j], gate[3 * size + j]
        squashed = tanh(cell[j])
        d_h = dh[j] + d_out[j]
        d_c = dc[j] + d_h * o * (ONE - squashed * squashed)
        grad[j] = d_c * g * i * (ONE - i)
        grad[size + j] = d_c * cell_before[j] * f * (ONE - f)
        grad[2 * size + j] = d_c * i * (ONE - g * g)
        grad[3 * size + j] = d_h * squashed * o * (ONE - o)
        dc[j] = d_c * f
        dh[j] = ZERO


@compiled
def lstm_backward(
    d_out: Array,
    d_hidden: Array,
    d_cell: Array,
    starts: Rows,
    cell0: Array,
    weight: Array,
    gates: Array,
    cells: Array,
    d_gates: Array,
    d_gates_in: Array,
) -> None:
    """Turn the gradients of `lstm_forward`'s results into those of its inputs.

    Args:
        d_out: (windows, steps, hidden).
        d_hidden: (windows, hidden) of the last hidden state; becomes that of hidden0.
        d_cell: as d_hidden, of the cells.
        starts: as in `lstm_forward`, as cell0, gates and cells.
        cell0: see starts.
        weight: (4 hidden, hidden).
        gates: see starts.
        cells: see starts.
        d_gates: out, (windows, steps, 4 hidden) before the nonlinearity.
        d_gates_in: out, added to, (rows, 4 hidden).
    """
    windows, steps, size = d_out.shape
    for w in range(0, windows, 2):
        v = min(w + 1, windows - 1)
        dh, dc, dh_, dc_ = d_hidden[w], d_cell[w], d_hidden[v], d_cell[v]
        for t in range(steps - 1, -1, -1):
            grad, grad_ = d_gates[w, t], d_gates[v, t]
            _leave(d_out[w, t], dh, dc, gates[w, t], cells[w, t], cells[w, t - 1] if t > 0 else cell0[w], grad)
            row = d_gates_in[starts[w] + t]
            add_to(row, grad)
            if v == w:
                for k in range(0, 4 * size, 4):
                    a0, a1, a2, a3 = grad[k], grad[k + 1], grad[k + 2], grad[k + 3]
                    w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
                    for j in range(size):
                        dh[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
                continue
            _leave(d_out[v, t], dh_, dc_, gates[v, t], cells[v, t], cells[v, t - 1] if t > 0 else cell0[v], grad_)
            row_ = d_gates_in[starts[v] + t]
            add_to(row_, grad_)
            for k in range(0, 4 * size, 4):
                a0, a1, a2, a3 = grad[k], grad[k + 1], grad[k + 2], grad[k + 3]
                b0, b1, b2, b3 = grad_[k], grad_[k + 1], grad_[k + 2], grad_[k + 3]
                w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
                for j in range(size):
                    dh[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
                    dh_[j] += b0 * w0[j] + b1 * w1[j] + b2 * w2[j] + b3 * w3[j]
