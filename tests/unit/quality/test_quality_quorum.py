"""Venues against one another: who is set aside, when, and never because of what came later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.clock import TIMEFRAMES
from oihedge.core.tables import OHLCV, OPEN_INTEREST, UTC_TIME
from oihedge.quality.quorum import LOOKBACK, compare
from oihedge.quality.settings import Quality

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LENGTH = 120
LIMITS = Quality(max_hourly_move=0.5, max_oi_jump=10.0, max_funding_rate=0.05, min_good_share=0.9)


def market(venues="abcd", length=LENGTH, spec=OHLCV, seed=1, timeframe="1h") -> pl.DataFrame:
    """One asset on several venues: one path, each venue a little beside it; `n` counts the steps."""
    draw = np.random.default_rng(seed)
    path = np.cumsum(draw.normal(0, 0.005, length))
    level = 100 if spec is OHLCV else 5000
    frames = [
        pl.DataFrame({"value": level * np.exp(path + draw.normal(0, 0.0005, length)), "n": range(length)}).with_columns(
            venue=pl.lit(venue)
        )
        for venue in venues
    ]
    step = TIMEFRAMES[timeframe]
    ts = pl.lit(FIRST, UTC_TIME) + pl.col("n") * pl.lit(step)
    rows = pl.concat(frames).with_columns(symbol=pl.lit("X"), asset=pl.lit("X"), ts=ts, available_at=ts + step)
    rows = rows.with_columns(ingested_at=pl.col("available_at"))
    if spec is OHLCV:
        return rows.rename({"value": "close"}).with_columns(kind=pl.lit("perp"), timeframe=pl.lit(timeframe))
    return rows.rename({"value": "oi_base"})


def spoil(rows: pl.DataFrame, venue: str, hours: range, change: pl.Expr) -> pl.DataFrame:
    here = (pl.col("venue") == venue) & pl.col("n").is_between(hours.start, hours.stop - 1)
    value = "close" if "close" in rows.columns else "oi_base"
    return rows.with_columns(pl.when(here).then(change).otherwise(value).alias(value))


def measured(rows: pl.DataFrame, spec=OHLCV, around=None) -> pl.DataFrame:
    return pl.concat([rows, compare(rows, spec, LIMITS, around)[0]], how="horizontal")


def kept_out(rows: pl.DataFrame, spec=OHLCV, around=None) -> set[tuple[str, int]]:
    told = measured(rows, spec, around)
    bad = (pl.col("aside") >= 3) | (pl.col("apart") > 1) | (pl.col("frozen_h") >= LIMITS.frozen_h)
    return set(told.filter(bad.fill_null(False)).select("venue", "n").iter_rows())


@pytest.mark.parametrize("spec", [OHLCV, OPEN_INTEREST], ids=lambda spec: spec.name)
def test_venues_that_agree_are_left_alone(spec):
    assert kept_out(market(spec=spec), spec) == set()


def test_a_crash_that_all_venues_see_is_told_and_keeps_no_row_out():
    rows = market().with_columns(close=pl.when(pl.col("n") >= 100).then(pl.col("close") * 0.7).otherwise("close"))
    assert kept_out(rows) == set()
    assert set(measured(rows).filter(pl.col("return_z") < -20)["n"]) == {100}


def test_a_price_that_stays_away_from_the_others_is_set_aside_from_the_third_hour_until_it_returns():
    rows = spoil(market(), "b", range(100, 106), pl.col("close") * 1.03)
    assert kept_out(rows) == {("b", n) for n in (102, 103, 104, 105)}


def test_a_price_far_away_is_kept_out_at_once():
    assert kept_out(spoil(market(), "b", range(100, 101), pl.col("close") * 1.2)) == {("b", 100)}


def test_open_interest_that_leaves_the_others_is_kept_out_while_its_change_shows():
    rows = spoil(market(spec=OPEN_INTEREST), "c", range(100, LENGTH), pl.col("oi_base") * 2)
    assert kept_out(rows, OPEN_INTEREST) == {("c", 100), ("c", 101), ("c", 102)}


def test_a_venue_that_is_always_a_little_apart_agrees_in_its_own_way():
    assert kept_out(spoil(market(), "d", range(LENGTH), pl.col("close") * 1.05)) == set()


def test_a_frozen_feed_is_kept_out_from_the_sixth_equal_hour_while_the_others_move():
    stuck = market().filter(venue="a", n=100)["close"].item()
    rows = spoil(market(), "a", range(100, 110), pl.lit(stuck))
    told = measured(rows).filter(pl.col("frozen_h") >= LIMITS.frozen_h)
    assert set(told.select("venue", "n").iter_rows()) == {("a", n) for n in range(105, 110)}


def test_a_market_that_stands_still_is_not_frozen():
    rows = market().with_columns(close=pl.when(pl.col("n") >= 100).then(pl.lit(100.0)).otherwise("close"))
    assert measured(rows)["frozen_h"].max() == 0


def test_two_venues_are_no_majority_which_is_said_and_nothing_is_set_aside():
    rows = spoil(market("ab"), "b", range(100, LENGTH), pl.col("close") * 1.4)
    assert kept_out(rows) == set()
    (line,) = compare(rows, OHLCV, LIMITS, None)[1]
    assert line["verdict"] == "2 venues: no majority, nothing is set aside"


def test_what_was_found_names_the_venue_its_verdict_and_its_hours():
    rows = spoil(market(), "b", range(100, 106), pl.col("close") * 1.03)
    rows = rows.filter(~((pl.col("venue") == "c") & pl.col("n").is_between(50, 52)))
    found = {(line["venue"], line["verdict"]): line for line in compare(rows, OHLCV, LIMITS, None)[1]}
    assert found.keys() == {("b", "set aside: disagrees"), ("c", "silent")}
    assert found["b", "set aside: disagrees"]["hours"] == 4
    assert found["c", "silent"]["first"] == FIRST + 50 * HOUR
    assert found["c", "silent"]["last"] == FIRST + 52 * HOUR


@pytest.mark.parametrize("spec", [OHLCV, OPEN_INTEREST], ids=lambda spec: spec.name)
def test_the_future_never_changes_a_verdict(spec):
    value = "close" if spec is OHLCV else "oi_base"
    rows = spoil(market(spec=spec), "b", range(90, 95), pl.col(value) * 1.3)
    wild = rows.with_columns(pl.when(pl.col("n") >= 97).then(pl.col(value) * pl.col("n")).otherwise(value).alias(value))
    for other in (rows.filter(pl.col("n") < 97), wild, spoil(rows, "a", range(97, LENGTH), pl.lit(1.0))):
        columns = ["venue", "n", "apart", "aside", "frozen_h", "return_z"]
        past = [measured(x, spec).filter(pl.col("n") < 97).select(columns) for x in (rows, other)]
        assert past[0].with_columns(pl.col("apart") > 1).equals(past[1].with_columns(pl.col("apart") > 1))
    assert kept_out(rows, spec)


@pytest.mark.parametrize("spec", [OHLCV, OPEN_INTEREST], ids=lambda spec: spec.name)
def test_hour_by_hour_gives_what_all_at_once_gives(spec):
    value = "close" if spec is OHLCV else "oi_base"
    rows = spoil(market(length=320, spec=spec), "b", range(290, 300), pl.col(value) * 1.25)
    rows = spoil(rows, "d", range(304, 315), pl.lit(rows.filter(venue="d", n=304)[value].item()))
    pieces = set()
    for n in range(280, 320):
        now = FIRST + n * HOUR
        around = rows.filter(pl.col("ts") >= now - LOOKBACK, pl.col("ts") <= now)
        pieces |= kept_out(rows.filter(pl.col("n") == n), spec, around)
    assert pieces == {one for one in kept_out(rows, spec) if one[1] >= 280}
    assert {venue for venue, _ in pieces} == {"b", "d"}


def test_a_mended_row_is_measured_by_its_own_value():
    rows = spoil(market(), "b", range(100, 101), pl.col("close") * 1.2)
    mended = market().filter(venue="b", n=100).with_columns(pl.col("available_at", "ingested_at") + 5 * HOUR)
    told = measured(pl.concat([rows, mended])).filter(venue="b", n=100)
    assert (told["apart"] > 1).to_list() == [True, False]


MINUTES = 60 * 54
AT = 60 * 50


@pytest.mark.parametrize("off", [range(AT + 1, AT + 60), range(AT, AT + 1), range(AT + 7, AT + 8)])
def test_a_minute_is_compared_with_the_same_minute_of_the_others(off):
    rows = spoil(market("abc", MINUTES, timeframe="1m"), "b", off, pl.col("close") * 1.4)
    assert kept_out(rows) == {("b", n) for n in off}
    (line,) = compare(rows, OHLCV, LIMITS, None)[1]
    assert (line["venue"], line["hours"], line["first"]) == ("b", 1, FIRST + 50 * HOUR)


def test_minutes_a_little_apart_are_set_aside_from_the_third_hour_as_hours_are():
    rows = spoil(market("abc", MINUTES, timeframe="1m"), "b", range(AT + 30, MINUTES), pl.col("close") * 1.03)
    assert kept_out(rows) == {("b", n) for n in range(AT + 30 + 120, MINUTES)}


def test_a_frozen_minute_feed_is_kept_out_from_the_sixth_hour_and_not_for_what_its_first_minutes_say():
    rows, first = market("abc", 60 * 44, timeframe="1m"), 60 * 30
    stuck = rows.filter(venue="a", n=first)["close"].item()
    still = spoil(rows, "a", range(first, first + 60 * 10), pl.lit(stuck))
    frozen = measured(still).filter(pl.col("frozen_h") >= LIMITS.frozen_h)
    assert set(frozen.select("venue", "n").iter_rows()) == {("a", n) for n in range(first + 300, first + 600)}
    on_the_hour = rows.with_columns(
        close=pl.when((pl.col("venue") == "a") & (pl.col("n") % 60 == 0)).then(stuck).otherwise("close")
    )
    told = measured(on_the_hour).filter(pl.col("frozen_h") >= LIMITS.frozen_h)
    assert set(told["n"] % 60) == {0}


@given(st.sampled_from(["1m", "5m", "15m"]), st.integers(0, 4), st.lists(st.integers(1, 200), min_size=1, max_size=4))
@settings(max_examples=6, deadline=None)
def test_short_bars_part_by_part_give_what_all_at_once_gives(timeframe, seed, cuts):
    an_hour = HOUR // TIMEFRAMES[timeframe]
    start = 50 * an_hour
    rows = market("abc", 56 * an_hour, seed=seed, timeframe=timeframe)
    rows = spoil(rows, "b", range(start + an_hour // 2, start + 4 * an_hour), pl.col("close") * 1.03)
    rows = spoil(rows, "c", range(start + 5 * an_hour, start + 5 * an_hour + 3), pl.col("close") * 1.3)
    ends = [*(start + end for end in np.cumsum(cuts)), 56 * an_hour]
    pieces, begin = set(), start
    for end in ends:
        part = rows.filter(pl.col("n") >= begin, pl.col("n") < end)
        if part.height:
            pieces |= kept_out(part, OHLCV, rows.filter(pl.col("n") < begin))
        begin = max(begin, end)
    assert pieces == {one for one in kept_out(rows) if one[1] >= start}
    assert {venue for venue, _ in pieces} == {"b", "c"}
