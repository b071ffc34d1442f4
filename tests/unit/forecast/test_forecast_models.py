"""Every model behind `forecast.model`, by the same rules."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from oihedge.config import load as load_config
from oihedge.core.errors import DataError, ModelError, SchemaError
from oihedge.forecast.artifact import read_artifact, write_artifact
from oihedge.forecast.fit import fit
from oihedge.forecast.frames import at_horizon
from oihedge.forecast.kinds import CLOSED_FORM, LEARNED, network_class
from oihedge.forecast.load import load
from oihedge.forecast.panel import build_panel

HOUR = timedelta(hours=1)
SHAPE = (8, 4)
UNKNOWN = ("log_return", "log_oi", "volatility")
STORED = Path(__file__).parent / "stored"
TARGETS, LEVELS = ("log_return", "log_oi"), (0.1, 0.5, 0.9)

each_kind = pytest.mark.parametrize("kind", [*LEARNED, *CLOSED_FORM])
each_learned = pytest.mark.parametrize("kind", LEARNED)


def numbers(frame):
    return frame.drop("asset", "ts").to_numpy()


def agree(one, other):
    assert one.select("asset", "ts", "step").equals(other.select("asset", "ts", "step"))
    np.testing.assert_allclose(numbers(one), numbers(other), rtol=0, atol=1e-6)


def weights(model):
    return model.network.state_dict()


def quantile_loss(forecast, features):
    """Return the mean pinball loss per level over all targets and steps, in units of each target's spread."""
    actual = features.select("asset", "ts", *TARGETS)
    joined = forecast.with_columns(ahead=pl.col("ts") + HOUR * pl.col("step")).join(
        actual, left_on=["asset", "ahead"], right_on=["asset", "ts"]
    )
    losses = []
    for target in TARGETS:
        spread = actual[target].std()
        for level in LEVELS:
            miss = (joined[target] - joined[f"{target}_q{100 * level:02.0f}"]).to_numpy() / spread
            losses.append(np.maximum(level * miss, (level - 1) * miss).mean())
    return float(np.mean(losses))


@each_kind
def test_a_saved_model_forecasts_what_the_trainer_did(fitted, kind, features, tmp_path):
    model = fitted(kind)
    model.save(tmp_path / "first")
    loaded = load(tmp_path / "first")
    assert (model.kind, loaded.kind) == (kind, kind)
    agree(loaded.predict(features), model.predict(features))
    loaded.save(tmp_path / "again")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("kind", ["tft", "persistence"])
def test_a_model_stored_by_release_0_1_forecasts_as_it_did(kind, features):
    """What release 0.1 saved and forecast is kept under stored/."""
    expected = pl.read_csv(STORED / f"{kind}.csv")
    forecast = load(STORED / kind).predict(features, [features["ts"][600]])
    assert forecast.drop("ts").columns == expected.columns
    assert forecast["asset"].to_list() == expected["asset"].to_list()
    np.testing.assert_allclose(numbers(forecast), expected.drop("asset").to_numpy(), rtol=0, atol=1e-6)


@each_kind
def test_every_model_forecasts_the_same_instants(fitted, kind, features):
    holed = features.filter((pl.col("asset") != "ETH") | (pl.col("ts") != features["ts"][500]))
    holed = holed.with_columns(volatility=pl.when(pl.col("ts") != features["ts"][300]).then("volatility"))
    told, theirs = (fitted(name).predict(holed).select("asset", "ts", "step") for name in (kind, "tft"))
    assert told.equals(theirs)
    assert told.height == 4 * (2 * (720 - 8 + 1 - 4) - 2 * 8 - (8 + 4))


@each_kind
def test_rows_after_the_instant_change_nothing(fitted, kind, features):
    at = features["ts"][650]
    spoiled = features.with_columns(
        pl.when(pl.col("ts") > at).then(pl.col(name) * -9 + 1).otherwise(name).alias(name) for name in UNKNOWN
    )
    empty = features.with_columns(pl.when(pl.col("ts") <= at).then(name).alias(name) for name in UNKNOWN)
    truth = fitted(kind).predict(features, [at])
    for other in (spoiled, empty.filter(pl.col("ts") <= at + SHAPE[1] * HOUR)):
        agree(fitted(kind).predict(other, [at]), truth)


