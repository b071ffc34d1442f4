from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.evaluation.backtest import backtest
from oihedge.evaluation.settings import Baselines, Costs
from oihedge.evaluation.strategies import constant, mean_ratios, min_variance, rescaled, volatility_target

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FREE = Costs(taker_fee=0.0, slippage=0.0)
RULES = Baselines(window_h=48, rebalance_h=12, volatility_target=0.4, max_ratio=1.0)


def market(hours=200, seed=0, volatility=0.01, beta=0.5) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    perp = rng.normal(size=hours) * volatility
    at = [START + n * HOUR for n in range(hours)]
    columns = {"spot_open": 100 * np.exp(np.cumsum(beta * perp)), "perp_open": 100 * np.exp(np.cumsum(perp))}
    return pl.DataFrame({"asset": ["BTC"] * hours, "ts": at, **columns})


def no_payments() -> pl.DataFrame:
    return pl.DataFrame(schema={"asset": pl.String(), "ts": pl.Datetime("us", "UTC"), "rate": pl.Float64()})


def run(ratios, prices, start=START, end=START + 100 * HOUR):
    return backtest(ratios, prices, no_payments(), {"BTC": 1.0}, FREE, start=start, end=end, latency_s=0.0)


def test_minimum_variance_finds_the_beta_of_spot_on_perp():
    found = min_variance(market(beta=0.5), ["BTC"], RULES, START + 100 * HOUR, START + 150 * HOUR)
    assert found["ratio"].to_numpy() == pytest.approx(0.5)
    assert found["decided_at"][0] == START + 88 * HOUR
    assert found["decided_at"][-1] < START + 150 * HOUR


def test_volatility_target_leaves_the_target_unhedged():
    prices = market(beta=1.0, volatility=0.8 / np.sqrt(8760))
    found = volatility_target(prices, ["BTC"], RULES, START + 100 * HOUR, START + 190 * HOUR)
    assert found["ratio"].mean() == pytest.approx(0.5, abs=0.06)
    calm = market(beta=1.0, volatility=0.1 / np.sqrt(8760))
    assert (
        volatility_target(calm, ["BTC"], RULES, START + 100 * HOUR, START + 190 * HOUR)["ratio"].to_list() == [0.0] * 9
    )


@pytest.mark.parametrize("rule", [min_variance, volatility_target])
def test_a_moving_hedge_sees_only_bars_complete_at_its_decision(rule):
    prices, instant = market(), START + 124 * HOUR
    future = pl.col("ts") >= instant
    shaken = prices.with_columns(
        pl.when(future).then(pl.col("spot_open") * 3).otherwise(pl.col("spot_open")).alias("spot_open")
    )
    window = (["BTC"], RULES, START + 100 * HOUR, START + 190 * HOUR)
    early = [
        rule(frame, *window).filter(pl.col("decided_at") <= instant)["ratio"].to_list() for frame in (prices, shaken)
    ]
    assert early[0] == early[1]
    assert len(early[0]) == 4


def test_no_history_gives_no_decision():
    assert min_variance(market(), ["BTC"], RULES, START, START + 20 * HOUR).is_empty()


def pattern(ratios) -> pl.DataFrame:
    return pl.concat([constant({"BTC": ratio}, START + 10 * n * HOUR) for n, ratio in enumerate(ratios)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.4, 1.0]), min_size=2, max_size=9), st.floats(0.01, 0.99))
def test_rescaling_reaches_the_wanted_mean_within_the_cap(ratios, wanted):
    prices, decided = market(beta=1.0), pattern(ratios)
    again = run(rescaled(decided, run(decided, prices), {"BTC": wanted}, 1.0), prices)
    assert mean_ratios(again)["BTC"] == pytest.approx(wanted, abs=1e-9)
    assert again.assets["ratio"].max() <= 1 + 1e-12
    assert again.metrics()["mean_ratio"] == pytest.approx(wanted, abs=1e-9)


def test_rescaling_below_the_cap_is_a_plain_multiplication():
    prices, decided = market(beta=1.0), pattern([0.1, 0.3])
    ran = run(decided, prices)
    scaled = rescaled(decided, ran, {"BTC": mean_ratios(ran)["BTC"] * 2}, 1.0)
    assert scaled["ratio"].to_list() == pytest.approx([0.2, 0.6])


def test_a_hedge_that_never_hedges_becomes_the_constant_and_zero_stays_zero():
    prices, decided = market(), pattern([0.0, 0.0])
    ran = run(decided, prices)
    assert rescaled(decided, ran, {"BTC": 0.3}, 1.0)["ratio"].to_list() == [0.3]
    some = pattern([0.2, 0.4])
    assert rescaled(some, run(some, prices), {"BTC": 0.0}, 1.0)["ratio"].to_list() == [0.0, 0.0]
