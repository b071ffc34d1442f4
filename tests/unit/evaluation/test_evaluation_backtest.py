from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.errors import DataError, SchemaError
from oihedge.evaluation.backtest import backtest
from oihedge.evaluation.settings import Costs

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
COSTS = Costs(taker_fee=0.001, slippage=0.0005)
FREE = Costs(taker_fee=0.0, slippage=0.0)
BEFORE = START - 24 * HOUR


def prices(spot, perp=None, asset="BTC") -> pl.DataFrame:
    rows = {"ts": [START + n * HOUR for n in range(len(spot))], "spot_open": spot, "perp_open": perp or spot}
    return pl.DataFrame(rows, schema_overrides={"spot_open": pl.Float64, "perp_open": pl.Float64}).select(
        pl.lit(asset).alias("asset"), "ts", "spot_open", "perp_open"
    )


def decisions(*rows, asset="BTC") -> pl.DataFrame:
    schema = {"asset": pl.String(), "decided_at": pl.Datetime("us", "UTC"), "ratio": pl.Float64()}
    return pl.DataFrame([(asset, at, ratio) for at, ratio in rows], schema=schema, orient="row")


def payments(*rows, asset="BTC") -> pl.DataFrame:
    schema = {"asset": pl.String(), "ts": pl.Datetime("us", "UTC"), "rate": pl.Float64()}
    return pl.DataFrame([(asset, at, rate) for at, rate in rows], schema=schema, orient="row")


def run(ratios, market, *, funding=None, holdings=None, costs=COSTS, hours=None, latency_s=60.0, cash=0.0):
    end = START + HOUR * (hours or market["ts"].n_unique() - 1)
    funding = payments() if funding is None else funding
    return backtest(
        ratios, market, funding, holdings or {"BTC": 2.0}, costs, start=START, end=end, latency_s=latency_s, cash=cash
    )


def test_two_bars_by_hand_fee_slippage_and_funding_received_by_the_short():
    # 2 coins; a half hedge shorts 1 coin at 101: traded 101, cost 101 x 0.0015. Then spot +10, perp +9, and the
    # payment at the end of the hour gives 1 x 110 x 0.0002 to the short.
    ran = run(decisions((BEFORE, 0.5)), prices([100, 110, 110], [101, 110, 112]),
              funding=payments((START, 0.01), (START + HOUR, 0.0002)))  # fmt: skip
    first, second = ran.nav.to_dicts()
    assert first["cost"] == pytest.approx(101 * 0.0015 / 200)
    assert first["funding"] == pytest.approx(0.022 / 200)
    assert first["nav"] == pytest.approx(200 + 20 - 9 - 0.1515 + 0.022)
    assert first["ts"] == START + HOUR
    assert second["nav"] == pytest.approx(first["nav"] - 2)
    assert (second["cost"], second["turnover"], second["funding"]) == (0, 0, 0)
    assert ran.metrics()["mean_ratio"] == pytest.approx(0.5)


@pytest.mark.parametrize(("rate", "sign"), [(0.001, 1), (-0.001, -1)])
def test_a_short_receives_positive_and_pays_negative_funding(rate, sign):
    ran = run(decisions((BEFORE, 1.0)), prices([100, 100]), funding=payments((START + HOUR, rate)), costs=FREE)
    assert ran.metrics()["funding"] == pytest.approx(sign * 0.001)
    assert ran.metrics()["net_return"] == pytest.approx(sign * 0.001)


def test_funding_goes_to_the_position_held_across_it_not_to_the_one_opened_at_it():
    late = decisions((START + 0.5 * HOUR, 1.0))
    at_fill = run(late, prices([100, 100, 100]), funding=payments((START + HOUR, 0.001)), costs=FREE)
    after = run(late, prices([100, 100, 100]), funding=payments((START + 2 * HOUR, 0.001)), costs=FREE)
    assert at_fill.metrics()["funding"] == 0
    assert after.metrics()["funding"] == pytest.approx(0.001)


def test_a_funding_stamp_late_by_milliseconds_counts_for_its_minute():
    late = payments((START + HOUR + timedelta(milliseconds=7), 0.001))
    ran = run(decisions((BEFORE, 1.0)), prices([100, 100, 100]), funding=late, costs=FREE)
    assert ran.nav["funding"].to_list() == pytest.approx([0.001, 0])


def test_a_full_hedge_of_identical_prices_loses_its_cost_and_nothing_else():
    rng = np.random.default_rng(1)
    market = prices(list(100 * np.exp(np.cumsum(rng.normal(size=200) * 0.02))))
    ran = run(decisions((BEFORE, 1.0)), market)
    entry = 2 * market["perp_open"][0] * 0.0015
    assert ran.nav["nav"].to_numpy() == pytest.approx(2 * market["spot_open"][0] - entry)
    assert ran.nav["ret"][1:].abs().max() < 1e-12


