from datetime import UTC, datetime

import polars as pl
import pytest

from oihedge.core.errors import DataError, SchemaError
from oihedge.core.tables import FUNDING, STAMPS, TABLES, conform, table

NOON = datetime(2025, 7, 1, 12, tzinfo=UTC)
ROW = {"venue": "bybit", "symbol": "BTC/USDT:USDT", "asset": "BTC", "ts": NOON, "rate": 0.0001, "interval_h": 8,
       "available_at": NOON}  # fmt: skip


@pytest.mark.parametrize("spec", TABLES.values(), ids=lambda spec: spec.name)
def test_every_table_has_its_key_among_its_columns_and_no_stamp_declared_twice(spec) -> None:
    assert set(spec.key) <= set(spec.columns)
    assert not set(spec.columns) & set(STAMPS)
    assert spec.nullable <= set(spec.columns)


def test_rows_are_put_in_order_and_cast() -> None:
    rows = conform(pl.DataFrame([dict(reversed(ROW.items()))]), FUNDING, stamps=False)
    assert rows.columns == [*FUNDING.columns, "available_at"]
    assert rows["interval_h"].dtype == pl.Float64


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaError, match="lack column 'rate'"):
        conform(pl.DataFrame([ROW]).drop("rate"), FUNDING, stamps=False)


def test_naive_time_stamps_are_refused() -> None:
    naive = pl.DataFrame([ROW]).with_columns(pl.col("ts").dt.replace_time_zone(None))
    with pytest.raises(SchemaError, match=r"funding\.ts has no time zone"):
        conform(naive, FUNDING, stamps=False)


def test_text_where_a_number_belongs_is_refused() -> None:
    with pytest.raises(SchemaError, match="do not fit"):
        conform(pl.DataFrame([{**ROW, "rate": "high"}]), FUNDING, stamps=False)


def test_an_unknown_table_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"unknown table 'oi'.*open_interest"):
        table("oi")