@each_kind
def test_rows_before_the_encoder_change_nothing(fitted, kind, features):
    at = features["ts"][650]
    recent = features.filter(pl.col("ts") > at - SHAPE[0] * HOUR)
    agree(fitted(kind).predict(recent, [at]), fitted(kind).predict(features, [at]))


@pytest.mark.parametrize("kind", ["lstm", "cnn_lstm", "linear"])
def test_the_rows_it_may_read_do_change_a_forecast(fitted, kind, features):
    at = features["ts"][650]
    truth = fitted(kind).predict(features, [at])
    for moment in (at, *([at - 7 * HOUR] if kind != "linear" else [])):
        moved = features.with_columns(volatility=pl.col("volatility") + 0.01 * (pl.col("ts") == moment))
        assert not np.array_equal(numbers(fitted(kind).predict(moved, [at])), numbers(truth))
    later = features.with_columns(hour_sin=pl.col("hour_sin") + 1.0 * (pl.col("ts") == at + 2 * HOUR))
    assert not np.array_equal(numbers(fitted(kind).predict(later, [at])), numbers(truth))


@each_kind
def test_one_by_one_equals_bulk(fitted, kind, features):
    bulk = fitted(kind).predict(features).filter(pl.col("ts") >= features["ts"][700])
    ones = [fitted(kind).predict(features, [at]) for at in bulk["ts"].unique().sort()]
    agree(pl.concat(ones).sort("asset", "ts", "step"), bulk)


@each_kind
def test_fit_reads_nothing_after_the_calibration_end(fitted, kind, features, roles, settings, window):
    later = features.with_columns(
        pl.when(pl.col("ts") > window["calibration_end"]).then(pl.col(name) * 7 + 1).otherwise(name).alias(name)
        for name in UNKNOWN
    )
    other = fit(later, roles, settings(model=kind), **window)
    at = [features["ts"][600]]
    assert other.predict(features, at).equals(fitted(kind).predict(features, at))


@each_learned
def test_two_fits_give_the_same_weights(fitted, kind, features, roles, settings, window):
    torch.manual_seed(99)  # whatever was drawn before
    again = fit(features, roles, settings(model=kind), **window)
    for name, value in weights(again).items():
        assert torch.equal(value, weights(fitted(kind))[name]), name
    assert again.calibration == fitted(kind).calibration


@each_learned
def test_another_seed_gives_other_weights(fitted, kind, features, roles, settings, window):
    other = fit(features, roles, settings(model=kind, seed=4, max_epochs=1, max_steps_per_epoch=1), **window)
    layer = "output_layer.0.weight"
    assert not torch.equal(weights(other)[layer], weights(fitted(kind))[layer])


@pytest.mark.parametrize("kind", ["lstm", "cnn_lstm", "linear"])
def test_one_asset_alone_trains(kind, features, roles, settings, window, tmp_path):
    one = features.filter(pl.col("asset") == "BTC")
    model = fit(one, roles, settings(model=kind, max_epochs=1), **window)
    model.save(tmp_path)
    agree(load(tmp_path).predict(one), model.predict(one))


@pytest.mark.parametrize("kind", ["lstm", "cnn_lstm", "linear"])
def test_assets_are_told_apart(fitted, kind, features):
    """The same hours under the other asset's name, scaled alike, are forecast otherwise."""
    network, hours = fitted(kind).network.eval(), torch.zeros(1, SHAPE[0], 5)
    ahead, codes = torch.zeros(1, SHAPE[1], 2), torch.zeros(1, SHAPE[1], 2, dtype=torch.long)
    said = [network(hours, ahead, torch.tensor([code]), codes)[0] for code in (0, 1)]
    assert not torch.equal(*said)


@each_learned
def test_training_starts_from_the_training_rows_quantiles(kind, fitted, features, roles, settings, window):
    model = fit(features, roles, settings(model=kind, learning_rate=1e-9, max_epochs=1), **window)
    panel = build_panel(features, model.scalers.columns, model.scalers.assets)
    quantiles = model.quantiles(panel, np.arange(100, 200))
    past = features.filter(pl.col("ts") <= window["train_end"])["log_oi"]
    middle = np.median(quantiles[:, 1], axis=(0, 1))
    np.testing.assert_allclose(middle, np.quantile(past, LEVELS), atol=0.4 * past.std())


