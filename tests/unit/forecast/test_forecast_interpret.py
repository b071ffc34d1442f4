from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import torch

from oihedge.core.errors import DataError
from oihedge.forecast.blocks import cut_blocks
from oihedge.forecast.interpret import MOST_WINDOWS, interpret
from oihedge.forecast.windows import window_dataset

HOUR = timedelta(hours=1)


@pytest.fixture
def found(tft, features, window):
    return interpret(tft, features, after=window["train_end"])


def stock(model, features, roles, settings, window, *, after):
    """The same means by pytorch-forecasting alone: its dataset, loader, forward and interpretation, every window."""
    blocks = cut_blocks(features, roles, settings(), **window)
    inputs, targets = model.scalers.inputs(blocks.panel), model.scalers.scaled_targets(blocks.panel)
    dataset = window_dataset(blocks.panel, roles.known, inputs, targets, blocks.complete, model.shape)
    first = int(after.timestamp()) // 3600 + 1
    dataset = dataset.filter(lambda index: index["time_idx_first_prediction"] > first)
    (x, _) = next(iter(dataset.to_dataloader(train=False, batch_size=10_000, num_workers=0)))
    with torch.no_grad():
        out = model.network.eval().forward(x)
        said = [model.network.interpret_output(out, attention_prediction_horizon=step) for step in range(4)]
    attention = np.mean([one["attention"][:, :8].mean(dim=0).numpy() for one in said], axis=0)
    return len(x["encoder_cont"]), attention, {
        side: said[0][side].mean(dim=0).numpy() for side in ("encoder_variables", "decoder_variables")
    }  # fmt: skip


def test_shares_and_attention_sum_to_one_and_name_every_variable(found, roles):
    assert set(found.encoder) == {*roles.known, *roles.unknown}
    assert set(found.decoder) == set(roles.known)
    assert len(found.attention) == 8
    for shares in (found.encoder.values(), found.decoder.values(), found.attention):
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1)


def test_the_numbers_are_pytorch_forecastings_on_the_same_windows(tft, features, roles, settings, window):
    after = window["calibration_end"] - 30 * HOUR
    within = features.filter(pl.col("ts") <= window["calibration_end"])
    mine = interpret(tft, within, after=after)
    count, attention, shares = stock(tft, within, roles, settings, window, after=after)
    assert mine.windows == count == 2 * 26
    np.testing.assert_allclose(mine.attention[::-1], attention / attention.sum(), rtol=1e-5)
    for side, own in (("encoder_variables", mine.encoder), ("decoder_variables", mine.decoder)):
        np.testing.assert_allclose(list(own.values()), shares[side], rtol=1e-5)


def test_only_hours_after_the_given_one_are_looked_at_and_not_more_than_needed(found, window):
    assert found.first > window["train_end"]
    assert found.windows == MOST_WINDOWS


def test_what_came_before_the_windows_changes_nothing(tft, features, found, window):
    before = pl.col("ts") < window["train_end"] - 8 * HOUR
    spoiled = features.with_columns(pl.when(before).then(0.5).otherwise("volatility").alias("volatility"))
    assert interpret(tft, spoiled, after=window["train_end"]) == found
    seen = features.with_columns(pl.when(~before).then(0.5).otherwise("volatility").alias("volatility"))
    assert interpret(tft, seen, after=window["train_end"]) != found


def test_unknown_values_of_the_hours_ahead_may_be_missing(tft, features, roles, window):
    end = features["ts"].max() - 4 * HOUR
    blank = [pl.when(pl.col("ts") <= end).then(name).alias(name) for name in roles.unknown]
    whole, cut = (interpret(tft, rows, after=end - 2 * HOUR) for rows in (features, features.with_columns(blank)))
    assert cut == whole
    assert cut.windows == 4


def test_asking_leaves_the_model_as_it_was_and_out_of_training(tft, features, window):
    before = {name: value.clone() for name, value in tft.network.state_dict().items()}
    at = [features["ts"][600]]
    forecast = tft.predict(features, at)
    tft.network.train()
    interpret(tft, features, after=window["train_end"])
    assert not tft.network.training
    assert all(torch.equal(value, before[name]) for name, value in tft.network.state_dict().items())
    assert tft.predict(features, at).equals(forecast)


def test_a_model_without_attention_has_nothing_to_say(persistence, features, window):
    assert interpret(persistence, features, after=window["train_end"]) is None


def test_no_window_after_the_given_hour_is_an_error(tft, features):
    with pytest.raises(DataError, match="no window to interpret the model on"):
        interpret(tft, features, after=features["ts"].max())
