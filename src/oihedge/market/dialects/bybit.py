"""Bybit v5: linear perps and spot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ccxt
import numpy as np

from oihedge.market.dialects.answers import (
    BAR,
    LEVEL,
    NOW,
    Answer,
    Dialect,
    Query,
    book,
    of_one,
    single,
    table,
    the_one,
)

_INTERVALS = {"1m": "1", "5m": "5", "15m": "15", "1h": "60"}
_PERIODS = {"5m": "5min", "15m": "15min", "1h": "1h"}


def _market(q: Query) -> dict[str, Any]:
    return {"category": "spot" if q.market.get("spot") else "linear", "symbol": q.id}


def _bars(q: Query) -> dict[str, Any]:
    return {**_market(q), "interval": _INTERVALS[q.timeframe], "start": q.since, "end": q.until - 1, "limit": q.cap}


def _window(q: Query) -> dict[str, Any]:
    return {**_market(q), "startTime": q.since, "endTime": q.until - 1, "limit": q.cap}


def _interest(q: Query) -> dict[str, Any]:
    # one ms early: whether a row at startTime counts is not said; the pager drops what is outside
    return {**_window(q), "startTime": q.since - 1, "intervalTime": _PERIODS[q.timeframe]}


def _ratio(q: Query) -> dict[str, Any]:
    return {**_window(q), "startTime": q.since - 1, "period": _PERIODS[q.timeframe]}


def _result(body: Any, q: Query) -> dict[str, Any]:
    result = body["result"]
    if result.get("symbol", q.id) != q.id:
        raise ccxt.BadResponse(f"asked for {q.id}, answered with {result['symbol']}")
    return dict(result)


def _read_bars(body: Any, q: Query) -> Answer:
    return table(_result(body, q)["list"], 0, (1, 2, 3, 4, 5), width=7)


def _read_prices(body: Any, q: Query) -> Answer:
    return table(_result(body, q)["list"], 0, (1, 2, 3, 4), width=5)


def _read_interest(body: Any, q: Query) -> Answer:
    return table(_result(body, q)["list"], "timestamp", ("openInterest",))


def _read_funding(body: Any, q: Query) -> Answer:
    return table(of_one(body["result"]["list"], "symbol", q.id), "fundingRateTimestamp", ("fundingRate",))


def _read_interest_now(body: Any, q: Query) -> Answer:
    row = the_one(body["result"]["list"], "symbol", q.id)
    return single(body["time"], row["openInterest"], row["markPrice"])


def _read_funding_now(body: Any, q: Query) -> Answer:
    row = the_one(body["result"]["list"], "symbol", q.id)
    return single(
        body["time"], row["fundingRate"], row.get("fundingIntervalHour"), row["nextFundingTime"], row["markPrice"],
        row["indexPrice"],
    )  # fmt: skip


def _read_ratio(body: Any, q: Query) -> Answer:
    found = table(of_one(body["result"]["list"], "symbol", q.id), "timestamp", ("buyRatio", "sellRatio"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = found.values[:, :1] / found.values[:, 1:]
    return replace(found, values=ratio)[np.isfinite(ratio[:, 0])]


def _read_book(body: Any, q: Query) -> Answer:
    result = body["result"]
    if result.get("s", q.id) != q.id:
        raise ccxt.BadResponse(f"asked for {q.id}, answered with {result['s']}")
    return book(result["ts"], result["b"], result["a"])


def _book(q: Query) -> dict[str, Any]:
    return {**_market(q), "limit": q.cap}


SERIES = {
    ("perp", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("perp", "mark"): Dialect(_bars, _read_prices, BAR[:4]),
    ("perp", "index"): Dialect(_bars, _read_prices, BAR[:4]),
    ("perp", "open_interest"): Dialect(_interest, _read_interest, ("coins",)),
    ("perp", "open_interest_now"): Dialect(_market, _read_interest_now, ("coins", "mark")),
    ("perp", "funding"): Dialect(_window, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(_market, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_book, _read_book, LEVEL),
    ("perp", "long_short:accounts"): Dialect(_ratio, _read_ratio, ("accounts",)),
    ("spot", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("spot", "depth"): Dialect(_book, _read_book, LEVEL),
}