@each_learned
def test_what_can_be_foretold_is_foretold_better_than_by_climatology(kind, roles, settings, window):
    rng, hours = np.random.default_rng(5), 720
    frames = []
    for asset in ("BTC", "ETH"):
        signal = np.zeros(hours)
        for t in range(1, hours):
            signal[t] = 0.95 * signal[t - 1] + 0.3 * rng.normal()
        foretold = np.r_[0, signal[:-1]]
        angle = 2 * np.pi * (np.arange(hours) % 24) / 24
        frames.append(
            pl.DataFrame({
                "asset": asset, "ts": [window["train_start"] + HOUR * k for k in range(hours)],
                "hour_sin": np.sin(angle), "hour_cos": np.cos(angle),
                "log_return": 0.01 * foretold + 0.003 * rng.normal(size=hours),
                "log_oi": 0.01 * rng.normal(size=hours), "volatility": signal,
            })
        )  # fmt: skip
    panel = pl.concat(frames).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    unseen = panel.filter(pl.col("ts") > window["calibration_end"] - SHAPE[0] * HOUR)
    more = {"max_epochs": 3, "max_steps_per_epoch": 40, "learning_rate": 0.03, "hidden_size": 8, "dropout": 0.0}
    losses = {
        name: quantile_loss(fit(panel, roles, settings(model=name, **more), **window).predict(unseen), panel)
        for name in (kind, "climatology")
    }
    assert losses[kind] < 0.9 * losses["climatology"]


def test_climatology_says_what_the_hour_of_the_week_brought(roles, settings, window):
    hours = 24 * 7 * 70
    window = {"train_start": window["train_start"], "train_end": window["train_start"] + HOUR * (hours - 200),
              "calibration_end": window["train_start"] + HOUR * (hours - 1)}  # fmt: skip
    features = pl.DataFrame({"ts": [window["train_start"] + HOUR * k for k in range(hours)]}).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")), asset=pl.lit("BTC"), hour_sin=0.0, hour_cos=0.0, volatility=0.0,
        log_return=pl.Series(np.random.default_rng(2).normal(size=hours)),
        log_oi=pl.Series(np.random.default_rng(3).normal(size=hours) / 1000),
    )  # fmt: skip
    monday_noon = (pl.col("ts").dt.weekday() == 1) & (pl.col("ts").dt.hour() == 12)
    features = features.with_columns(log_return=pl.when(monday_noon).then(0.5 + pl.col("log_return")).otherwise(0.0))
    model = fit(features, roles, settings(model="climatology"), **window)
    noons = features.filter(monday_noon, pl.col("ts") <= window["train_end"])
    before = features.filter(monday_noon, pl.col("ts") > window["train_end"])["ts"][0] - 2 * HOUR
    forecast = model.predict(features, [before])
    np.testing.assert_allclose(
        forecast.filter(pl.col("step") == 2).select(pl.col("^log_return_q.*$")).row(0),
        np.quantile(noons["log_return"], LEVELS),
    )
    assert forecast.filter(pl.col("step") != 2)["log_return_q90"].to_list() == [0.0] * 3


def test_climatology_falls_back_to_coarser_cells(fitted, settings, features, roles, window):
    """20 days hold 20 rows of each hour of the day: too few for a 10 % quantile, so that all hours speak."""
    short = fitted("climatology")
    assert np.ptp(short.quantiles, axis=1).max() == 0
    past = features.filter(pl.col("asset") == "BTC", pl.col("ts") <= window["train_end"])["log_return"]
    np.testing.assert_allclose(short.quantiles[0, 0, 0], np.quantile(past, LEVELS))
    wide = fit(features, roles, settings(model="climatology", quantiles=(0.3, 0.5, 0.7)), **window)
    assert len(np.unique(wide.quantiles[0, :, 0, 0])) == 24


def test_climatologys_share_of_unwinds_is_counted_by_hour_where_there_are_enough(features, roles, settings, window):
    at_six = features.with_columns(log_oi=pl.when(pl.col("ts").dt.hour() == 6).then(-0.06).otherwise(0.001))
    model = fit(at_six, roles, settings(model="climatology", drop=0.05), **window)
    rates = model.rates[0]
    assert np.ptp(rates) == 0  # 20 days hold 20 unwinds of an hour of the day: fewer than are needed
    assert rates[0] == pytest.approx(4 / 24, abs=0.02)


