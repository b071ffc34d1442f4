"""OKX v5: USDT perps, whose contracts are a share of a coin, and spot.

Bounds are exclusive on both sides and pages come newest first; `before` and `begin` name the older bound.
"""

from __future__ import annotations

from typing import Any

import ccxt

from oihedge.market.dialects.answers import (
    BAR,
    LEVEL,
    NOW,
    Answer,
    Dialect,
    Query,
    book,
    instants,
    listed,
    of_one,
    single,
    table,
    the_one,
)

_BARS = {"1m": "1m", "5m": "5m", "15m": "15m", "1h": "1H"}
_HOUR_MS = 3_600_000


def _data(body: Any) -> list[Any]:
    if str(body["code"]) != "0":
        raise ccxt.BadResponse(f"okx answered code {body['code']} {str(body.get('msg'))[:80]}")
    return listed(body["data"])


def _window(q: Query) -> dict[str, Any]:
    return {"instId": q.id, "before": q.since - 1, "after": q.until, "limit": q.cap}


def _bars(q: Query) -> dict[str, Any]:
    return {**_window(q), "bar": _BARS[q.timeframe]}


def _index_bars(q: Query) -> dict[str, Any]:
    family = (q.market.get("info") or {}).get("instFamily") or q.id.removesuffix("-SWAP")
    return {**_bars(q), "instId": family}


def _complete(body: Any, width: int) -> list[Any]:
    """Return the bars whose last column, confirm, is not 0: such a one still changes."""
    return [row for row in _data(body) if not (isinstance(row, list) and row[width - 1 : width] in (["0"], [0]))]


def _read_bars(body: Any, q: Query) -> Answer:
    # volume in coins: the sixth column for contracts, the fifth for spot
    return table(_complete(body, 9), 0, (1, 2, 3, 4, 5 if q.market.get("spot") else 6), width=9)


def _read_prices(body: Any, q: Query) -> Answer:
    return table(_complete(body, 6), 0, (1, 2, 3, 4), width=6)


def _rubik(q: Query) -> dict[str, Any]:
    return {"instId": q.id, "period": _BARS[q.timeframe], "begin": q.since - 1, "end": q.until, "limit": q.cap}


def _read_interest(body: Any, q: Query) -> Answer:
    return table(_data(body), 0, (1, 2, 3), width=4)


def _read_ratio(body: Any, q: Query) -> Answer:
    return table(_data(body), 0, (1,), width=2)


def _present(q: Query) -> dict[str, Any]:
    return {"instType": "SWAP", "instId": q.id}


def _read_interest_now(bodies: Any, q: Query) -> Answer:
    interest, mark = (the_one(_data(body), "instId", q.id) for body in bodies)
    return single(interest["ts"], interest["oiCcy"], mark["markPx"])


def _read_funding(body: Any, q: Query) -> Answer:
    # what was paid; the rate that had been forecast for it stands beside, as fundingRate
    return table(of_one(_data(body), "instId", q.id), "fundingTime", ("realizedRate",))


def _read_funding_now(body: Any, q: Query) -> Answer:
    row = the_one(_data(body), "instId", q.id)
    pays_at, following = int(instants([row["fundingTime"]])[0]), row.get("nextFundingTime")
    hours = (int(instants([following])[0]) - pays_at) / _HOUR_MS if following not in (None, "") else None
    said = row.get("ts")
    return single(None if said in (None, "") else said, row["fundingRate"], hours, pays_at, None, None)


def _book(q: Query) -> dict[str, Any]:
    return {"instId": q.id, "sz": q.cap}


def _read_book(body: Any, q: Query) -> Answer:
    (row,) = _data(body)
    size = 1.0 if q.market.get("spot") else q.contract_size
    return book(row["ts"], row["bids"], row["asks"], contract=size, width=3)


SERIES = {
    ("perp", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("perp", "mark"): Dialect(_bars, _read_prices, BAR[:4]),
    ("perp", "index"): Dialect(_index_bars, _read_prices, BAR[:4]),
    ("perp", "open_interest"): Dialect(_rubik, _read_interest, ("contracts", "coins", "usd")),
    ("perp", "open_interest_now"): Dialect(_present, _read_interest_now, ("coins", "mark")),
    ("perp", "funding"): Dialect(_window, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(lambda q: {"instId": q.id}, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_book, _read_book, LEVEL),
    ("perp", "long_short:accounts"): Dialect(_rubik, _read_ratio, ("accounts",)),
    ("perp", "long_short:top_accounts"): Dialect(_rubik, _read_ratio, ("top_accounts",)),
    ("perp", "long_short:top_positions"): Dialect(_rubik, _read_ratio, ("top_positions",)),
    ("spot", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("spot", "depth"): Dialect(_book, _read_book, LEVEL),
}
