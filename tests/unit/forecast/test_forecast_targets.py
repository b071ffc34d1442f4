from __future__ import annotations

import functools
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from oihedge.core.errors import DataError
from oihedge.forecast.fit import fit
from oihedge.forecast.interpret import interpret
from oihedge.forecast.kinds import network_class
from oihedge.forecast.load import load

HOUR = timedelta(hours=1)
TARGETS = ("log_return", "log_oi", "realised_downside", "hedge_ratio")
LEVELS = (0.1, 0.5, 0.9)
HORIZON = 72
FOUR = {"targets": TARGETS, "horizon_h": HORIZON, "calibration_stride_h": 4}
TFT, LSTM = (pytest.param(kind, marks=pytest.mark.long) for kind in ("tft", "lstm"))
"""Their fits at 72 hours take many times as long as all the others' together."""
KINDS = (TFT, LSTM, "linear", "climatology", "persistence")
RATIO = {"BTC": 0.98, "ETH": 0.7}


@pytest.fixture(scope="module")
def long_market(market):
    """Two assets whose hedge ratios lie far apart in units of their spread."""
    rng, level = np.random.default_rng(5), pl.col("asset").replace_strict(RATIO, return_dtype=pl.Float64)
    rows = market(1300)
    loss = pl.col("log_return").clip(upper_bound=0.0)
    downside = (loss * loss).rolling_mean(HORIZON, min_samples=1).sqrt().over("asset")
    return rows.with_columns(
        realised_downside=downside, hedge_ratio=level + pl.Series(0.01 * rng.normal(size=rows.height))
    )


@pytest.fixture(scope="module")
def span(long_market):
    start = long_market["ts"].min()
    return {"train_start": start, "train_end": start + HOUR * 900, "calibration_end": start + HOUR * 1220}


@pytest.fixture(scope="module")
def told(long_market, span, settings, roles):
    """Return the four-target model of a kind, fitted once, 72 h ahead."""
    return functools.cache(lambda kind: fit(long_market, roles, settings(model=kind, **FOUR), **span))


@pytest.fixture(scope="module")
def at(span):
    return [span["train_end"] + HOUR * k for k in (30, 31, 150)]


def spoiled(rows):
    return {name: pl.when(rows).then(5 * pl.col(name) + 1).otherwise(name) for name in TARGETS}


def quantiles(forecast, target):
    return forecast.select(f"{target}_q{100 * level:02.0f}" for level in LEVELS).to_numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_four_targets_are_forecast_72_hours_ahead(told, long_market, at, kind):
    forecast = told(kind).predict(long_market, at)
    assert forecast.columns[5:] == [f"{target}_q{100 * level:02.0f}" for target in TARGETS for level in LEVELS]
    assert forecast.height == len(RATIO) * len(at) * HORIZON
    assert forecast["step"].to_list()[:HORIZON] == list(range(1, HORIZON + 1))
    assert forecast["p_unwind"].is_between(0, 1).all()
    for target in TARGETS:
        values = quantiles(forecast, target)
        assert np.isfinite(values).all()
        assert (np.diff(values, axis=1) >= 0).all()


def test_no_quantile_of_the_downside_is_negative(told, long_market, at):
    """It is a root mean square. Hours without losses before them: straight on from there would be below 0."""
    calm = long_market.with_columns(pl.lit(0.0).alias("realised_downside"))
    forecast = told("persistence").predict(calm, at)
    assert quantiles(forecast, "realised_downside").min() == 0.0
    assert quantiles(forecast, "realised_downside").max() > 0.0
    assert (
        quantiles(forecast, "hedge_ratio").tolist()
        == quantiles(told("persistence").predict(long_market, at), "hedge_ratio").tolist()
    )


@pytest.mark.parametrize("kind", [TFT, "linear", "climatology", "persistence"])
def test_a_level_is_forecast_about_its_own_assets_mean(told, long_market, at, kind):
    forecast = told(kind).predict(long_market, at)
    for asset, level in RATIO.items():
        middle = forecast.filter(asset=asset)["hedge_ratio_q50"]
        assert middle.to_numpy() == pytest.approx(level, abs=0.05)


def test_persistence_goes_on_with_a_levels_newest_value(told, long_market, at):
    forecast = told("persistence").predict(long_market, at)
    newest = forecast.select("asset", "ts").join(long_market, on=["asset", "ts"], how="left", maintain_order="left")
    for target in TARGETS[2:]:
        assert forecast[f"{target}_q50"].to_list() == newest[target].to_list()
    assert forecast["log_oi_q50"].unique().to_list() == [0.0]


def test_counted_paths_and_unwinds_are_the_same_whatever_else_is_forecast(told, long_market, at, span, settings, roles):
    two = fit(long_market, roles, settings(model="climatology", horizon_h=HORIZON), **span)
    both = [model.predict(long_market, at) for model in (two, told("climatology"))]
    assert both[1].select(both[0].columns).equals(both[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_forecasts_its_own_targets(told, long_market, at, tmp_path, kind):
    told(kind).save(tmp_path)
    assert load(tmp_path).predict(long_market, at).equals(told(kind).predict(long_market, at))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_target_will_be_changes_no_forecast(told, long_market, at, kind):
    later = pl.col("ts") > at[-1]
    other = long_market.with_columns(**spoiled(later))
    assert told(kind).predict(other, at).equals(told(kind).predict(long_market, at))


@pytest.mark.parametrize("kind", ["linear", "climatology"])
def test_a_fit_reads_no_target_after_its_calibration(told, long_market, at, span, settings, roles, kind):
    later = pl.col("ts") > span["calibration_end"]
    other = long_market.with_columns(**spoiled(later))
    again = fit(other, roles, settings(model=kind, **FOUR), **span)
    assert again.predict(long_market, at).equals(told(kind).predict(long_market, at))


@pytest.mark.long
def test_the_network_can_be_asked_what_it_looks_at(told, long_market, span):
    found = interpret(told("tft"), long_market, after=span["calibration_end"] - HOUR * 8)
    assert set(TARGETS) < set(found.encoder)
    assert sum(found.encoder.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["linear", "climatology", "persistence"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_stands_still_is_refused_by_name(long_market, span, settings, roles, kind, target):
    """It may move again in the held-back tail: what a model learns from is constant all the same."""
    learnt = (pl.col("asset") == "ETH") & (pl.col("ts") < span["train_start"] + HOUR * 810)
    still = long_market.with_columns(pl.when(learnt).then(0.7).otherwise(target).alias(target))
    with pytest.raises(DataError, match=f"target {target} of ETH is constant over the training rows"):
        fit(still, roles, settings(model=kind, **FOUR), **span)


def test_weights_of_other_targets_are_not_taken(told, long_market, span, settings, roles):
    two = settings(model="linear", horizon_h=HORIZON, max_epochs=1)
    cold = fit(long_market, roles, two, start_from=told("linear"), **span)
    assert cold.facts["warm_start"] == "no: the earlier model has other targets"


def test_a_network_stored_without_a_number_of_targets_has_the_two(told):
    stored = told("linear").network.as_json()
    assert len(network_class("linear").from_json(stored).output_layer) == len(TARGETS)
    without = {name: value for name, value in stored.items() if name != "targets"}
    assert len(network_class("linear").from_json(without).output_layer) == 2
