"""dYdX v4 (indexer): perps that settle in USDC; open interest stands in its candles, in coins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from oihedge.market.dialects.answers import (
    BAR,
    LEVEL,
    NOW,
    Answer,
    Dialect,
    Query,
    book,
    iso_instants,
    of_one,
    single,
    table,
    the_one,
)

_RESOLUTIONS = {"1m": "1MIN", "5m": "5MINS", "15m": "15MINS", "1h": "1HOUR"}
_HOUR_MS = 3_600_000


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _candles(q: Query) -> dict[str, Any]:
    # toISO is exclusive
    window = {"fromISO": _iso(q.since), "toISO": _iso(q.until), "limit": q.cap}
    return {"market": q.id, "resolution": _RESOLUTIONS[q.timeframe], **window}


def _dated(rows: list[Any], at: str) -> list[Any]:
    stamps = iso_instants([row[at] for row in rows])
    return [{**row, "at": int(stamp)} for row, stamp in zip(rows, stamps, strict=True)]


def _read_bars(body: Any, q: Query) -> Answer:
    rows = _dated(of_one(body["candles"], "ticker", q.id), "startedAt")
    return table(rows, "at", ("open", "high", "low", "close", "baseTokenVolume"))


def _read_interest(body: Any, q: Query) -> Answer:
    rows = _dated(of_one(body["candles"], "ticker", q.id), "startedAt")
    found = table(rows, "at", ("startingOpenInterest",), blank=("startingOpenInterest",))
    return found[~np.isnan(found.values[:, 0])]  # candles of the venue's first days carry none


def _funding(q: Query) -> dict[str, Any]:
    # there is no older bound: as many rows as the window has hours, and some more
    hours = (q.until - q.since) // _HOUR_MS + 3
    return {"market": q.id, "effectiveBeforeOrAt": _iso(q.until), "limit": min(hours, q.cap)}


def _read_funding(body: Any, q: Query) -> Answer:
    rows = _dated(of_one(body["historicalFunding"], "ticker", q.id), "effectiveAt")
    found = table(rows, "at", ("rate",))
    return found[found.at >= q.since]


def _markets(q: Query) -> dict[str, Any]:
    return {"market": q.id}


def _read_funding_now(body: Any, q: Query) -> Answer:
    row = the_one([body["markets"][q.id]], "ticker", q.id)
    pays_at = (q.now // _HOUR_MS + 1) * _HOUR_MS
    return single(None, row["nextFundingRate"], 1, pays_at, None, row["oraclePrice"])


def _read_book(body: Any, q: Query) -> Answer:
    return book(None, body["bids"], body["asks"], "price", "size")


SERIES = {
    ("perp", "ohlcv"): Dialect(_candles, _read_bars, BAR),
    ("perp", "open_interest"): Dialect(_candles, _read_interest, ("coins",)),
    ("perp", "funding"): Dialect(_funding, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(_markets, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_markets, _read_book, LEVEL),
}
