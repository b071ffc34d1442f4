"""Bitget v2: USDT perps; sizes are in coins."""

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
    listed,
    of_one,
    single,
    table,
    the_one,
)

_BARS = {"1m": "1m", "5m": "5m", "15m": "15m", "1h": "1H"}


def _data(body: Any) -> Any:
    if str(body["code"]) != "00000":
        raise ccxt.BadResponse(f"bitget answered code {body['code']} {str(body.get('msg'))[:80]}")
    return body["data"]


def _market(q: Query) -> dict[str, Any]:
    return {"symbol": q.id, "productType": "USDT-FUTURES"}


def _bars(q: Query) -> dict[str, Any]:
    # the pager drops the bar at endTime, where a venue counts it in
    window = {"startTime": q.since, "endTime": q.until, "limit": q.cap}
    return {**_market(q), "granularity": _BARS[q.timeframe], **window}


def _read_bars(body: Any, q: Query) -> Answer:
    return table(_data(body), 0, (1, 2, 3, 4, 5), width=7)


def _read_prices(body: Any, q: Query) -> Answer:
    return table(_data(body), 0, (1, 2, 3, 4), width=7)


def _read_interest_now(bodies: Any, q: Query) -> Answer:
    interest, price = _data(bodies[0]), the_one(_data(bodies[1]), "symbol", q.id)
    row = the_one(interest["openInterestList"], "symbol", q.id)
    return single(interest["ts"], row["size"], price["markPrice"])


def _funding(q: Query) -> dict[str, Any]:
    return {**_market(q), "pageSize": q.cap, "pageNo": q.page}


def _read_funding(body: Any, q: Query) -> Answer:
    return table(of_one(_data(body), "symbol", q.id), "fundingTime", ("fundingRate",))


def _read_funding_now(body: Any, q: Query) -> Answer:
    row = the_one(_data(body), "symbol", q.id)
    said = body.get("requestTime")
    return single(said, row["fundingRate"], row.get("fundingRateInterval"), row.get("nextUpdate"), None, None)


def _book(q: Query) -> dict[str, Any]:
    return {**_market(q), "limit": "max"}


def _read_book(body: Any, q: Query) -> Answer:
    data = _data(body)
    return book(data["ts"], data["bids"], data["asks"])


def _ratio(q: Query) -> dict[str, Any]:
    return {"symbol": q.id, "period": "1h"}


def _read_ratio(body: Any, q: Query) -> Answer:
    # computed from the shares: what the venue calls the ratio was seen to contradict them
    found = table(listed(_data(body)), "ts", ("longAccountRatio", "shortAccountRatio"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = found.values[:, :1] / found.values[:, 1:]
    return replace(found, values=ratio)[np.isfinite(ratio[:, 0])]


SERIES = {
    ("perp", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("perp", "mark"): Dialect(_bars, _read_prices, BAR[:4]),
    ("perp", "index"): Dialect(_bars, _read_prices, BAR[:4]),
    ("perp", "open_interest_now"): Dialect(_market, _read_interest_now, ("coins", "mark")),
    ("perp", "funding"): Dialect(_funding, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(_market, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_book, _read_book, LEVEL),
    ("perp", "long_short:accounts"): Dialect(_ratio, _read_ratio, ("accounts",)),
}
