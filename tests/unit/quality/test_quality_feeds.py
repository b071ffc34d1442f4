"""Gaps against the grid and stale series, told per series."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from oihedge.core.tables import EVENTS, FUNDING, OHLCV, OPEN_INTEREST
from oihedge.quality.feeds import gaps, stale

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_hole_is_told_with_its_rows_and_its_ends(bars):
    rows = pl.concat([bars(1, 1, 1, 1, 1, 1)[[0, 1, 4, 5]], bars(1, 1, 1).with_columns(venue=pl.lit("okx"))])
    (told,) = gaps(rows, rows[:0], OHLCV)
    assert told == {
        "table": "ohlcv", "series": "bybit BTC/USDT:USDT perp 1h", "found": "gaps", "missing": 2, "longest_h": 3.0,
        "first": FIRST + HOUR, "last": FIRST + 4 * HOUR,
    }  # fmt: skip


def test_a_hole_before_the_slice_is_found_from_the_rows_before_it_and_told_once(snapshots):
    rows = snapshots(1, 1, 1, 1, 1, 1)[[0, 1, 2, 5]]
    (told,) = gaps(rows[3:], rows[:3], OPEN_INTEREST)
    assert told["missing"] == 2
    assert gaps(rows[:0], rows, OPEN_INTEREST) == []


def test_payments_have_the_grid_of_their_own_interval_and_events_have_none(payments):
    rows = payments(0.1, 0.1, 0.1, 0.1)[[0, 1, 3]]
    (told,) = gaps(rows, rows[:0], FUNDING)
    assert (told["missing"], told["longest_h"]) == (1, 16.0)
    assert gaps(rows, rows[:0], EVENTS) == []


def test_a_series_whose_newest_row_is_too_old_is_stale_counted_from_a_bars_close(bars):
    newest = bars(1)
    assert stale(newest, OHLCV, FIRST + 3 * HOUR, 2.0) == []
    (told,) = stale(newest, OHLCV, FIRST + 4 * HOUR, 2.0)
    assert (told["found"], told["longest_h"]) == ("stale", 3.0)
