"""Operations of the shared path: compiled for float32 where numba is there, else the same in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional

try:
    import numba

    from oihedge.forecast.compiled.attention import attend_backward, attend_forward
    from oihedge.forecast.compiled.dropout import dropout
    from oihedge.forecast.compiled.elu import shift_elu_backward, shift_elu_forward
    from oihedge.forecast.compiled.lanes import WIDTH
    from oihedge.forecast.compiled.lstm import lstm_backward, lstm_forward
    from oihedge.forecast.compiled.norm import glu_norm_backward, glu_norm_forward
    from oihedge.forecast.compiled.selection import TILE, select_backward, select_forward

    COMPILED = not numba.config.DISABLE_JIT
except Exception:  # numba is not there, or what it is made of cannot be loaded: that ends in errors of many kinds
    COMPILED = False

Tensor = torch.Tensor
Drawn = tuple[int, int, np.float32]
EPS = 1e-5
"""Of every LayerNorm in pytorch-forecasting's TFT."""


class Dropper:
    """Drops by a seed of its own, so that one worker's draws never depend on another's; and says how to compute.

    `bf16`: whether matrix products are in bfloat16, for which nothing is compiled.
    """

    def __init__(self, *, seed: int | None = None, compiled: bool = True, bf16: bool = False) -> None:
        self.compiled, self.bf16 = compiled and COMPILED and not bf16, bf16
        self._seed, self._draws = seed, 0
        self._generator: torch.Generator | None = None

    def __call__(self, x: Tensor, module: Any) -> Tensor:
        """Return x with each number dropped by a Dropout module's probability, the others scaled up."""
        share = self._share(module)
        if self._seed is None or share <= 0.0:
            return x
        if self.fits(x) and share < 1.0:
            return applied(_Dropout, x, self.drawn(module))  # type: ignore[no-any-return]
        if self._generator is None:
            self._generator = torch.Generator(x.device).manual_seed(self._seed)
        return x * torch.empty_like(x).bernoulli_(1.0 - share, generator=self._generator) / (1.0 - share)

    def drawn(self, module: Any) -> Drawn:
        """Return what the compiled loops drop by, another each time: seed, threshold and scale."""
        share = self._share(module)
        if self._seed is None or not 0.0 < share < 1.0:
            return 0, 0, np.float32(1.0)
        self._draws += 1
        return (self._seed + self._draws * 0x85EBCA6B) % 2**32, int(share * 2**32), np.float32(1.0 / (1.0 - share))

    def _share(self, module: Any) -> float:
        return 0.0 if module is None or self._seed is None else float(module.p)

    def fits(self, x: Tensor) -> bool:
        """Tell whether the compiled loops take `x`."""
        return self.compiled and x.dtype == torch.float32 and x.device.type == "cpu"


