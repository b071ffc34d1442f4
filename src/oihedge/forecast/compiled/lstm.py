"""An LSTM over views of shared input gates, two windows at a time: both use a weight while it is at hand."""

from __future__ import annotations

from oihedge.forecast.compiled.compiling import compiled, inlined
from oihedge.forecast.compiled.lanes import WIDTH, load, splat, store
from oihedge.forecast.compiled.maths import ONE, ZERO, Array, Rows, sigmoid, tanh


@inlined
def _enter(total: Array, h: Array, c: Array, gate: Array, cell: Array, out: Array) -> None:
    """Go through one step of one window: from the gates' sums to what it hands on."""
    size = h.shape[0]
    for j in range(0, size, WIDTH):
        i, f = sigmoid(load(total, j)), sigmoid(load(total, size + j))
        g, o = tanh(load(total, 2 * size + j)), sigmoid(load(total, 3 * size + j))
        state = f * load(c, j) + i * g
        said = o * tanh(state)
        store(gate, j, i)
        store(gate, size + j, f)
        store(gate, 2 * size + j, g)
        store(gate, 3 * size + j, o)
        store(c, j, state)
        store(cell, j, state)
        store(h, j, said)
        store(out, j, said)


@inlined
def _add_products(row: Array, row_: Array, h: Array, h_: Array, weight_t: Array, total: Array, other: Array) -> None:
    """Add weight_t's rows times two windows' states to what came in: four vectors of gates stay in registers."""
    size = h.shape[0]
    for j in range(0, 4 * size, 4 * WIDTH):
        a0, a1, a2, a3 = load(row, j), load(row, j + 16), load(row, j + 32), load(row, j + 48)
        b0, b1, b2, b3 = load(row_, j), load(row_, j + 16), load(row_, j + 32), load(row_, j + 48)
        for k in range(size):
            w, a, b = weight_t[k], splat(h[k]), splat(h_[k])
            w0, w1, w2, w3 = load(w, j), load(w, j + 16), load(w, j + 32), load(w, j + 48)
            a0, a1, a2, a3 = a0 + a * w0, a1 + a * w1, a2 + a * w2, a3 + a * w3
            b0, b1, b2, b3 = b0 + b * w0, b1 + b * w1, b2 + b * w2, b3 + b * w3
        store(total, j, a0)
        store(total, j + 16, a1)
        store(total, j + 32, a2)
        store(total, j + 48, a3)
        store(other, j, b0)
        store(other, j + 16, b1)
        store(other, j + 32, b2)
        store(other, j + 48, b3)


@compiled
def lstm_forward(
    gates_in: Array, starts: Rows, steps: int, hidden0: Array, cell0: Array, weight_t: Array,
    gates: Array, cells: Array, before: Array, out: Array, work: Array,
) -> None:  # fmt: skip
    """Run an LSTM over views of shared input gates; `hidden` is a multiple of 16.

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
        v = min(w + 1, windows - 1)  # a lone last window is its own neighbour, and is worked out twice
        for j in range(0, size, WIDTH):
            store(h, j, load(hidden0[w], j))
            store(c, j, load(cell0[w], j))
            store(h_, j, load(hidden0[v], j))
            store(c_, j, load(cell0[v], j))
        for t in range(steps):
            for j in range(0, size, WIDTH):
                store(before[w, t], j, load(h, j))
                store(before[v, t], j, load(h_, j))
            _add_products(gates_in[starts[w] + t], gates_in[starts[v] + t], h, h_, weight_t, total, other)
            _enter(total, h, c, gates[w, t], cells[w, t], out[w, t])
            _enter(other, h_, c_, gates[v, t], cells[v, t], out[v, t])


@inlined
def _leave(d_out: Array, dh: Array, dc: Array, gate: Array, cell: Array, cell_before: Array, grad: Array) -> None:
    """Go back through one step of one window: from what it handed on to the gates' sums."""
    size, one = dh.shape[0], splat(ONE)
    for j in range(0, size, WIDTH):
        i, f, g, o = load(gate, j), load(gate, size + j), load(gate, 2 * size + j), load(gate, 3 * size + j)
        squashed = tanh(load(cell, j))
        d_h = load(dh, j) + load(d_out, j)
        d_c = load(dc, j) + d_h * o * (one - squashed * squashed)
        store(grad, j, d_c * g * i * (one - i))
        store(grad, size + j, d_c * load(cell_before, j) * f * (one - f))
        store(grad, 2 * size + j, d_c * i * (one - g * g))
        store(grad, 3 * size + j, d_h * squashed * o * (one - o))
        store(dc, j, d_c * f)


@inlined
def _add_to(x: Array, y: Array) -> None:
    for j in range(0, y.shape[0], WIDTH):
        store(x, j, load(x, j) + load(y, j))


@inlined
def _send_back(grad: Array, grad_: Array, weight: Array, dh: Array, dh_: Array) -> None:
    """Fill dh and dh_ with the states' gradients: four sums of each side by side, as one would wait for itself."""
    size = dh.shape[0]
    for j in range(0, size, WIDTH):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(ZERO)
        for k in range(0, 4 * size, 4):
            w0, w1, w2, w3 = load(weight[k], j), load(weight[k + 1], j), load(weight[k + 2], j), load(weight[k + 3], j)
            a0, a1 = a0 + splat(grad[k]) * w0, a1 + splat(grad[k + 1]) * w1
            a2, a3 = a2 + splat(grad[k + 2]) * w2, a3 + splat(grad[k + 3]) * w3
            b0, b1 = b0 + splat(grad_[k]) * w0, b1 + splat(grad_[k + 1]) * w1
            b2, b3 = b2 + splat(grad_[k + 2]) * w2, b3 + splat(grad_[k + 3]) * w3
        store(dh, j, (a0 + a1) + (a2 + a3))
        store(dh_, j, (b0 + b1) + (b2 + b3))


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
    work: Array,
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
        work: (1, hidden) to work in.
    """
    windows, steps, _ = d_out.shape
    for w in range(0, windows, 2):
        v = min(w + 1, windows - 1)
        dh, dc, dh_, dc_ = d_hidden[w], d_cell[w], d_hidden[v] if v != w else work[0], d_cell[v]
        for t in range(steps - 1, -1, -1):
            grad, grad_ = d_gates[w, t], d_gates[v, t]
            _leave(d_out[w, t], dh, dc, gates[w, t], cells[w, t], cells[w, t - 1] if t > 0 else cell0[w], grad)
            _add_to(d_gates_in[starts[w] + t], grad)
            if v != w:
                _leave(d_out[v, t], dh_, dc_, gates[v, t], cells[v, t], cells[v, t - 1] if t > 0 else cell0[v], grad_)
                _add_to(d_gates_in[starts[v] + t], grad_)
            _send_back(grad, grad_, weight, dh, dh_)
