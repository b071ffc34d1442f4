"""The shared path against pytorch-forecasting's own network: same function, same gradients, same state_dict."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from fakes.tft_windows import CORNERS, LEVELS, QUIET, dataset, gradients, network
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.metrics import QuantileLoss

from oihedge.forecast.folding import fold, folded_once
from oihedge.forecast.fused import Dropper
from oihedge.forecast.network import forecast_windows
from oihedge.forecast.one_piece import in_one_piece
from oihedge.forecast.parallel import parallel_loss, predict_in_parallel
from oihedge.forecast.segments import Cover, Rows
from oihedge.forecast.tft import SharedTft
from oihedge.forecast.windows import training_batches, why_not_shared

pytestmark = QUIET


def stock(model: SharedTft, x, dtype=torch.float32):
    """Return what pytorch-forecasting's own class says with the same state_dict, and its gradients of the loss."""
    theirs = copy.deepcopy(model)
    theirs.__class__ = TemporalFusionTransformer
    theirs = theirs.to(dtype)
    x, (target, _) = to(x, dtype)
    torch.set_default_dtype(dtype)  # without a variable ahead it makes zeros of the default type
    try:
        said = theirs(x)["prediction"]
    finally:
        torch.set_default_dtype(torch.float32)
    said, target = (one if isinstance(one, list) else [one] for one in (said, target))
    loss = sum(QuantileLoss(LEVELS).loss(p, a).mean() for p, a in zip(said, target, strict=True))
    loss.backward()
    return torch.stack([one.detach() for one in said], 1), loss.detach(), gradients(theirs)


def nudged(batch, seed):
    """Return the batch with its inputs off by about their last bit."""
    x, target = batch
    draw = torch.Generator().manual_seed(seed)
    last_bit = {
        name: x[name] * (1 + torch.randn(x[name].shape, generator=draw) * 2**-23)
        for name in ("encoder_cont", "decoder_cont")
    }
    return {**x, **last_bit}, target


def to(value, dtype):
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: to(one, dtype) for name, one in value.items()}
    return type(value)(to(one, dtype) for one in value) if isinstance(value, list | tuple) else value


def everything(data):
    """Return the dataset's windows as one batch of its own loader, and their places in the tensors."""
    loader = data.to_dataloader(train=False, batch_size=len(data))
    return next(iter(loader)), data.index["index_start"].to_numpy(np.int64)


def ours(model, data, first, *, compiled, workers=1):
    rows, _ = Rows.of_dataset(data)
    cover = Cover(rows, first)
    model.zero_grad()
    total = sum(
        parallel_loss(fold(model), batch, [None] * workers, compiled=compiled) * batch.segments.offsets.numel()
        for batch in cover
    ) / len(first)  # fmt: skip
    total.backward()
    said = torch.cat(predict_in_parallel(fold(model), cover, workers, compiled=compiled))
    return said[cover.order], total.detach(), gradients(model)


SHAPES = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([4, 6, 16]),
        "hidden_continuous_size": st.sampled_from([2, 4, 8]),
        "attention_head_size": st.sampled_from([1, 2]),
        "lstm_layers": st.sampled_from([1, 1, 2]),
        "share_single_variable_networks": st.booleans(),
        "causal_attention": st.booleans(),
    }
)
INPUTS = st.fixed_dictionaries(
    {
        "shape": st.sampled_from([(7, 3), (2, 1), (5, 6)]),
        "assets": st.sampled_from([1, 3]),
        "known": st.sampled_from([0, 1, 5]),
        "targets": st.sampled_from([1, 2]),
        "static_reals": st.sampled_from([[], ["size"]]),
        "time_varying_known_categoricals": st.sampled_from([[], ["weekday"]]),
        "add_target_scales": st.booleans(),
    }
)


def same_as_stock(inputs, shape, compiled, seed, workers):
    data = dataset(**inputs)
    assert why_not_shared(data) is None
    model = network(data, seed, **shape)
    batch, first = everything(data)
    truth, true_loss, true_gradients = stock(model, batch, torch.float64)
    # A norm over two numbers that hardly differ multiplies any rounding; inputs off by their last bit tell how much.
    rounded = [stock(model, batch), *(stock(model, nudged(batch, n)) for n in range(3))]
    mine, loss, mine_gradients = ours(model, data, first, compiled=compiled, workers=workers)
    assert as_near(mine, [said for said, _, _ in rounded], truth), "forecasts"
    assert as_near(loss, [said for _, said, _ in rounded], true_loss), "loss"
    assert set(mine_gradients) == set(true_gradients)
    worst = max(float((one[n].double() - true_gradients[n]).abs().max()) for _, _, one in rounded for n in one)
    for name, gradient in mine_gradients.items():
        assert (gradient.double() - true_gradients[name]).abs().max() <= 8 * worst + 1e-6, name


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("inputs", "shape", "seed", "workers"), CORNERS.values(), ids=list(CORNERS))
def test_forecasts_and_gradients_are_the_stock_networks(inputs, shape, compiled, seed, workers):
    same_as_stock({**inputs, "hours": 30}, shape, compiled, seed, workers)