@each_kind
def test_columns_in_another_order_change_nothing(fitted, kind, features):
    shuffled = features.select(*reversed(features.columns)).sample(fraction=1.0, shuffle=True, seed=1)
    agree(fitted(kind).predict(shuffled), fitted(kind).predict(features))


@each_kind
def test_what_cannot_be_forecast_is_named(fitted, kind, features):
    model, at = fitted(kind), features["ts"][600]
    with pytest.raises(DataError, match="asset 'SOL' was not in the training rows"):
        model.predict(features.with_columns(asset=pl.lit("SOL")).unique("ts"), [at])
    with pytest.raises(SchemaError, match="lack column 'volatility'"):
        model.predict(features.drop("volatility"), [at])
    for bad in (float("nan"), float("inf")):
        spoiled = features.with_columns(volatility=pl.when(pl.col("ts") != at).then("volatility").otherwise(bad))
        with pytest.raises(DataError, match="no value of volatility for BTC at 2025-01-26T00:00:00Z"):
            model.predict(spoiled, [at])
    with pytest.raises(DataError, match="got 3 unbroken rows of BTC"):
        model.predict(features.filter(pl.col("ts") > at - 3 * HOUR), [at])


@each_kind
def test_a_horizon_other_than_trained_is_refused(fitted, kind, features):
    forecast = fitted(kind).predict(features, [features["ts"][600]])
    assert at_horizon(forecast, SHAPE[1])["step"].to_list() == [4, 4]
    for horizon in (3, 5):
        with pytest.raises(ModelError, match=f"another horizon; expected {horizon} h ahead.*; got 4 h; retrain"):
            at_horizon(forecast, horizon)


@each_kind
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_are_refused_in_training(kind, bad, features, roles, settings, window):
    spoiled = features.with_columns(
        volatility=pl.when((pl.col("asset") == "ETH") & (pl.col("ts") == features["ts"][99]))
        .then(bad)
        .otherwise("volatility")
    )
    with pytest.raises(DataError, match="'volatility' of ETH is NaN or infinite at 2025-01-05"):
        fit(spoiled, roles, settings(model=kind), **window)


@each_learned
def test_a_constant_target_is_refused(kind, features, roles, settings, window):
    still = features.with_columns(log_oi=pl.when(pl.col("asset") == "ETH").then(0.0).otherwise("log_oi"))
    with pytest.raises(DataError, match="target log_oi of ETH is constant"):
        fit(still, roles, settings(model=kind), **window)


