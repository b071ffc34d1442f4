"""Specs and small files that the import tests change one thing at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import yaml

from oihedge.core.tables import conform, table
from oihedge.market.importing import load_spec, read_import

T0 = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
BARS = {
    "table": "ohlcv", "file": "bars.csv", "venue": "binanceusdm", "asset": "BTC", "kind": "perp", "stamp": "open",
    "time_zone": "UTC", "columns": {"ts": "time", "open": "o", "high": "h", "low": "l", "close": "c"},
}  # fmt: skip
INTEREST = {
    "table": "open_interest", "file": "oi.csv", "venue": "hyperliquid", "symbol": "BTC/USDC:USDC", "stamp": "instant",
    "time_zone": "UTC", "columns": {"ts": "time", "oi": "oi"}, "unit": "coins",
}  # fmt: skip
FUNDING = {
    "table": "funding", "file": "f.csv", "venue": "bybit", "asset": "BTC", "stamp": "instant", "time_zone": "UTC",
    "columns": {"ts": "time", "rate": "rate"}, "interval_h": 8,
}  # fmt: skip
PRICE = {"venue": "binanceusdm", "symbol": "{asset}/USDT:USDT"}


def spec_of(folder: Path, base: dict, **changes):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**base, **changes}.items() if v is not None}))
    return load_spec(path)


def imported(folder: Path, base: dict, text: str | None = None, prices=None, **changes) -> pl.DataFrame:
    if text is not None:
        (folder / base["file"]).write_text(text)
    name, rows = read_import(spec_of(folder, base, **changes), None, prices)
    assert name == base["table"]
    assert conform(rows, table(name), stamps=False).equals(rows)
    return rows


def opens(*values: float):
    bars = pl.DataFrame({"ts": [T0 + n * HOUR for n in range(len(values))], "open": list(values)})
    return lambda venue, symbol: bars.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


BAR_TEXT = "time,o,h,l,c\n2025-01-01 00:00:00,1,3,0.5,2\n2025-01-01 01:00:00,2,4,1,3\n"