def reduced(device: torch.device, bf16: bool) -> AbstractContextManager[Any]:
    """Let matrix products on `device` be in bfloat16, or leave all as it is."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def in_float32(x: Tensor) -> Tensor:
    """Return what may have come in bfloat16 in float32: what follows needs more than its 8 bits."""
    return x.float() if x.dtype == torch.bfloat16 else x


def shift_elu(x: Tensor, shift: Tensor, drop: Dropper) -> Tensor:
    """Return ELU(x + shift): x (blocks, rows, hidden), shift (blocks, hidden)."""
    return applied(_ShiftElu, x, shift) if drop.fits(x) else functional.elu(x + shift[:, None])


def glu_add_norm(
    gated: Tensor, gate_bias: Tensor, skip: Tensor, starts: Tensor | None, norm: tuple[Tensor, Tensor], drop: Dropper
) -> Tensor:
    """Return LayerNorm(GLU(gated + gate_bias) + skip), scaled and shifted by `norm`.

    Args:
        gated: (..., rows, 2 hidden).
        gate_bias: (2 hidden,).
        skip: (..., rows, hidden); or (any, hidden) with `starts`.
        starts: (blocks,) for gated (blocks, rows, 2 hidden): row r of block b adds row starts[b] + r, gradients summed.
        norm: scale and shift, (hidden,) each.
        drop: whether to use the compiled loop.
    """
    size = skip.shape[-1]
    if drop.fits(gated):
        blocks = gated if starts is not None else gated.reshape(1, -1, 2 * size)
        begin = torch.zeros(1, dtype=torch.int64) if starts is None else starts
        out = applied(_GluAddNorm, blocks, gate_bias, skip.reshape(-1, size), begin, *norm)
        return out.view(*gated.shape[:-1], size)  # type: ignore[no-any-return]
    if starts is not None:
        skip = skip[starts[:, None] + torch.arange(gated.shape[1], device=starts.device)]
    return functional.layer_norm(functional.glu(gated + gate_bias, dim=-1) + skip, (size,), *norm, EPS)


def add_selected(
    values: Tensor, weights: Tensor, of: Sequence[Tensor], eps: tuple[float, float], dropout: Any, drop: Dropper
) -> Tensor:
    """Add up what variables' own networks say (rows, hidden), by their weights.

    Args:
        values: (variables, rows), as weights.
        weights: see values.
        of: slope, level (variables, width); second weight (variables, width, width) and bias (variables, width); gate
            weight (variables, width, 2 hidden) and bias (variables, 2 hidden); line (variables, 4, hidden); scale and
            shift (variables, hidden), as `compiled.selection.select_forward` has them.
        eps: of the skip's norm and of the outer one.
        dropout: a Dropout module.
        drop: how to drop, and whether to use the compiled loop.
    """
    slope, level, second, second_bias, gate, gate_bias, line, *norm = of
    if drop.fits(values) and (dropout is None or dropout.p < 1.0):
        thin = slope, level, _filled(second, 2), second_bias, _filled(gate, 2, 2)
        filled = *(_filled(one, 1) for one in thin), _filled(gate_bias, 1, 2), _filled(line, 2)
        filled += _filled(norm[0], 1), _filled(norm[1], 1)
        sizes = slope.shape[1], line.shape[2]
        return applied(_Selected, values, weights, sizes, eps, drop.drawn(dropout), *filled)  # type: ignore[no-any-return]
    hidden = functional.elu(torch.addcmul(level[:, None], values[..., None], slope[:, None]))
    gated = drop(torch.baddbmm(second_bias[:, None], hidden, second), dropout) @ gate
    slope, level, gain, shift = line[:, :, None].unbind(1)
    skip = functional.layer_norm(values[..., None] * slope + level, level.shape[-1:], eps=eps[0]) * gain + shift
    total = functional.glu(gated + gate_bias[:, None], dim=-1) + skip
    said = functional.layer_norm(total, total.shape[-1:], eps=eps[1]) * norm[0][:, None] + norm[1][:, None]
    return (weights[..., None] * said).sum(0)


def lstm(
    rows: Tensor, starts: Tensor, steps: int, states: tuple[Tensor, Tensor], weights: Sequence[Tensor], drop: Dropper
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer over windows of shared rows.

    Args:
        rows: (segments, rows, inputs).
        starts: (windows,) first of each window's rows, counted through all segments.
        steps: rows in a window.
        states: hidden and cell state (windows, hidden) at the start.
        weights: input weight (4 hidden, inputs), both biases' sum (4 hidden,), recurrent weight (4 hidden, hidden).
        drop: whether to use the compiled loop.

    Returns:
        Outputs (windows, steps, hidden), and the last hidden and cell state (windows, hidden).
    """
    w_in, bias, w_state = weights
    if drop.fits(rows):
        gates = _filled(functional.linear(rows.flatten(0, 1), w_in, bias), 1, 4)
        begin = (_filled(state, 1) for state in states)
        out, hidden, cell = applied(_Lstm, gates, starts, steps, *begin, _filled(_filled(w_state, 0, 4), 1))
        size = states[0].shape[1]
        return out[..., :size], hidden[:, :size], cell[:, :size]
    windows = rows.flatten(0, 1)[starts[:, None] + torch.arange(steps, device=starts.device)]
    hidden, cell = (state[None] for state in states)
    flat = [w_in, w_state, bias, torch.zeros_like(bias)]
    # A state goes on through hundreds of hours: too far for bfloat16.
    with torch.autocast(rows.device.type, enabled=False) if drop.bf16 else nullcontext():
        out, hidden, cell = torch.lstm(windows, (hidden, cell), flat, True, 1, 0.0, False, False, True)
    return out, hidden[0], cell[0]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool, drop: Dropper) -> Tensor:
    """Weigh the values of a window's hours by softmax(query . key), head by head.

    Args:
        query: (windows, ahead, heads * size), of the last `ahead` hours, scaled.
        key: (windows, steps, heads * size).
        value: (windows, steps, channels), the same for all heads.
        heads: how many.
        causal: whether an hour sees only hours before it; else it sees all.
        drop: whether to use the compiled loop.

    Returns:
        (windows, heads, ahead, channels).
    """
    if drop.fits(query):
        return applied(_Attend, query, key, value, heads, causal)  # type: ignore[no-any-return]
    windows, ahead, width = query.shape
    steps = key.shape[1]
    split = (windows, -1, heads, width // heads)
    scores = in_float32(query.view(split).transpose(1, 2) @ key.view(split).permute(0, 2, 3, 1))
    if causal:
        later = torch.ones(ahead, steps, dtype=torch.bool, device=query.device).triu(steps - ahead)
        scores = scores.masked_fill(later, -torch.inf)
    attention = functional.softmax(scores, dim=-1)
    said = attention.reshape(windows, heads * ahead, steps) @ value
    return said.view(windows, heads, ahead, -1)


def applied(function: Any, *arguments: Any) -> Any:
    """Call a torch.autograd.Function."""
    return function.apply(*arguments)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, drawn: Drawn) -> Tensor:
        ctx.drawn = drawn
        return _Dropout._masked(x, drawn)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        return _Dropout._masked(d_out, ctx.drawn), None

    @staticmethod
    def _masked(x: Tensor, drawn: Drawn) -> Tensor:
        whole = x.contiguous()
        out = torch.empty_like(whole)
        dropout(*_arrays(whole.view(-1)), *drawn, *_arrays(out.view(-1)))
        return out