@each_learned
def test_a_series_shorter_than_the_window_is_named(kind, features, roles, settings, window):
    every_tenth = (pl.col("asset") == "ETH") & (pl.col("ts").dt.epoch("s") // 3600 % 10 == 0)
    holed = features.with_columns(volatility=pl.when(~every_tenth).then("volatility"))
    with pytest.raises(
        DataError, match=r"ETH has no whole window.*12 unbroken.*at most 9; 'volatility' is missing most"
    ):
        fit(holed, roles, settings(model=kind), **window)


def test_out_of_memory_tells_what_to_lower(features, roles, settings, window):
    """No machine holds an LSTM of this size, whatever it overcommits; no setting may ask for one."""
    with pytest.raises(
        ModelError, match=r"training lstm on \d+ windows, 16 a step.*lower forecast\.batch_size"
    ) as told:
        fit(features, roles, settings(model="lstm").model_copy(update={"hidden_size": 20_000_000}), **window)
    assert "memory" in told.value.got


def test_an_error_that_is_not_of_memory_stays_what_it_is(features, roles, settings, window):
    def broken(epoch, metrics):
        raise RuntimeError("the reporter broke")

    with pytest.raises(RuntimeError, match="the reporter broke"):
        fit(features, roles, settings(model="linear"), report=broken, **window)


@each_learned
def test_a_warm_start_goes_on_from_the_earlier_weights(fitted, kind, features, roles, settings, window, tmp_path):
    fitted(kind).save(tmp_path)
    still = settings(model=kind, learning_rate=1e-12, max_epochs=1, max_steps_per_epoch=1)
    warm = fit(features, roles, still, start_from=load(tmp_path), **window)
    assert warm.facts["warm_start"] == "yes"
    for name, value in weights(warm).items():
        torch.testing.assert_close(value, weights(fitted(kind))[name], rtol=0, atol=1e-6)
    fresh = fit(features, roles, still, **window)
    assert fresh.facts["warm_start"] == "no: no model was given"
    assert not torch.allclose(weights(fresh)["output_layer.0.weight"], weights(warm)["output_layer.0.weight"])


@pytest.mark.parametrize(
    ("former", "changes", "words"),
    [
        ("persistence", {}, "no: the earlier model is persistence, this one lstm"),
        ("cnn_lstm", {}, "no: the earlier model is cnn_lstm, this one lstm"),
        ("lstm", {"hidden_size": 5}, "no: the earlier model's layers have other sizes"),
        ("lstm", {"quantiles": (0.2, 0.5, 0.9)}, "no: the earlier model has other quantiles"),
    ],
)
def test_weights_that_do_not_fit_are_not_taken(fitted, features, roles, settings, window, former, changes, words):
    told = settings(model="lstm", max_epochs=1, **changes)
    warm = fit(features, roles, told, start_from=fitted(former), **window)
    assert warm.facts["warm_start"] == words
    fresh = fit(features, roles, told, **window)
    assert all(torch.equal(value, weights(fresh)[name]) for name, value in weights(warm).items())


def test_weights_of_other_inputs_and_assets_are_not_taken(fitted, features, roles, settings, window):
    told = settings(model="lstm", max_epochs=1)
    renamed = features.with_columns(asset=pl.col("asset").replace("ETH", "SOL"))
    assert "other assets" in fit(renamed, roles, told, start_from=fitted("lstm"), **window).facts["warm_start"]
    swapped = type(roles)(unknown=("log_oi", "log_return", "volatility"))
    assert "other inputs" in fit(features, swapped, told, start_from=fitted("lstm"), **window).facts["warm_start"]


def test_weights_that_have_seen_what_is_held_back_are_not_taken(fitted, features, roles, settings, window, tmp_path):
    told = settings(model="lstm", max_epochs=1)
    earlier = {**window, "train_end": window["train_end"] - HOUR}
    warm = fit(features, roles, told, start_from=fitted("lstm"), **earlier)
    assert warm.facts["warm_start"] == "no: the earlier model has learnt from hours that are held back here"
    fresh = fit(features, roles, told, **earlier)
    assert all(torch.equal(value, weights(fresh)[name]) for name, value in weights(warm).items())
    older = replace(fitted("lstm"), learnt_until=None)
    assert "held back" in fit(features, roles, told, start_from=older, **window).facts["warm_start"]


@each_learned
def test_a_training_goes_on_from_its_checkpoint(fitted, kind, features, roles, settings, window, tmp_path):
    def broken(epoch, metrics):
        if epoch == 1:
            raise OSError("the store is gone")

    checkpoint = tmp_path / "training"
    with pytest.raises(OSError, match="the store is gone"):
        fit(features, roles, settings(model=kind), report=broken, checkpoint=checkpoint, **window)
    again = fit(features, roles, settings(model=kind), checkpoint=checkpoint, **window)
    assert again.facts["start"] == "resumed after 1 epochs"
    for name, value in weights(again).items():
        assert torch.equal(value, weights(fitted(kind))[name]), name


@each_learned
def test_a_description_that_makes_no_network_is_refused(kind):
    for stored in ({}, {"arguments": {}, "quantiles": [0.5]}, {"reals": 3}):
        with pytest.raises(ModelError, match="cannot be rebuilt"):
            network_class(kind).from_json(stored)


@each_learned
def test_parts_of_another_kind_are_refused(fitted, kind, tmp_path):
    fitted(kind).save(tmp_path)
    _, description, tensors = read_artifact(tmp_path)
    write_artifact(tmp_path, "linear" if kind != "linear" else "lstm", description, tensors)
    with pytest.raises(ModelError, match=r"cannot be rebuilt|bytes of weights|do not fit|lacks a part"):
        load(tmp_path)


@each_kind
def test_each_model_has_its_configuration(kind):
    assert load_config([f"forecast={kind}"]).forecast.model == kind


def test_a_setting_that_names_no_model_is_refused(settings):
    with pytest.raises(ValidationError, match="expected tft, lstm, cnn_lstm, linear, climatology or persistence"):
        settings(model="oracle")
