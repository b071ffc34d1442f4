"""Gate v4: USDT perps, whose contracts are quanto_multiplier coins each. Times are in seconds."""

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
    instants,
    numbers,
    single,
    table,
)

_SECOND = 1000
_MEASURES = {
    "accounts": "lsr_account", "top_accounts": "top_lsr_account", "top_positions": "top_lsr_size",
    "taker_volume": "lsr_taker",
}  # fmt: skip


def _market(q: Query) -> dict[str, Any]:
    return {"settle": "usdt", "contract": q.id}


def _window(q: Query) -> dict[str, Any]:
    return {**_market(q), "from": q.since // _SECOND, "to": (q.until - 1) // _SECOND}


def _bars(prefix: str) -> Any:
    def ask(q: Query) -> dict[str, Any]:
        return {**_window(q), "contract": prefix + q.id, "interval": q.timeframe}

    return ask


def _read_bars(body: Any, q: Query) -> Answer:
    found = table(body, "t", ("o", "h", "l", "c", "v"), unit_ms=_SECOND)
    return replace(found, values=found.values * np.array([1.0, 1.0, 1.0, 1.0, q.contract_size]))


def _read_prices(body: Any, q: Query) -> Answer:
    return table(body, "t", ("o", "h", "l", "c"), unit_ms=_SECOND)


def _stats(q: Query) -> dict[str, Any]:
    return {**_market(q), "from": q.since // _SECOND, "interval": q.timeframe, "limit": q.cap}


def _read_stats(*columns: str) -> Any:
    def read(body: Any, q: Query) -> Answer:
        return table(body, "time", columns, unit_ms=_SECOND)

    return read


def _funding(q: Query) -> dict[str, Any]:
    return {**_window(q), "limit": q.cap}


def _read_funding(body: Any, q: Query) -> Answer:
    return table(body, "t", ("r",), unit_ms=_SECOND)


def _read_funding_now(body: Any, q: Query) -> Answer:
    if body["name"] != q.id:
        raise ccxt.BadResponse(f"asked for {q.id}, answered with {str(body['name'])[:40]}")
    pays_at = int(instants([body["funding_next_apply"]], _SECOND)[0])
    hours = float(numbers([body["funding_interval"]])[0]) / 3600
    return single(None, body["funding_rate"], hours, pays_at, body["mark_price"], body["index_price"])


def _book(q: Query) -> dict[str, Any]:
    return {**_market(q), "limit": q.cap, "with_id": "true"}


def _read_book(body: Any, q: Query) -> Answer:
    said = int(numbers([body["current"]])[0] * _SECOND)
    return book(said, body["bids"], body["asks"], "p", "s", q.contract_size)


SERIES = {
    ("perp", "ohlcv"): Dialect(_bars(""), _read_bars, BAR),
    ("perp", "mark"): Dialect(_bars("mark_"), _read_prices, BAR[:4]),
    ("perp", "index"): Dialect(_bars("index_"), _read_prices, BAR[:4]),
    ("perp", "open_interest"): Dialect(_stats, _read_stats("open_interest", "open_interest_usd"), ("contracts", "usd")),
    ("perp", "funding"): Dialect(_funding, _read_funding, ("rate",)),
    ("perp", "funding_now"): Dialect(_market, _read_funding_now, NOW),
    ("perp", "depth"): Dialect(_book, _read_book, LEVEL),
    ("perp", "long_short"): Dialect(_stats, _read_stats(*_MEASURES.values()), tuple(_MEASURES)),
    ("perp", "liquidations"): Dialect(_stats, _read_stats("long_liq_usd", "short_liq_usd"), ("long_usd", "short_usd")),
}