class _ShiftElu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor) -> Tensor:
        x, shift = x.contiguous(), shift.contiguous()
        out = torch.empty_like(x)
        shift_elu_forward(*_arrays(x, shift, out))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        d_x, d_shift = torch.empty_like(out), out.new_zeros(len(out), out.shape[2])
        shift_elu_backward(*_arrays(d_out.contiguous(), out, d_x, d_shift))
        return d_x, d_shift


class _Selected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weights: Tensor, sizes: tuple[int, int], eps: tuple[float, float], drawn: Drawn,
        *of: Tensor,
    ) -> Tensor:  # fmt: skip
        inputs = [one.contiguous() for one in (values, weights, *of)]
        out = values.new_zeros(values.shape[1], sizes[1])
        ctx.how = sizes, np.asarray(eps, dtype=np.float32), drawn
        work = _work(2 * TILE, of[0].shape[1]), _work(TILE + 2, of[5].shape[1])
        select_forward(*_arrays(*inputs), *ctx.how, *_arrays(out), *work)
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        _, weights, *of = ctx.saved_tensors
        back = tuple(_arrays(*(of[i].transpose(1, 2).contiguous() for i in (2, 4))))
        grads = torch.empty_like(weights), *(torch.zeros_like(one) for one in of)
        thin, thick = of[0].shape[1], of[5].shape[1]
        work = _work(4 * TILE, thin), _work(TILE + 3, thick), np.zeros(max(thin, thick), np.float32)
        select_backward(*_arrays(d_out.contiguous(), *ctx.saved_tensors), back, *ctx.how, *_arrays(*grads), *work)
        return None, grads[0], None, None, None, *grads[1:]


