"""Operations of the shared path: compiled for float32 where numba is there, else the same in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional

try:
    from oihedge.forecast.compiled.attention import attend_backward, attend_forward
    from oihedge.forecast.compiled.dropout import dropout
    from oihedge.forecast.compiled.elu import (
        line_elu_backward,
        line_elu_forward,
        shift_elu_backward,
        shift_elu_forward,
    )
    from oihedge.forecast.compiled.lstm import lstm_backward, lstm_forward
    from oihedge.forecast.compiled.norm import glu_norm_backward, glu_norm_forward, select_backward, select_forward

    COMPILED = True
except ImportError:  # numba has no build for every machine
    COMPILED = False

Tensor = torch.Tensor
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
        share = 0.0 if module is None or self._seed is None else float(module.p)
        if self._seed is None or share <= 0.0:
            return x
        if self.fits(x) and share < 1.0:
            self._draws += 1
            return applied(_Dropout, x, (self._seed + self._draws * 0x85EBCA6B) % 2**32, share)  # type: ignore[no-any-return]
        if self._generator is None:
            self._generator = torch.Generator(x.device).manual_seed(self._seed)
        return x * torch.empty_like(x).bernoulli_(1.0 - share, generator=self._generator) / (1.0 - share)

    def fits(self, x: Tensor) -> bool:
        """Tell whether the compiled loops take `x`."""
        return self.compiled and x.dtype == torch.float32 and x.device.type == "cpu"


def reduced(device: torch.device, bf16: bool) -> AbstractContextManager[Any]:
    """Let matrix products on `device` be in bfloat16, or leave all as it is."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def in_float32(x: Tensor) -> Tensor:
    """Return what may have come in bfloat16 in float32: what follows needs more than its 8 bits."""
    return x.float() if x.dtype == torch.bfloat16 else x


def line_elu(values: Tensor, slope: Tensor, level: Tensor, drop: Dropper) -> Tensor:
    """Return ELU(values * slope + level), (variables, rows, hidden), of numbers that take no gradient.

    Args:
        values: (variables, rows).
        slope: (variables, hidden), as level.
        level: see slope.
        drop: whether to use the compiled loop.
    """
    if drop.fits(values):
        return applied(_LineElu, values, slope, level)  # type: ignore[no-any-return]
    return functional.elu(torch.addcmul(level[:, None], values[..., None], slope[:, None]))


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
    gated: Tensor, gate_bias: Tensor, values: Tensor, weights: Tensor, line: Tensor, norm: tuple[Tensor, Tensor],
    eps: tuple[float, float], drop: Dropper,
) -> Tensor:  # fmt: skip
    """Add up what variables' networks say (rows, hidden), by their weights; see `compiled.norm.select_forward`."""
    if drop.fits(gated):
        return applied(_Selected, gated, gate_bias, values, weights, line, *norm, eps)  # type: ignore[no-any-return]
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
        gates = functional.linear(rows.flatten(0, 1), w_in, bias)
        return applied(_Lstm, gates, starts, steps, *states, w_state)  # type: ignore[no-any-return]
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
    def forward(ctx: Any, x: Tensor, seed: int, share: float) -> Tensor:
        ctx.how = seed, share
        return _Dropout._masked(x, seed, share)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        return _Dropout._masked(d_out, *ctx.how), None, None

    @staticmethod
    def _masked(x: Tensor, seed: int, share: float) -> Tensor:
        whole = x.contiguous()
        out = torch.empty_like(whole)
        scale = np.float32(1.0 / (1.0 - share))
        dropout(*_arrays(whole.view(-1)), np.uint32(seed), np.uint32(share * 2**32), scale, *_arrays(out.view(-1)))
        return out


class _LineElu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Tensor, level: Tensor) -> Tensor:
        inputs = [one.contiguous() for one in (values, slope, level)]
        out = values.new_empty(*values.shape, slope.shape[1])
        line_elu_forward(*_arrays(*inputs, out))
        ctx.save_for_backward(inputs[0], out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        values, out = ctx.saved_tensors
        d_slope, d_level = values.new_zeros(2, len(values), out.shape[2])
        line_elu_backward(*_arrays(d_out.contiguous(), out, values, d_slope, d_level), _work(1, out.shape[2]))
        return None, d_slope, d_level


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
        ctx: Any, gated: Tensor, gate_bias: Tensor, values: Tensor, weights: Tensor, line: Tensor, weight: Tensor,
        bias: Tensor, eps: tuple[float, float],
    ) -> Tensor:  # fmt: skip
        inputs = [one.contiguous() for one in (gated, gate_bias, values, weights, line, weight, bias)]
        out = gated.new_zeros(gated.shape[1], weight.shape[1])
        ctx.eps = np.asarray(eps, dtype=np.float32)
        select_forward(*_arrays(*inputs), ctx.eps, *_arrays(out), _work(2, out.shape[1]))
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        gated, gate_bias, _, weights, line, weight, bias = ctx.saved_tensors
        d_gated, d_weights = torch.empty_like(gated), torch.empty_like(weights)
        d_gate_bias, d_line, d_weight, d_bias = (torch.zeros_like(one) for one in (gate_bias, line, weight, bias))
        grads = d_gated, d_gate_bias, d_weights, d_line, d_weight, d_bias
        work = _work(5, weight.shape[1])
        select_backward(*_arrays(d_out.contiguous(), *ctx.saved_tensors), ctx.eps, *_arrays(*grads), work)
        return d_gated, d_gate_bias, None, d_weights, d_line, d_weight, d_bias, None


class _GluAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gated: Tensor, gate_bias: Tensor, skip: Tensor, starts: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        gated, skip = gated.contiguous(), skip.contiguous()
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
            _work(3, len(weight)),
        )
        return d_gated, d_gate_bias, d_skip, None, d_weight, d_bias


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        windows, ahead, _ = query.shape
        attention = query.new_empty(windows, heads, ahead, key.shape[1])
        out = query.new_empty(windows, heads, ahead, value.shape[2])
        work = _work(key.shape[2] + value.shape[2], key.shape[1]), _work(32)
        attend_forward(*_arrays(query, key, value), causal, *_arrays(attention, out), *work)
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
        lstm_backward(
            *_arrays(d_out.contiguous(), d_h, d_c, starts, cell, weight.contiguous(), gates, cells, d_gates, d_gates_in)
        )
        d_weight = d_gates.flatten(0, 1).t() @ before.flatten(0, 1)
        return d_gates_in, None, None, d_h, d_c, d_weight


def _work(*shape: int) -> np.ndarray[Any, Any]:
    return np.empty(shape, np.float32)


def _arrays(*tensors: Tensor) -> list[np.ndarray[Any, Any]]:
    return [tensor.detach().numpy() for tensor in tensors]
