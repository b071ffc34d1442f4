"""Coinbase Advanced Trade: spot. Times are in seconds."""

from __future__ import annotations

from typing import Any

import ccxt

from oihedge.market.dialects.answers import BAR, LEVEL, Answer, Dialect, Query, book, iso_instants, table

_GRANULARITIES = {"1m": "ONE_MINUTE", "5m": "FIVE_MINUTE", "15m": "FIFTEEN_MINUTE", "1h": "ONE_HOUR"}
_SECOND = 1000


def _bars(q: Query) -> dict[str, Any]:
    window = {"start": str(q.since // _SECOND), "end": str((q.until - 1) // _SECOND)}
    return {"product_id": q.id, "granularity": _GRANULARITIES[q.timeframe], **window}


def _read_bars(body: Any, q: Query) -> Answer:
    return table(body["candles"], "start", ("open", "high", "low", "close", "volume"), unit_ms=_SECOND)


def _book(q: Query) -> dict[str, Any]:
    return {"product_id": q.id, "limit": q.cap}


def _read_book(body: Any, q: Query) -> Answer:
    row = body["pricebook"]
    if row["product_id"] != q.id:
        raise ccxt.BadResponse(f"asked for {q.id}, answered with {str(row['product_id'])[:40]}")
    said = int(iso_instants([f"{str(row['time'])[:19]}Z"])[0]) if row.get("time") else None
    return book(said, row["bids"], row["asks"], "price", "size")


SERIES = {
    ("spot", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("spot", "depth"): Dialect(_book, _read_book, LEVEL),
}