class _GluAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gated: Tensor, gate_bias: Tensor, skip: Tensor, starts: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        gated, gate_bias, skip, weight, bias = (one.contiguous() for one in (gated, gate_bias, skip, weight, bias))
        out = gated.new_empty(*gated.shape[:-1], skip.shape[-1])
        inputs = gated, gate_bias, skip, starts, weight
        glu_norm_forward(*_arrays(*inputs, bias), np.float32(EPS), *_arrays(out), _work(1, out.shape[-1]))
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        gated, gate_bias, skip, _, weight = ctx.saved_tensors
        d_gated, d_skip = torch.empty_like(gated), torch.zeros_like(skip)
        d_gate_bias, d_weight, d_bias = torch.zeros_like(gate_bias), torch.zeros_like(weight), torch.zeros_like(weight)
        glu_norm_backward(
            *_arrays(d_out.contiguous(), *ctx.saved_tensors),
            np.float32(EPS),
            *_arrays(d_gated, d_gate_bias, d_skip, d_weight, d_bias),
            _work(4, len(weight)),
        )
        return d_gated, d_gate_bias, d_skip, None, d_weight, d_bias


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        windows, ahead, _ = query.shape
        attention = query.new_empty(windows, heads, ahead, _whole(key.shape[1]))
        out = query.new_empty(windows, heads, ahead, value.shape[2])
        work = _work(key.shape[2] + value.shape[2], key.shape[1])
        attend_forward(*_arrays(query, key, value), causal, *_arrays(attention, out), work)
        ctx.save_for_backward(query, key, value, attention)
        ctx.causal = causal
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attention = ctx.saved_tensors
        grads = [torch.empty_like(one) for one in (query, key, value)]
        work = _work(2 * (key.shape[2] + value.shape[2]) + 1, key.shape[1])
        attend_backward(*_arrays(d_out.contiguous(), query, key, value), ctx.causal, *_arrays(attention, *grads), work)
        return *grads, None, None


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates_in: Tensor, starts: Tensor, steps: int, hidden: Tensor, cell: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        windows, size = hidden.shape
        gates_in, hidden, cell = gates_in.contiguous(), hidden.contiguous(), cell.contiguous()
        weight_t = weight.t().contiguous()
        gates = hidden.new_empty(windows, steps, 4 * size)
        cells, before, out = (hidden.new_empty(windows, steps, size) for _ in range(3))
        given = *_arrays(gates_in, starts), steps, *_arrays(hidden, cell, weight_t)
        lstm_forward(*given, *_arrays(gates, cells, before, out), _work(6, 4 * size))
        ctx.save_for_backward(starts, cell, weight, gates, cells, before)
        ctx.rows = len(gates_in)
        return out, out[:, -1].clone(), cells[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, d_out: Tensor, d_hidden: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        starts, cell, weight, gates, cells, before = ctx.saved_tensors
        d_gates, d_gates_in = torch.empty_like(gates), gates.new_zeros(ctx.rows, gates.shape[-1])
        d_h, d_c = d_hidden.contiguous().clone(), d_cell.contiguous().clone()
        given = d_out.contiguous(), d_h, d_c, starts, cell, weight.contiguous(), gates, cells
        lstm_backward(*_arrays(*given, d_gates, d_gates_in), _work(1, d_h.shape[1]))
        d_weight = d_gates.flatten(0, 1).t() @ before.flatten(0, 1)
        return d_gates_in, None, None, d_h, d_c, d_weight


def _whole(size: int) -> int:
    """Return the size of the vectors that `size` numbers fill, the last of them perhaps in part."""
    return -(-size // WIDTH) * WIDTH


def _filled(x: Tensor, dim: int, blocks: int = 1) -> Tensor:
    """Fill each of the blocks that x consists of along `dim` with zeros to whole vectors."""
    size = x.shape[dim] // blocks
    more = _whole(size) - size
    if not more:
        return x
    apart = x.reshape(*x.shape[:dim], blocks, size, *x.shape[dim + 1 :])
    return functional.pad(apart, (*[0, 0] * (x.dim() - dim - 1), 0, more)).flatten(dim, dim + 1)


def _work(rows: int, size: int) -> np.ndarray[Any, Any]:
    return np.empty((rows, _whole(size)), np.float32)


def _arrays(*tensors: Tensor) -> list[np.ndarray[Any, Any]]:
    return [tensor.detach().numpy() for tensor in tensors]
