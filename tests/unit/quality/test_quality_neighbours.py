"""Jumps against the last good row: spikes, gaps, new levels; never the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.tables import OPEN_INTEREST
from oihedge.quality.neighbours import context_for, move_factors

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
SERIES = ["venue"]
MOST = 10.0


def series(levels, venue="bybit", hours=None) -> pl.DataFrame:
    hours = range(len(levels)) if hours is None else hours
    ts = pl.Series([FIRST + h * timedelta(hours=1) for h in hours], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"ts": ts, "oi": pl.Series(levels, dtype=pl.Float64)}).with_columns(
        venue=pl.lit(venue), sane=pl.lit(True)
    )


def good(rows, context=None, neighbour_h=24, settles=True) -> list[bool]:
    factors = move_factors(rows, "oi", SERIES, context, most=MOST, neighbour_h=neighbour_h, settles=settles)
    return [factor is None or factor <= MOST for factor in factors]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([100, 110, 90], [1, 1, 1]),
        ([100, 2000, 110], [1, 0, 1]),
        ([100, 2, 110], [1, 0, 1]),
        ([100, 2000, 2000, 2, 100], [1, 0, 0, 0, 1]),
        ([100, 1000, 10000], [1, 1, 1]),
        ([5], [1]),
        ([0, 100, 0, 100], [1, 1, 1, 1]),
    ],
)
def test_each_row_is_compared_with_the_last_good_one(levels, expected):
    assert good(series(levels)) == [bool(value) for value in expected]


def test_where_levels_settle_a_new_one_is_accepted_once_the_last_good_row_is_too_old():
    verdicts = good(series([100] + [2000] * 30))
    assert verdicts == [True] + [False] * 24 + [True] * 6


def test_where_levels_do_not_settle_a_new_one_stays_out_until_the_old_one_comes_back():
    assert good(series([100] + [2000] * 500 + [110]), settles=False) == [True] + [False] * 500 + [True]
    assert good(series([100, 2000, 2000], hours=[0, 25, 26]), settles=False) == [True, True, True]


def test_a_new_level_that_does_not_agree_with_itself_is_never_accepted():
    assert good(series([100] + [2000, 2e6] * 20)) == [True] + [False] * 40


def test_the_old_level_may_come_back_until_the_new_one_is_accepted():
    assert good(series([100] + [2000] * 24 + [100, 2000])) == [True] + [False] * 24 + [True, False]


def test_after_a_gap_the_first_row_is_not_compared():
    assert good(series([100, 2000, 2000], hours=[0, 25, 26])) == [True, True, True]
    assert good(series([100, 2000], hours=[0, 24])) == [True, False]


def test_series_do_not_look_at_each_other_and_the_order_of_rows_does_not_matter():
    rows = pl.concat([series([100, 2000, 110]), series([2000, 100, 2100], "okx")])
    expected = dict(zip(rows.select("venue", "ts").iter_rows(), good(rows), strict=True))
    mixed = rows.sample(fraction=1.0, shuffle=True, seed=3)
    assert dict(zip(mixed.select("venue", "ts").iter_rows(), good(mixed), strict=True)) == expected
    assert list(expected.values()) == [True, False, True] * 2


def test_rows_that_other_rules_keep_out_judge_nothing():
    rows = series([100, 2000, 2100]).with_columns(sane=pl.Series([True, False, True]))
    assert good(rows) == [True, True, False]


@given(st.lists(st.sampled_from([1.0, 5.0, 200.0, 4e4, 0.0]), max_size=40), st.integers(0, 40), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_later_row_never_changes_a_verdict(levels, cut, settles):
    how = {"neighbour_h": 5, "settles": settles}
    assert good(series(levels), **how)[:cut] == good(series(levels[:cut]), **how)


def test_the_context_is_the_newest_good_row_and_the_raw_rows_since(snapshots):
    raw = snapshots(100, 101, 2000, 2100, 102)
    context = context_for(raw[4:], OPEN_INTEREST, good=raw[:2], raw=raw)
    assert context["oi_base"].to_list() == [101, 2000, 2100]
    assert context_for(raw[4:], OPEN_INTEREST, good=raw[:0], raw=raw).height == 4
    assert context_for(raw[:1], OPEN_INTEREST, good=raw, raw=raw).is_empty()
    scattered = context_for(raw[1::3], OPEN_INTEREST, good=raw[:2], raw=raw)
    assert scattered["oi_base"].to_list() == [100, 2000, 2100]