ANYTHING = (INPUTS, SHAPES, st.booleans(), st.integers(0, 3), st.sampled_from([1, 2]))
BRIEF = {"deadline": None, "derandomize": True, "phases": [Phase.explicit, Phase.generate]}


@pytest.mark.long
@settings(max_examples=60, **BRIEF)
@given(*ANYTHING)
def test_forecasts_and_gradients_of_any_network_are_the_stock_ones(inputs, shape, compiled, seed, workers):
    same_as_stock(inputs, shape, compiled, seed, workers)


def as_near(mine, rounded, truth) -> bool:
    """Whether we are as near to the float64 result as stock float32 is, give or take its own rounding."""
    error = max((theirs.double() - truth).abs().max() for theirs in rounded)
    return bool((mine.double() - truth).abs().max() <= 8 * error + 1e-6)


def test_in_float64_nothing_but_rounding_remains():
    data = dataset(static_reals=["size"], time_varying_known_categoricals=["weekday"])
    model = network(data)
    batch, first = everything(data)
    truth, _, true_gradients = stock(model, batch, torch.float64)
    rows, _ = Rows.of_dataset(data)
    double = Rows(
        rows.reals.double(), rows.categoricals, to(rows.targets, torch.float64), rows.series, rows.shape,
        to(rows.scales, torch.float64),
    )  # fmt: skip
    cover, model = Cover(double, first), model.double()
    said = torch.cat(predict_in_parallel(fold(model), cover, 1, compiled=True))[cover.order]
    torch.testing.assert_close(said, truth, rtol=0, atol=1e-10)
    for part in cover:
        loss = parallel_loss(fold(model), part, [None], compiled=False)
        (loss * part.segments.offsets.numel() / len(first)).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, true_gradients[name], rtol=0, atol=1e-10)


def test_dropout_drops_its_share_by_seed_and_gives_the_gradient_of_what_it_kept():
    module, x = torch.nn.Dropout(0.3), torch.ones(200_000, requires_grad=True)
    for compiled in (True, False):
        out = Dropper(seed=5, compiled=compiled)(x, module)
        assert torch.equal(out, Dropper(seed=5, compiled=compiled)(x, module))
        assert not torch.equal(out, Dropper(seed=6, compiled=compiled)(x, module))
        (gradient,) = torch.autograd.grad(out.sum(), x)
        out = out.detach()
        assert torch.equal(gradient, out)
        assert abs(float((out == 0).float().mean()) - 0.3) < 0.01
        assert abs(float(out.mean()) - 1) < 0.01
    drop = Dropper(seed=5)
    assert not torch.equal(drop(x, module), drop(x, module))
    assert Dropper()(x, module) is x


def test_what_was_folded_once_is_folded_anew_as_soon_as_a_weight_is_written():
    data = dataset(assets=1)
    model, (rows, first) = network(data), Rows.of_dataset(data)
    before = forecast_windows(model, rows, first[:2])
    assert folded_once(model) is folded_once(model)
    assert np.array_equal(before, forecast_windows(model, rows, first[:2]))
    fresh = network(data, seed=9)
    model.load_state_dict(fresh.state_dict())
    assert np.array_equal(forecast_windows(model, rows, first[:2]), forecast_windows(fresh, rows, first[:2]))
    with torch.no_grad():
        model.output_layer[0].bias.add_(1.0)
    assert not np.array_equal(forecast_windows(model, rows, first[:2]), forecast_windows(fresh, rows, first[:2]))
    told = forecast_windows(model, rows, first[:2])
    with in_one_piece(model):  # a step writes into the one piece, and leaves no mark on its parts
        assert np.allclose(forecast_windows(model, rows, first[:2]), told, rtol=0, atol=1e-5)
        with torch.no_grad():
            model.one_piece.whole.add_(0.1)
        assert not np.allclose(forecast_windows(model, rows, first[:2]), told, rtol=0, atol=1e-3)
    assert not np.allclose(forecast_windows(model, rows, first[:2]), told, rtol=0, atol=1e-3)


def test_a_batch_gives_the_same_whatever_is_called_before_and_however_often():
    data = dataset()
    model = network(data).train()
    batch = next(iter(training_batches(data, batch_size=8, windows=4, stride=2)))
    losses = [float(parallel_loss(fold(model), batch, [1, 2], compiled=True).detach()) for _ in range(3)]
    assert len(set(losses)) == 1
    assert losses[0] != float(parallel_loss(fold(model), batch, [1, 3], compiled=True).detach())
