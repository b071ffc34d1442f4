"""Quarantine rows: whole, recognisable, lake-ready."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.errors import DataError
from oihedge.core.tables import QUARANTINE, UTC_TIME, conform
from oihedge.core.tables import table as table_named
from oihedge.quality.quarantine import quarantine_rows, row_of

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


def test_the_hash_is_of_the_payload_as_it_is_kept(snapshots):
    bad = snapshots(-1.0, -2.0).with_columns(reason=pl.lit("oi_negative"))
    rows = quarantine_rows("open_interest", bad)
    assert rows["payload_hash"].to_list() == [sha256(text.encode()).hexdigest() for text in rows["payload"]]


@given(
    st.sampled_from([0.0, -0.0, 1.5, 1e-7, 1e300, 123456789.125, float("nan"), float("inf"), float("-inf"), None]),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.integers(0, 10**15).map(lambda us: FIRST + timedelta(microseconds=us)),
)
@settings(max_examples=60, deadline=None)
def test_a_payload_is_json_that_gives_the_row_back(number, text, instant):
    values = {"oi_base": 5.0, "oi_usd": number, "unit_source": text, "venue": text, "symbol": "X", "asset": text}
    stamps = {"ts": instant, "available_at": instant, "ingested_at": FIRST}
    spec = table_named("open_interest")
    row = conform(pl.DataFrame([{**values, **stamps}], schema_overrides={"oi_usd": pl.Float64}), spec)
    payload = quarantine_rows("open_interest", row.with_columns(reason=pl.lit("x")))["payload"].item()
    finite = number is not None and math.isfinite(number)
    assert json.loads(payload)["unit_source"] == text
    expected = row if finite else row.with_columns(oi_usd=pl.lit(None, pl.Float64))
    assert row_of("open_interest", payload).equals(expected)


def test_tables_without_venue_and_symbol_are_kept_under_what_stands_for_them():
    event = {"source": "desk", "name": "CPI", "ts": FIRST + timedelta(days=30), "importance": 9, "available_at": FIRST}
    rows = quarantine_rows("events", pl.DataFrame([event]).with_columns(reason=pl.lit("importance_unknown")))
    assert rows.select("venue", "symbol", "available_at").rows() == [("desk", "CPI", FIRST)]


def test_a_row_that_lacks_what_its_table_requires_is_not_made_up(snapshots):
    bad = snapshots(float("nan")).with_columns(reason=pl.lit("x"), ingested_at="available_at")
    payload = quarantine_rows("open_interest", bad)["payload"].item()
    with pytest.raises(DataError, match="no oi_base"):
        row_of("open_interest", payload)
