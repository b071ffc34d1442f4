"""Every raw table has its suite: good rows pass, each kind of bad row is kept out by its own reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from oihedge.core.tables import RAW_TABLES, UTC_TIME, Table
from oihedge.core.tables import table as table_named
from oihedge.quality import expectations
from oihedge.quality.measures import Around, checked_frame
from oihedge.quality.settings import Quality
from oihedge.quality.suites import rules
from oihedge.quality.verdict import judge

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = Quality(max_hourly_move=0.5, max_oi_jump=10.0, max_funding_rate=0.05, min_good_share=0.9)
pytestmark = pytest.mark.no_cover  # tracing every call of Great Expectations takes as long again
GOOD = {
    "venue": "bybit", "source": "a", "symbol": "X", "asset": "X", "name": "x", "kind": "perp", "timeframe": "1h",
    "measure": "accounts", "metric": "m", "option_type": "call", "rate": 0.01, "interval_h": 8.0, "delta": -0.5,
    "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "bid": 99.0, "ask": 100.0, "value": -5.0, "importance": 2,
    "pays_at": FIRST + 8 * HOUR, "expiry": FIRST + 24 * HOUR, "theta": -1.0,
}  # fmt: skip
EARLY = {"available_at": FIRST - HOUR}
CASES = [
    ("funding_now", "rate_extreme", {"rate": 0.2}),
    ("funding_now", "mark_price_not_positive", {"mark_price": 0.0}),
    ("funding_now", "paid_before_quoted", {"pays_at": FIRST - HOUR}),
    ("depth", "book_crossed", {"bid": 101.0}),
    ("depth", "bid_depth_shrinks", {"bid_usd_10": 2.0}),
    ("depth", "ask_usd_50_negative; ask_depth_shrinks", {"ask_usd_50": -1.0}),
    ("depth", "kind_unknown", {"kind": "mark"}),
    ("long_short", "measure_unknown", {"measure": "x"}),
    ("long_short", "ratio_negative", {"ratio": -0.1}),
    ("liquidations", "long_usd_negative", {"long_usd": -1.0}),
    ("liquidations", "off_grid", {"ts": FIRST + timedelta(minutes=7)}),
    ("implied_vol", "volatility_extreme", {"open": 55.0, "high": 55.0, "low": 55.0, "close": 55.0}),
    ("implied_vol", "high_below_low; open_above_high; close_above_high", {"high": 0.5}),
    ("option_chain", "option_type_unknown", {"option_type": "straddle"}),
    ("option_chain", "already_expired", {"expiry": FIRST - HOUR}),
    ("option_chain", "delta_out_of_range", {"delta": 1.5}),
    ("option_chain", "volatility_extreme", {"mark_iv": 55.0}),
    ("onchain", "value_not_finite", {"value": float("inf")}),
    ("onchain", "available_too_early", EARLY),
    ("sentiment", "value_missing", {"value": float("nan")}),
    ("events", "importance_unknown", {"importance": 9}),
    ("events", "name_missing", {"name": None}),
    ("open_interest", "from_the_future", {"ingested_at": FIRST - HOUR}),
    ("ohlcv", "from_the_future", {"ingested_at": FIRST + HOUR / 2}),
]


def row(spec: Table, **changed: object) -> pl.DataFrame:
    """One good row of any table, but for what is changed."""
    values = {
        name: GOOD.get(
            name, 1.0 if dtype.is_float() else FIRST if dtype == UTC_TIME else None if name == "filled" else "x"
        )
        for name, dtype in spec.columns.items()
    }
    stamps = {"available_at": FIRST + 2 * HOUR, "ingested_at": FIRST + 2 * HOUR}
    return pl.DataFrame([{**values, **stamps, **changed}], schema=spec.schema, orient="row")


@pytest.fixture(scope="module")
def judged() -> dict[tuple[str, str], list[str]]:
    """Judge, per table, one slice with a good row and a row for each case; every row is a series of its own."""
    out: dict[tuple[str, str], list[str]] = {}
    for spec in RAW_TABLES:
        mine = [("good", {})] + [(reason, changed) for table, reason, changed in CASES if table == spec.name]
        who = "venue" if "venue" in spec.columns else "source"
        rows = [row(spec, **{who: reason, **changed}) for reason, changed in mine]
        verdict = judge(spec.name, pl.concat(rows), LIMITS)
        out[spec.name, "good"] = verdict.good[who].to_list()
        for reason, _ in mine[1:]:
            out[spec.name, reason] = verdict.bad.filter(pl.col(who) == reason)["reason"].to_list()
    return out


@pytest.mark.parametrize("table", [spec.name for spec in RAW_TABLES])
def test_a_good_row_of_every_raw_table_goes_on(judged, table):
    assert judged[table, "good"] == ["good"]


@pytest.mark.parametrize(("table", "reason"), [(table, reason) for table, reason, _ in CASES])
def test_a_bad_row_is_kept_out_by_its_own_reason(judged, table, reason):
    assert judged[table, reason] == [reason]


@pytest.mark.parametrize("table", [spec.name for spec in RAW_TABLES])
def test_great_expectations_says_the_same_without_our_short_cuts(table):
    """Counts of every rule, as the vendor works them out by itself: in one pass, each expectation configured anew."""
    spec, listed = table_named(table), rules(table, LIMITS)
    mine = [changed for name, _, changed in CASES if name == table]
    frame, _ = checked_frame(pl.concat([row(spec), *(row(spec, **changed) for changed in mine)]), spec, listed, LIMITS,
                             Around())  # fmt: skip
    batch = expectations._batch_definition().get_batch(
        batch_parameters={"dataframe": expectations.as_pandas(frame.select(expectations.columns_of(frame, listed)))}
    )
    plain = batch.validate(expectations.suite(table, listed), result_format=expectations.COUNTS).results
    told = {
        result.expectation_config.meta["rule"]: (result.success, result.result["unexpected_count"]) for result in plain
    }
    assert any(count for _, count in told.values()) == bool(mine)
    found = expectations.validate(table, frame, listed)
    assert {one.rule.name: (one.passed, one.bad_count) for one in found} == told


@pytest.mark.parametrize("table", [spec.name for spec in RAW_TABLES])
def test_every_rule_has_a_name_of_its_own(table):
    names = [rule.name for rule in rules(table, LIMITS)]
    assert len(names) == len(set(names))


def test_an_event_may_be_known_before_it_happens():
    spec = table_named("events")
    announced = row(spec, available_at=FIRST - 1000 * HOUR, ingested_at=FIRST - 900 * HOUR)
    assert judge("events", announced, LIMITS).bad.is_empty()
