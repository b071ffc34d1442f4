"""Quarantine rows: whole, recognisable, lake-ready."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl

from oihedge.core.tables import QUARANTINE, UTC_TIME
from oihedge.quality.quarantine import quarantine_rows

FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def test_a_quarantined_row_holds_the_whole_row_and_its_reason(snapshots):
    bad = snapshots(float("nan")).with_columns(
        reason=pl.lit("oi_base_missing"), ingested_at=pl.lit(FIRST, dtype=UTC_TIME)
    )
    row = quarantine_rows("open_interest", bad).row(0, named=True)
    assert json.loads(row["payload"]) == {
        "venue": "bybit", "symbol": "BTC/USDT:USDT", "asset": "BTC", "ts": "2025-01-01T00:00:00Z", "oi_base": "nan",
        "oi_usd": None, "unit_source": "coins", "available_at": "2025-01-01T00:00:05Z",
        "ingested_at": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    assert row["reason"] == "oi_base_missing"
    assert row["source_key"].startswith("bybit|BTC/USDT:USDT|2025-01-01T00:00:00Z#")
    assert (row["venue"], row["symbol"], row["ts"]) == ("bybit", "BTC/USDT:USDT", FIRST)


def test_the_frame_has_the_tables_columns_even_when_nothing_is_bad(snapshots):
    empty = quarantine_rows("open_interest", snapshots().with_columns(reason=pl.lit("")))
    assert empty.schema == {**QUARANTINE.columns, "available_at": UTC_TIME}
    assert empty.is_empty()


def test_the_same_bad_row_keeps_its_key_and_equal_copies_are_told_apart(snapshots):
    bad = snapshots(-1.0).with_columns(reason=pl.lit("oi_negative"))
    keys = [quarantine_rows("open_interest", pl.concat([bad] * n))["source_key"].to_list() for n in (1, 3)]
    assert keys[0][0] == keys[1][0]
    assert len(set(keys[1])) == 3
    other = quarantine_rows("open_interest", bad.with_columns(oi_base=pl.lit(-2.0)))["source_key"]
    assert other.to_list() != keys[0]


def test_missing_and_early_stamps_still_make_a_row_the_lake_takes(snapshots):
    none = pl.lit(None, dtype=UTC_TIME)
    bad = pl.concat(
        [
            snapshots(1.0).with_columns(available_at=pl.lit(datetime(2024, 1, 1, tzinfo=UTC), dtype=UTC_TIME)),
            snapshots(1.0).with_columns(available_at=none),
            snapshots(1.0).with_columns(ts=none, available_at=none, symbol=pl.lit(None, dtype=pl.String)),
        ]
    ).with_columns(reason=pl.lit("x"))
    rows = quarantine_rows("open_interest", bad)
    assert rows["available_at"].to_list() == [FIRST, FIRST, datetime(1970, 1, 1, tzinfo=UTC)]
    assert rows["source_key"].null_count() == 0
