"""Which windows share a segment, in training and in forecasts, and where none can."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from fakes.tft_windows import QUIET, dataset, network
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_forecasting.data.encoders import EncoderNormalizer

from oihedge.forecast.folding import fold
from oihedge.forecast.parallel import predict_in_parallel
from oihedge.forecast.segments import Cover, Deck, Rows
from oihedge.forecast.windows import training_batches

pytestmark = QUIET


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


@pytest.mark.parametrize("workers", [1, 2])
def test_of_years_of_windows_a_forecast_holds_the_batches_at_work(workers):
    class Counted(Rows):
        alive, most = weakref.WeakSet(), 0

        def batch(self, begin, offsets):
            made = super().batch(begin, offsets)
            self.alive.add(made.segments.offsets)
            Counted.most = max(Counted.most, sum(one.numel() for one in self.alive))
            return made

    data = dataset(hours=900)
    plain, first = Rows.of_dataset(data)
    rows = Counted(plain.reals, plain.categoricals, plain.targets, plain.series, plain.shape, plain.scales)
    cover = Cover(rows, first)
    predict_in_parallel(fold(network(data)), cover, workers, compiled=False)
    assert len(cover) > 4
    assert 1 <= Counted.most <= 128
