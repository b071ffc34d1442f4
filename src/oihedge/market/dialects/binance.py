"""Binance: USD-M futures (binanceusdm) and spot (binance)."""

from __future__ import annotations

from typing import Any

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


def _window(q: Query) -> dict[str, Any]:
    return {"startTime": q.since, "endTime": q.until - 1, "limit": q.cap}


def _bars(q: Query) -> dict[str, Any]:
    return {"symbol": q.id, "interval": q.timeframe, **_window(q)}


def _pair_bars(q: Query) -> dict[str, Any]:
    return {"pair": q.id, "interval": q.timeframe, **_window(q)}


def _history(q: Query) -> dict[str, Any]:
    # one ms early: whether a row at startTime counts is not said; the pager drops what is outside
    return {"symbol": q.id, "period": q.timeframe, **_window(q), "startTime": q.since - 1}


def _symbol(q: Query) -> dict[str, Any]:
    return {"symbol": q.id}


def _book(q: Query) -> dict[str, Any]:
    return {"symbol": q.id, "limit": q.cap}


def _read_bars(body: Any, q: Query) -> Answer:
    return table(body, 0, (1, 2, 3, 4, 5), width=12)


def _read_prices(body: Any, q: Query) -> Answer:
    return table(body, 0, (1, 2, 3, 4), width=12)


def _read_interest(body: Any, q: Query) -> Answer:
    rows = of_one(body, "symbol", q.id)
    return table(rows, "timestamp", ("sumOpenInterest", "sumOpenInterestValue"))


def _read_interest_now(bodies: Any, q: Query) -> Answer:
    interest, premium = the_one([bodies[0]], "symbol", q.id), the_one([bodies[1]], "symbol", q.id)
    return single(interest["time"], interest["openInterest"], premium["markPrice"])


def _read_funding(body: Any, q: Query) -> Answer:
    return table(of_one(body, "symbol", q.id), "fundingTime", ("fundingRate",))


def _read_funding_now(body: Any, q: Query) -> Answer:
    row = the_one([body], "symbol", q.id)
    return single(
        row["time"], row["lastFundingRate"], None, row["nextFundingTime"], row["markPrice"], row["indexPrice"]
    )


def _read_ratio(body: Any, q: Query) -> Answer:
    return table(of_one(body, "symbol", q.id), "timestamp", ("longShortRatio",))


def _read_taker(body: Any, q: Query) -> Answer:
    # the one path of the four whose rows do not name their symbol
    return table(body, "timestamp", ("buySellRatio",))


def _read_book(body: Any, q: Query) -> Answer:
    return book(body.get("T"), body["bids"], body["asks"])


SERIES = {
    ("perp", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("perp", "mark"): Dialect(_bars, _read_prices, BAR[:4]),
    ("perp", "index"): Dialect(_pair_bars, _read_prices, BAR[:4]),
    ("perp", "open_interest"): Dialect(_history, _read_interest, ("coins", "usd")),
    ("perp", "open_interest_now"): Dialect(_symbol, _read_interest_now, ("coins", "mark")),
    ("perp", "funding"): Dialect(lambda q: {"symbol": q.id, **_window(q)}, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(_symbol, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_book, _read_book, LEVEL),
    ("perp", "long_short:accounts"): Dialect(_history, _read_ratio, ("accounts",)),
    ("perp", "long_short:top_accounts"): Dialect(_history, _read_ratio, ("top_accounts",)),
    ("perp", "long_short:top_positions"): Dialect(_history, _read_ratio, ("top_positions",)),
    ("perp", "long_short:taker_volume"): Dialect(_history, _read_taker, ("taker_volume",)),
    ("spot", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("spot", "depth"): Dialect(_book, _read_book, LEVEL),
}
