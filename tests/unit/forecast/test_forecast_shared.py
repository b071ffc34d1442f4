"""The shared path against pytorch-forecasting's own network: same function, same gradients, same state_dict."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data.encoders import EncoderNormalizer, GroupNormalizer, MultiNormalizer, NaNLabelEncoder
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from oihedge.forecast.folding import fold, folded_once
from oihedge.forecast.fused import Dropper
from oihedge.forecast.network import forecast_windows
from oihedge.forecast.one_piece import HELD_BY, in_one_piece
from oihedge.forecast.parallel import parallel_loss, predict_in_parallel
from oihedge.forecast.segments import Cover, Deck, Rows
from oihedge.forecast.tft import SharedTft
from oihedge.forecast.windows import training_batches, why_not_shared

LEVELS = [0.1, 0.5, 0.9]
pytestmark = [
    # Lightning's hint about modules among hyper-parameters: no checkpoint of its kind is ever written
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
    # pytorch-forecasting's normalisers with pandas 3
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
]


def frame(hours: int = 60, assets: int = 3, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"v{i}" for i in range(5)]
    parts = [
        pd.DataFrame(rng.normal(size=(hours, 5)), columns=names).assign(
            asset=f"A{n}", hour=np.arange(hours), weekday=[str(k // 24 % 7) for k in range(hours)],
            size=float(n), y=rng.normal(size=hours) * 3 + n, z=rng.normal(size=hours),
        )
        for n in range(assets)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def dataset(shape=(7, 3), assets=3, known=2, targets=2, hours=60, **more) -> TimeSeriesDataSet:
    names = ["y", "z"][:targets]
    scale = more.pop("normalizer", GroupNormalizer)
    normalizer = [scale(groups=["asset"]) if scale is GroupNormalizer else scale() for _ in names]
    settings_ = {
        "static_categoricals": ["asset"] if assets > 1 else [],
        "time_varying_known_reals": [f"v{i}" for i in range(known)],
        "time_varying_unknown_reals": [f"v{i}" for i in range(known, 5)],
        "min_encoder_length": shape[0], "max_encoder_length": shape[0],
        "min_prediction_length": shape[1], "max_prediction_length": shape[1],
    } | more  # fmt: skip
    return TimeSeriesDataSet(
        frame(hours, assets), time_idx="hour", target=names if targets > 1 else names[0], group_ids=["asset"],
        target_normalizer=MultiNormalizer(normalizer) if targets > 1 else normalizer[0],
        categorical_encoders={"asset": NaNLabelEncoder(), "weekday": NaNLabelEncoder()}, **settings_,
    )  # fmt: skip


def network(data, seed=0, **more) -> SharedTft:
    torch.manual_seed(seed)
    losses = [QuantileLoss(LEVELS) for _ in data.target_names]
    arguments = {"hidden_size": 8, "hidden_continuous_size": 4, "attention_head_size": 2, "dropout": 0.1} | more
    made = SharedTft.from_dataset(
        data, loss=MultiLoss(losses) if len(losses) > 1 else losses[0], logging_metrics=torch.nn.ModuleList([]),
        log_interval=-1, **arguments,
    )  # fmt: skip
    with torch.no_grad():  # biases and norms start at 0 and 1, where a mistake in them would not show
        for one in made.parameters():
            one.add_(torch.randn_like(one) * 0.2)
    return made.eval()


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


def gradients(model):
    return {name: one.grad.detach().clone() for name, one in model.named_parameters() if one.grad is not None}


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
    said = torch.cat(predict_in_parallel(fold(model), list(cover), workers, compiled=compiled))
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


CORNERS = {
    "nothing known ahead": ({"assets": 1, "targets": 1, "known": 0}, {"attention_head_size": 1}, 0, 1),
    "everything known ahead": (
        {"assets": 1, "targets": 1, "known": 5, "shape": (2, 1)},
        {"attention_head_size": 1, "share_single_variable_networks": True}, 3, 2,
    ),
    "all there is": (
        {"static_reals": ["size"], "time_varying_known_categoricals": ["weekday"], "add_target_scales": True},
        {"hidden_size": 6, "lstm_layers": 2, "causal_attention": True}, 1, 2,
    ),
}  # fmt: skip


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
    said = torch.cat(predict_in_parallel(fold(model), list(cover), 1, compiled=True))[cover.order]
    torch.testing.assert_close(said, truth, rtol=0, atol=1e-10)
    assert len(list(cover)) == 1
    parallel_loss(fold(model), next(iter(cover)), [None], compiled=False).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, true_gradients[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"min_encoder_length": 3}, "encoder lengths vary"),
        ({"min_prediction_length": 1}, "prediction lengths vary"),
        ({"add_relative_time_idx": True}, "relative_time_idx"),
        ({"normalizer": EncoderNormalizer}, "each window's encoder"),
        ({"scalers": {"v3": EncoderNormalizer()}}, "each window's encoder"),
        ({"randomize_length": True, "min_encoder_length": 3}, "encoder lengths vary"),
        ({"allow_missing_timesteps": True}, "missing time steps"),
    ],
)
def test_where_windows_cannot_share_the_stock_path_trains_and_says_why(more, why):
    data = dataset(**more)
    with pytest.warns(UserWarning, match=why):
        batches = training_batches(data, batch_size=8)
    model = network(data)
    assert not isinstance(batches, Deck)
    x, y = next(iter(batches))
    prediction = model(x)["prediction"]
    assert torch.isfinite(model.loss(prediction, y))


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


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 7), st.integers(0, 5))
def test_a_deck_deals_every_window_and_none_that_is_not_there(lengths, windows, stride, seed):
    shape = (4, 2)
    starts = np.cumsum([0, *(n + sum(shape) - 1 for n in lengths)])
    first = np.concatenate([s + np.arange(n) for s, n in zip(starts[:-1], lengths, strict=True)])
    series = np.repeat(np.arange(len(lengths)), np.diff(starts))
    hours = torch.arange(int(starts[-1]), dtype=torch.float32)
    rows = Rows(hours[:, None], torch.zeros(len(hours), 0).long(), [hours], series, shape)
    deck = Deck(rows, first, segments=1, windows=windows, stride=stride, steps=None, seed=seed)
    dealt = []
    for _ in range(1 + (2 * len(first)) // (len(deck) * windows) + 2 * windows * stride * len(lengths)):
        for batch in deck:
            x = batch.segments
            begin = x.reals[0, x.offsets[0], 0].long()
            assert torch.equal(batch.targets[0], (begin[:, None] + torch.arange(4, 6)).float())
            assert len(np.unique(series[begin])) == 1
            dealt += begin.tolist()
    assert set(dealt) == set(first.tolist())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=80), st.integers(0, 3))
def test_a_cover_holds_what_is_asked_for_in_its_order(asked, seed):
    shape = (5, 3)
    hours = torch.arange(420, dtype=torch.float32)
    rows = Rows(hours[:, None], torch.zeros(420, 0).long(), [hours], np.repeat([0, 1], 210), shape)
    first = np.random.default_rng(seed).permutation(np.asarray(asked))
    cover = Cover(rows, first)
    came = []
    for batch in cover:
        x = batch.segments
        begin = x.reals[torch.arange(len(x.offsets))[:, None], x.offsets, 0].long()
        assert all(len(set(rows.series[one.numpy()].tolist())) == 1 for one in begin.reshape(len(begin), -1))
        came += begin.flatten().tolist()
    assert np.array_equal(np.asarray(came)[cover.order], first)


def trained(steps: int, *, compiled: bool) -> tuple[SharedTft, list[float]]:
    data = dataset(known=2)
    model, losses = network(data).train(), []
    deck = training_batches(data, batch_size=16, windows=4, stride=3)
    with in_one_piece(model):
        optimizer = torch.optim.Adam(model.trained(), lr=0.02)
        for step in range(steps):
            optimizer.zero_grad()
            found = parallel_loss(fold(model), next(iter(deck)), [step, step + 1], compiled=compiled)
            loss = model.one_piece.flat(found)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return model, losses


@pytest.mark.parametrize("compiled", [True, False])
def test_training_repeats_and_leaves_every_parameter_its_own_memory(compiled):
    model, losses = trained(8, compiled=compiled)
    again, repeated = trained(8, compiled=compiled)
    assert losses == repeated
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert len({one.untyped_storage().data_ptr() for one in model.parameters()}) == len(list(model.parameters()))


@pytest.mark.long
@pytest.mark.parametrize("compiled", [True, False])
def test_hundreds_of_steps_stay_finite_and_learn(compiled):
    _, losses = trained(400, compiled=compiled)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-50:]) < 0.95 * np.mean(losses[:50])


@pytest.mark.parametrize(("inputs", "shape", "seed", "workers"), CORNERS.values(), ids=list(CORNERS))
def test_parameters_in_one_piece_get_the_gradients_they_get_apart(inputs, shape, seed, workers):
    data = dataset(**inputs)
    model = network(data, seed=seed, **shape)
    batch = next(iter(training_batches(data, batch_size=8, windows=4, stride=2)))
    parallel_loss(fold(model), batch, [None] * workers, compiled=True).backward()
    apart = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    with in_one_piece(model):
        loss = parallel_loss(fold(model), batch, [None] * workers, compiled=True)
        assert model.one_piece.read  # some are read many at once
        model.one_piece.flat(loss).backward()
        (flat,) = model.trained()
    torch.testing.assert_close(flat.grad, apart, rtol=1e-5, atol=1e-6)


def test_what_a_network_reads_at_once_are_views_of_its_parameters():
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2) for name in "abcd"})
    layers = [model[name] for name in "abcd"]
    with in_one_piece(model):
        piece = model.__dict__[HELD_BY]
        every = piece.stacked([layer.weight for layer in layers])
        some = piece.stacked([layer.weight for layer in layers[1:3]])
        apart = piece.stacked([layers[0].bias, layers[1].bias, layers[3].bias])
        assert len(piece.read) == 2  # the third is no view
        assert torch.equal(every, torch.stack([layer.weight for layer in layers]))
        assert torch.equal(some, every[1:3])
        piece.flat(every.sum() + 2 * some.sum() + 3 * apart.sum() + 5 * layers[0].weight.sum()).backward()
        steps = [*[6.0] * 6, *[3.0] * 2, *[3.0] * 6, *[3.0] * 2, *[3.0] * 6, *[0.0] * 2, *[1.0] * 6, *[3.0] * 2]
        assert piece.whole.grad.tolist() == steps
        with torch.no_grad():
            piece.whole.add_(1.0)
        assert torch.equal(piece.stacked([layer.weight for layer in layers]), every + 1)
    assert HELD_BY not in model.__dict__


def test_gradients_of_what_is_read_many_times_add_up_as_they_do_apart():
    torch.manual_seed(0)
    parts = [torch.nn.Parameter(torch.randn(50)) for _ in range(4)]
    factors = torch.randn(5, 4, 50)

    def loss(stacked: Callable[[list[torch.Tensor]], torch.Tensor]) -> torch.Tensor:
        every = [(stacked(parts) * factor).sum() for factor in factors]
        return torch.stack([*every, stacked(parts[1:3]).pow(3).sum()]).sum()

    apart = torch.autograd.grad(loss(torch.stack), parts)
    with in_one_piece(model := torch.nn.ParameterList(parts)):
        piece = model.__dict__[HELD_BY]
        loss(piece.stacked)  # what comes to nothing leaves nothing
        for _ in range(2):
            piece.whole.grad = None
            piece.flat(loss(piece.stacked)).backward()
            assert torch.equal(piece.whole.grad, torch.cat(apart))
        with torch.no_grad():
            loss(piece.stacked)
        assert not piece.read
