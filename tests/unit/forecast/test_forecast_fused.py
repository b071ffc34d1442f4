"""The compiled loops one by one against plain PyTorch and float64, over widths that fill vectors and do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.forecast import fused
from oihedge.forecast.fused import Dropper, add_selected, attend, glu_add_norm, lstm, shift_elu

numba = pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not fused.COMPILED, reason="nothing is compiled here")
WIDTHS = st.sampled_from([1, 2, 7, 15, 16, 17, 32, 40])
ROWS = st.integers(1, 11)
SLACK = 40
"""How many times plain PyTorch's own float32 error, or as many last places of the largest number, a loop may be off."""


def numbers(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    draw = np.random.default_rng(seed)
    return [torch.tensor(draw.normal(size=shape), dtype=torch.float32) for shape in shapes]


def told(run, inputs: list[torch.Tensor], dtype: torch.dtype, *, compiled: bool) -> list[torch.Tensor]:
    """Return what `run(drop, *inputs)` returns and the gradients of its sum in random directions."""
    given_to = [one.to(dtype).requires_grad_() for one in inputs]
    out = run(Dropper(compiled=compiled), *given_to)
    out = out if isinstance(out, tuple) else (out,)
    ways = numbers(99, *(tuple(one.shape) for one in out))
    loss = sum((one * way.to(dtype)).sum() for one, way in zip(out, ways, strict=True))
    gradients = torch.autograd.grad(loss, given_to, allow_unused=True)
    return [one.detach().double() for one in (*out, *gradients) if one is not None]


def agrees(run, inputs: list[torch.Tensor]) -> None:
    """Compare a loop with float64; it may be off as plain PyTorch is where its inputs are off by half a place."""
    own, exact = told(run, inputs, torch.float32, compiled=True), told(run, inputs, torch.float64, compiled=False)
    nudges = (2.0**-24 * way for way in (-1, 0, 1))
    plain = [told(run, [one.double() * (1 + n) for one in inputs], torch.float32, compiled=False) for n in nudges]
    assert len(own) == len(exact)
    for number, (one, true) in enumerate(zip(own, exact, strict=True)):
        usual = max(float((same[number] - true).abs().max()) for same in plain)
        error = float((one - true).abs().max())
        assert error <= SLACK * max(usual, float(true.abs().max()) * 2**-23), (error, usual)


@settings(max_examples=25, deadline=None)
@given(WIDTHS, ROWS, st.integers(1, 3), st.integers(0, 9))
def test_a_gated_sum_and_its_norm(width, rows, blocks, seed):
    if width == 1:  # the norm of one number is none: zeros divided by zeros of another size
        return
    norm = (2 * width,), (width,), (width,)
    inputs = numbers(seed, (blocks, rows, 2 * width), *norm, (blocks + rows, width))
    starts = torch.arange(blocks)
    agrees(lambda drop, g, bias, *rest: glu_add_norm(g, bias, rest[2], starts, rest[:2], drop), inputs)
    alike = numbers(seed, (blocks, rows, 2 * width), *norm, (blocks, rows, width))
    agrees(lambda drop, g, bias, *rest: glu_add_norm(g, bias, rest[2], None, rest[:2], drop), alike)


@settings(max_examples=25, deadline=None)
@given(WIDTHS, ROWS, st.integers(1, 3), st.integers(0, 9))
def test_a_bend_with_a_shift(width, rows, blocks, seed):
    agrees(lambda drop, x, shift: shift_elu(x, shift, drop), numbers(seed, (blocks, rows, width), (blocks, width)))


@settings(max_examples=25, deadline=None)
@given(WIDTHS, st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
def test_a_recurrence_over_views_of_shared_rows(size, windows, steps, seed):
    starts = torch.tensor([2 * (n % 3) for n in range(windows)])
    shapes = (2, steps + 2, 3), (windows, size), (windows, size), (4 * size, 3), (4 * size,), (4 * size, size)

    def run(drop, rows, hidden, cell, *weights):
        return lstm(rows, starts, steps, (hidden, cell), weights, drop)

    agrees(run, numbers(seed, *shapes))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 3, 8, 16]),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 9),
)
def test_attention_over_all_hours_or_those_before(size, heads, before, ahead, causal, seed):
    shapes = (2, ahead, heads * size), (2, before + ahead, heads * size), (2, before + ahead, size)
    agrees(lambda drop, q, k, v: attend(q, k, v, heads, causal, drop), numbers(before, *shapes))


