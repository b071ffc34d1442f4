"""Short gaps: a line between real rows, flagged, and never known before its later end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from pydantic import ValidationError

from oihedge.core.tables import OHLCV, OPEN_INTEREST, conform
from oihedge.quality.fill import filled_rows
from oihedge.quality.settings import Quality

FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def without(rows: pl.DataFrame, spec, *hours: int) -> pl.DataFrame:
    kept = rows.filter(~pl.int_range(pl.len()).is_in(hours))
    return conform(kept.with_columns(ingested_at="available_at"), spec)


@pytest.mark.parametrize(("missing", "levels"), [((1,), [110.0]), ((1, 2), [110.0, 120.0]), ((1, 2, 3), []), ((), [])])
def test_gaps_up_to_the_longest_are_joined_by_a_line_and_longer_ones_stay(snapshots, missing, levels):
    rows = without(snapshots(100, 110, 120, 130, 140), OPEN_INTEREST, *missing)
    filled = filled_rows(rows, OPEN_INTEREST, "1h", 2)
    assert filled["oi_base"].to_list() == pytest.approx(levels)
    assert filled["ts"].to_list() == [FIRST + timedelta(hours=n) for n in missing[: len(levels)]]


def test_a_filled_row_is_flagged_and_known_only_when_its_later_end_is(snapshots):
    rows = without(snapshots(100, 110, 120, 130), OPEN_INTEREST, 1, 2)
    filled = filled_rows(rows, OPEN_INTEREST, "1h", 2)
    assert filled["filled"].all()
    assert set(filled["available_at"]) == {rows["available_at"][-1]}
    assert set(filled["ingested_at"]) == {rows["ingested_at"][-1]}
    assert filled["unit_source"].to_list() == ["coins"] * 2
    assert filled["oi_usd"].null_count() == 2, "a value that one end lacks is not made up"


def test_nothing_known_at_an_instant_depends_on_later_rows(snapshots):
    """Look-ahead: whatever comes after an instant, what was filled and known by then stays."""
    rows = without(snapshots(100, 110, 120, 130, 140, 150), OPEN_INTEREST, 1, 4)
    for cut in rows["available_at"]:
        wild = rows.with_columns(oi_base=pl.when(pl.col("available_at") > cut).then(9e9).otherwise("oi_base"))
        known = [filled_rows(r, OPEN_INTEREST, "1h", 2).filter(pl.col("available_at") <= cut) for r in (rows, wild)]
        assert known[0].equals(known[1])


def test_a_gap_at_the_end_stays_until_its_end_is_there(snapshots):
    rows = without(snapshots(100, 110, 120, 130), OPEN_INTEREST, 2, 3)
    assert filled_rows(rows, OPEN_INTEREST, "1h", 2).is_empty()


def test_filled_rows_are_no_ends_to_draw_from(snapshots):
    rows = without(snapshots(100, 110, 120, 130), OPEN_INTEREST, 1)
    again = pl.concat([rows, filled_rows(rows, OPEN_INTEREST, "1h", 1)])
    assert filled_rows(again, OPEN_INTEREST, "1h", 1).equals(filled_rows(rows, OPEN_INTEREST, "1h", 1))


def test_bars_join_close_to_open_and_have_no_volume(bars):
    rows = without(bars(100, 0, 0, 130), OHLCV, 1, 2).with_columns(
        open=pl.when(pl.col("close") == 130).then(120.0).otherwise("open")
    )
    filled = filled_rows(rows, OHLCV, "1h", 2)
    assert filled.select("open", "close").rows() == [(100.0, 110.0), (110.0, 120.0)]
    assert filled.select("high", "low").rows() == [(110.0, 100.0), (120.0, 110.0)]
    assert filled["volume"].null_count() == 2
    assert filled_rows(rows, OHLCV, "5m", 2).is_empty(), "bars of another timeframe are not looked at"


def test_nothing_is_filled_by_default_and_funding_never():
    limits = {"max_hourly_move": 0.5, "max_oi_jump": 10.0, "max_funding_rate": 0.05, "min_good_share": 0.9}
    assert Quality(**limits).fill == {}
    with pytest.raises(ValidationError, match="funding cannot be"):
        Quality(**limits, fill={"funding": {"1h": 2}})
