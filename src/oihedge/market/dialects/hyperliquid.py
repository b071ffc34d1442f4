"""Hyperliquid: one path, POST /info, told apart by the body's type."""

from __future__ import annotations

from typing import Any

import ccxt

from oihedge.market.dialects.answers import BAR, LEVEL, NOW, Answer, Dialect, Query, book, of_one, single, table

_HOUR_MS = 3_600_000


def _coin(q: Query) -> str:
    return str(q.market["baseName"] if q.market.get("baseName") else q.market["base"])


def _bars(q: Query) -> dict[str, Any]:
    asked = {"coin": _coin(q), "interval": q.timeframe, "startTime": q.since, "endTime": q.until - 1}
    return {"type": "candleSnapshot", "req": asked}


def _read_bars(body: Any, q: Query) -> Answer:
    return table(of_one(body, "s", _coin(q)), "t", ("o", "h", "l", "c", "v"))


def _funding(q: Query) -> dict[str, Any]:
    return {"type": "fundingHistory", "coin": _coin(q), "startTime": q.since, "endTime": q.until - 1}


def _read_funding(body: Any, q: Query) -> Answer:
    return table(of_one(body, "coin", _coin(q)), "time", ("fundingRate",))


def _contexts(q: Query) -> dict[str, Any]:
    return {"type": "metaAndAssetCtxs"}


def _context(body: Any, q: Query) -> dict[str, Any]:
    names = [market["name"] for market in body[0]["universe"]]
    if len(names) != len(body[1]) or _coin(q) not in names:
        raise ccxt.BadResponse(f"{_coin(q)} is not among the {len(body[1])} contexts sent")
    return dict(body[1][names.index(_coin(q))])


def _read_interest(body: Any, q: Query) -> Answer:
    row = _context(body, q)
    if row.get("openInterest") is None or row.get("markPx") is None:
        raise ccxt.BadResponse("hyperliquid sent no open interest or mark price")
    return single(None, row["openInterest"], row["markPx"])


def _read_funding_now(body: Any, q: Query) -> Answer:
    row = _context(body, q)
    pays_at = (q.now // _HOUR_MS + 1) * _HOUR_MS
    return single(None, row["funding"], 1, pays_at, row["markPx"], row["oraclePx"])


def _book(q: Query) -> dict[str, Any]:
    return {"type": "l2Book", "coin": _coin(q)}


def _read_book(body: Any, q: Query) -> Answer:
    of_one([body], "coin", _coin(q))
    bids, asks = body["levels"]
    return book(body["time"], bids, asks, "px", "sz")


SERIES = {
    ("perp", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("perp", "open_interest_now"): Dialect(_contexts, _read_interest, ("coins", "mark")),
    ("perp", "funding"): Dialect(_funding, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(_contexts, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_book, _read_book, LEVEL),
}