def test_a_return_is_the_sum_of_its_parts():
    rng = np.random.default_rng(2)
    market = prices(*(list(100 + np.cumsum(rng.normal(size=50))) for _ in range(2)))
    changes = decisions(*((START + n * 5 * HOUR, n / 10) for n in range(9)))
    paid = payments(*((START + n * 8 * HOUR, 1e-4) for n in range(6)))
    nav = run(changes, market, funding=paid, cash=30.0).nav
    parts = nav["spot_ret"] + nav["hedge_ret"] + nav["funding"] - nav["cost"]
    assert nav["ret"].to_numpy() == pytest.approx(parts.to_numpy(), abs=1e-15)
    assert nav["nav"][-1] == pytest.approx(
        (200 + 30 + 2 * (market["spot_open"][0] - 100)) * np.prod(1 + nav["ret"].to_numpy())
    )


@pytest.mark.parametrize(
    ("decided", "latency_s", "filled"),
    [
        (timedelta(0), 0.0, 0),
        (timedelta(0), 60.0, 1),
        (timedelta(minutes=59), 60.0, 1),
        (timedelta(minutes=59, seconds=1), 60.0, 2),
        (timedelta(hours=1), 3600.0, 2),
    ],
)
def test_a_decision_is_filled_at_the_first_open_after_its_latency_and_never_before(decided, latency_s, filled):
    ran = run(decisions((START + decided, 1.0)), prices([100] * 5), latency_s=latency_s)
    assert ran.assets["ratio"].to_list() == [0.0] * filled + [1.0] * (4 - filled)


def test_a_missing_bar_fills_nothing_and_is_valued_at_the_last_price():
    market = prices([100, 110, 120, 130]).filter(pl.col("ts") != START + HOUR)
    ran = run(decisions((START + 0.5 * HOUR, 1.0)), market, costs=FREE, hours=3)
    assert ran.assets["ratio"].to_list() == [0.0, 0.0, 1.0]
    assert ran.nav["nav"].to_list() == pytest.approx([200, 240, 240])


def test_null_keeps_the_position_and_nan_is_refused():
    kept = run(decisions((BEFORE, 0.4), (START + HOUR, None)), prices([100] * 5))
    assert set(kept.assets["ratio"]) == {0.4}
    with pytest.raises(DataError, match="NaN"):
        run(decisions((BEFORE, float("nan"))), prices([100] * 5))


def test_an_asset_without_a_decision_stays_unhedged_and_the_ratio_is_weighted_by_notional():
    both = pl.concat([prices([100] * 3), prices([50] * 3, asset="ETH")])
    ran = run(decisions((BEFORE, 1.0)), both, holdings={"BTC": 2.0, "ETH": 12.0}, costs=FREE)
    assert ran.metrics()["mean_ratio"] == pytest.approx(200 / 800)


def test_the_window_stops_at_the_newest_bar():
    assert run(decisions(), prices([100] * 5), hours=100).nav.height == 4


def test_bad_input_is_named():
    with pytest.raises(SchemaError, match="prices lack column 'perp_open'"):
        run(decisions(), prices([100] * 3).drop("perp_open"))
    with pytest.raises(SchemaError, match="hedge ratios lack column 'decided_at'"):
        run(decisions().drop("decided_at"), prices([100] * 3))
    with pytest.raises(DataError, match="no spot and perp opens of ETH"):
        run(decisions(), prices([100] * 3), holdings={"BTC": 1.0, "ETH": 1.0})
    with pytest.raises(DataError, match="no prices to backtest on"):
        run(decisions(), prices([100] * 3).clear(), hours=2)
    with pytest.raises(DataError, match="fell to zero"):
        run(decisions((BEFORE, 2.0)), prices([100, 250, 250]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), at=st.integers(1, 38))
def test_changing_prices_and_funding_after_an_instant_leaves_the_nav_up_to_it(seed, at):
    rng = np.random.default_rng(seed)
    market = prices(*(list(100 + rng.uniform(-5, 5, 40)) for _ in range(2)))
    changes = decisions(
        *((START + float(hour) * HOUR, float(ratio)) for hour, ratio in rng.uniform(0, 1, (12, 2)) * [40, 1])
    )
    paid = payments(*((START + n * HOUR, 1e-3) for n in range(0, 40, 4)))
    after = pl.col("ts") > START + at * HOUR
    shaken = market.with_columns(pl.when(after).then(pl.col(name) * 1.3).otherwise(pl.col(name)).alias(name)
                                 for name in ("spot_open", "perp_open"))  # fmt: skip
    other = paid.with_columns(pl.when(after).then(0.02).otherwise(pl.col("rate")).alias("rate"))
    one, two = run(changes, market, funding=paid).nav, run(changes, shaken, funding=other).nav
    assert one["nav"][:at].to_list() == two["nav"][:at].to_list()
    assert one["nav"][at] != two["nav"][at]
