"""Jumps against the last good row: spikes, gaps, new levels; never the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.tables import OPEN_INTEREST, UTC_TIME, Table
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
    verdicts = good(series([100, 100] + [2000] * 30))
    assert verdicts == [True] * 2 + [False] * 24 + [True] * 6


def test_where_levels_do_not_settle_a_new_one_stays_out_until_the_old_one_comes_back():
    assert good(series([100, 90] + [2000] * 500 + [110]), settles=False) == [True] * 2 + [False] * 500 + [True]
    assert good(series([100, 2000, 2000], hours=[0, 25, 26]), settles=False) == [True, True, True]


def test_a_new_level_that_does_not_agree_with_itself_is_never_accepted():
    assert good(series([100] + [2000, 2e6] * 20)) == [True] + [False] * 40


def test_the_old_level_may_come_back_until_the_new_one_is_accepted():
    levels = [100, 100] + [2000] * 24 + [100, 2000]
    assert good(series(levels)) == [True] * 2 + [False] * 24 + [True, False]


@pytest.mark.parametrize("settles", [True, False])
@pytest.mark.parametrize(
    ("levels", "hours", "expected"),
    [
        ([1e6, *[1e4] * 99], None, [1, 0, 0, *[1] * 97]),
        ([1e6, 1e4, 1e2, 1e4, 1e4, 1.0], None, [1, 0, 0, 0, 0, 0]),
        ([1e6, 9e5, *[1e4] * 20], None, [1, 1, *[0] * 20]),
        ([1e6, 1e4, 1e4, 9e5, *[1e4] * 20], None, [1, 0, 0, 1, *[0] * 20]),
        ([100, 90, 2000, 100, 101, 102], [0, 1, 30, 31, 32, 33], [1, 1, 1, 0, 0, 1]),
        ([1e6, 1e4, 1e4, 1e4, 1e6, 1e6, 1e6], None, [1, 0, 0, 1, 0, 0, 1]),
        ([1e6, 1e4, 1e4, 1e4, 1e4, 1e6, 1e6, 1e6], None, [1, 0, 0, 1, 1, 0, 0, 0]),
        ([1e6, 1e4, 1e4, 1e4, 1e4], [0, 1, 1, 1, 2], [1, 0, 0, 0, 0]),
        ([1e6, 9e5, 1e4, 1e4, 1e4], [0, 0, 1, 2, 3], [1, 1, 0, 0, 1]),
    ],
    ids=["first", "quarrelling", "agreed with", "agreed with late", "after a gap", "the next alone", "the next agreed",
         "one instant told thrice", "agreed with by itself"],
)  # fmt: skip
def test_a_row_that_no_later_one_agrees_with_is_outvoted_by_three_that_agree(levels, hours, expected, settles):
    assert good(series(levels, hours=hours), settles=settles) == [bool(value) for value in expected]


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


@given(
    st.lists(st.sampled_from([1.0, 5.0, 200.0, 300.0, 4e4, 0.0, None]), min_size=1, max_size=40),
    st.integers(1, 7),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_part_by_part_gives_what_judging_at_once_gives(levels, size, settles):
    spec = Table("levels", ("venue", "ts"), {"venue": pl.String(), "ts": UTC_TIME, "oi": pl.Float64()})
    rows = series(levels).drop_nulls()
    taken, verdicts = rows[:0], []
    for start in range(0, rows.height, size):
        part = rows[start : start + size]
        context = context_for(part, spec, good=taken, raw=rows)
        verdicts += good(part, context, neighbour_h=5, settles=settles)
        taken = pl.concat([taken, part.filter(pl.Series(verdicts[start:], dtype=pl.Boolean) & (part["oi"] > 0))])
    assert verdicts == good(rows, neighbour_h=5, settles=settles)


def test_the_context_is_the_two_newest_good_rows_and_the_raw_rows_since(snapshots):
    raw = snapshots(100, 101, 2000, 2100, 102)
    context = context_for(raw[4:], OPEN_INTEREST, good=raw[:2], raw=raw)
    assert context["oi_base"].to_list() == [100, 101, 2000, 2100]
    assert context_for(raw[4:], OPEN_INTEREST, good=raw[:0], raw=raw).height == 4
    assert context_for(raw[:1], OPEN_INTEREST, good=raw, raw=raw).is_empty()
    scattered = context_for(raw[1::3], OPEN_INTEREST, good=raw[:2], raw=raw)
    assert scattered["oi_base"].to_list() == [100, 2000, 2100]