def of_group(count: int, width: int, size: int) -> tuple[tuple[int, ...], ...]:
    return (
        (count, width), (count, width), (count, width, width), (count, width), (count, width, 2 * size),
        (count, 2 * size), (count, 4, size), (count, size), (count, size),
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(WIDTHS, st.sampled_from([7, 16, 17, 32]), ROWS, st.integers(1, 3), st.integers(0, 9))
def test_the_choice_among_variables(width, size, rows, count, seed):
    inputs = numbers(seed, (count, rows), (count, rows), *of_group(count, width, size))

    def run(drop, values, weights, *of):
        return add_selected(values.detach(), weights, of, (1e-3, 1e-5), None, drop)

    agrees(run, inputs)


@settings(max_examples=15, deadline=None)
@given(WIDTHS, ROWS, st.integers(0, 9))
def test_the_choice_drops_what_dropout_would_and_sends_back_the_gradient_of_what_it_kept(width, rows, seed):
    size, module = 6, torch.nn.Dropout(0.4)
    inputs = numbers(seed, (2, rows), (2, rows), *of_group(2, width, size))
    mask = Dropper(seed=3)(torch.ones(2, rows, width), module)

    class SameMask(Dropper):
        def __call__(self, x, module):
            return x if module is None else x * mask.to(x.dtype)

    def run(drop, values, weights, *of):
        own = Dropper(seed=3) if drop.fits(values) else SameMask(seed=3, compiled=False)
        return add_selected(values.detach(), weights, of, (1e-3, 1e-5), module, own)

    agrees(run, inputs)


def test_loops_read_rows_that_do_not_lie_side_by_side_and_keep_infinities():
    every_other, same = torch.randn(32)[::2], torch.randn(1).expand(8)
    gated, skip = torch.randn(1, 3, 16), torch.randn(1, 3, 8)
    own, plain = (
        glu_add_norm(gated, every_other, skip, None, (same, same), Dropper(compiled=compiled))
        for compiled in (True, False)
    )
    assert torch.allclose(own, plain, atol=1e-5)
    rows, *weights = numbers(4, (1, 6, 3), (32, 3), (32,), (32, 8))
    rows[0, 2, 1] = torch.inf
    begin = torch.zeros(2, 8), torch.zeros(2, 8)
    own, plain = (
        lstm(rows, torch.tensor([0, 2]), 4, begin, weights, Dropper(compiled=compiled))[0] for compiled in (True, False)
    )
    assert torch.allclose(own, plain, atol=1e-5)
    assert torch.isfinite(own).all()


def test_exp_is_exact_to_the_last_places_saturates_and_lets_no_nan_go():
    from oihedge.forecast.compiled.lanes import load, store
    from oihedge.forecast.compiled.maths import exp

    @numba.njit
    def of(x, out):
        for i in range(0, x.shape[0], 16):
            store(out, i, exp(load(x, i)))

    x = np.linspace(-87, 88, 16 * 4000, dtype=np.float32)
    out = np.empty_like(x)
    of(x, out)
    true = np.exp(x.astype(np.float64))
    assert np.max(np.abs(out - true) / true) < 3 * 2.0**-23
    edges = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0, -0.0, 89, -88, *[1.0] * 7], dtype=np.float32)
    out = np.empty_like(edges)
    of(edges, out)
    assert np.isnan(out[0])
    assert out[5] == out[6] == 1
    assert np.allclose(out[[1, 3, 7]], np.exp(np.float64(88)), rtol=1e-6)
    assert np.allclose(out[[2, 4, 8]], np.exp(np.float64(-87)), rtol=1e-6)
