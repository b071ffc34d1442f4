"""OKX's public REST v5: USDT swaps and spot; newest rows first, sizes in contracts, refusals as a code in words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oihedge.simulator import okx_spot, okx_statistics
from oihedge.simulator.asked import Asked, Malformed, decimal, increment, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.depth import book
from oihedge.simulator.market import STEP, Kind
from oihedge.simulator.okx_terms import (
    VENUE,
    assets_of,
    bounds,
    contracts,
    index_of,
    market_of,
    refusal,
    refuse,
    step_of,
    wrap,
)
from oihedge.simulator.view import View, instant, millis

__all__ = ["PATHS", "refusal"]
RECENT = 1440
"""Candles that the recent paths go back."""
_MS = timedelta(milliseconds=1)


def time(view: View, asked: Asked) -> Any:
    """Answer /public/time."""
    return wrap([{"ts": str(millis(view.now))}])


def instruments(view: View, asked: Asked) -> Any:
    """Answer /public/instruments: swaps and spot; there are no futures and no options."""
    kind = asked.text("instType")
    if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"):
        raise refuse(51000, "Parameter instType error")
    if kind == "SPOT":
        return wrap(okx_spot.instruments(view))
    return wrap([_instrument(view, asset) for asset in view.market.assets] if kind == "SWAP" else [])


def _instrument(view: View, asset: str) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "perp")
    lot = f"{10.0**-how.size_decimals / how.contract_size:g}"
    return {
        "instType": "SWAP", "instId": f"{asset}-USDT-SWAP", "instFamily": f"{asset}-USDT", "uly": f"{asset}-USDT",
        "baseCcy": "", "quoteCcy": "", "settleCcy": "USDT", "ctVal": f"{how.contract_size:g}", "ctMult": "1",
        "ctValCcy": asset, "ctType": "linear", "optType": "", "stk": "", "expTime": "", "alias": "", "category": "1",
        "listTime": str(millis(view.market.origin)), "lever": "100", "tickSz": increment(how.price_decimals),
        "lotSz": lot, "minSz": lot, "maxLmtSz": "100000000", "maxMktSz": "100000", "ruleType": "normal",
        "state": "live",
    }  # fmt: skip


def _candles(kind: Kind | None, most: int, *, history: bool) -> Answer:
    """Make the answer of one candle path; `kind` None takes it from the instrument.

    `before` and `after` are exclusive, and `before` alone still gives the NEWEST rows. The recent paths go 1,440
    candles back, the history paths hold only candles that are over.
    """

    def answer(view: View, asked: Asked) -> Any:
        asset, shown = (index_of(view, asked), kind) if kind == "index" else market_of(view, asked)
        shown = kind or shown
        step, limit = step_of(asked, "bar", "1m"), min(asked.limit(100, 10_000), most)
        length = STEP[step] // _MS
        first, last = bounds(asked, "before", "after", millis(view.now - STEP[step] if history else view.now))
        oldest = 0 if history else millis(view.now) - RECENT * length
        start = max(first, last - limit * length, oldest)
        rows = view.bars(asset, VENUE, shown, instant(start), instant(last), step)
        rows = windowed(rows, limit, newest=True).select("ms", "open", "high", "low", "close", "volume")
        return wrap([_candle(view, asset, shown, length, row) for row in reversed(rows.rows())])

    return answer


def _candle(view: View, asset: str, kind: Kind, length: int, row: tuple[Any, ...]) -> list[str]:
    ms, *prices, volume = row
    how = view.market.instrument(asset, VENUE, "spot" if kind == "spot" else "perp")
    over = "1" if ms + length <= millis(view.now) else "0"
    shown = [str(ms), *(decimal(price, how.price_decimals) for price in prices)]
    if kind in ("mark", "index"):
        return [*shown, over]
    quote = decimal(volume * (prices[0] + prices[3]) / 2, 4)
    coins = decimal(volume, how.size_decimals)
    return [*shown, coins, quote, quote, over] if kind == "spot" else [
        *shown, contracts(view, asset, volume), coins, quote, over
    ]  # fmt: skip


def _books(most: int) -> Answer:
    """Make the answer of one order-book path: one level unless `sz` says more."""

    def answer(view: View, asked: Asked) -> Any:
        asset, kind = market_of(view, asked)
        levels = asked.whole("sz", 1) or 0
        if not 1 <= levels <= most:
            raise Malformed("sz")
        how = view.market.instrument(asset, VENUE, kind)
        sides = [
            [
                [
                    decimal(price, how.price_decimals),
                    contracts(view, asset, size) if kind == "perp" else decimal(size, how.size_decimals), "0", "1",
                ]
                for price, size in side
            ]
            for side in book(view, asset, VENUE, kind, levels)
        ]  # fmt: skip
        return wrap([{"bids": sides[0], "asks": sides[1], "ts": str(millis(view.now)), "seqId": millis(view.now)}])

    return answer


def mark_price(view: View, asked: Asked) -> Any:
    """Answer /public/mark-price."""
    if asked.values.get("instType") not in (None, "SWAP"):
        return wrap([])
    rows = []
    for asset in assets_of(view, asked):
        price = decimal(view.price(asset, VENUE, "mark"), view.market.instrument(asset, VENUE, "perp").price_decimals)
        rows.append({"instType": "SWAP", "instId": f"{asset}-USDT-SWAP", "markPx": price, "ts": str(millis(view.now))})
    return wrap(rows)


def index_tickers(view: View, asked: Asked) -> Any:
    """Answer /market/index-tickers for one index or all in USDT."""
    assets = [index_of(view, asked)] if asked.values.get("instId") else list(view.market.assets)
    return wrap(
        [
            {
                "instId": f"{asset}-USDT",
                "idxPx": decimal(view.price(asset, VENUE, "index"), 8),
                "ts": str(millis(view.now)),
            }
            for asset in assets
        ]
    )


def ticker(view: View, asked: Asked) -> Any:
    """Answer /market/ticker."""
    return wrap([_ticker(view, *market_of(view, asked))])


def tickers(view: View, asked: Asked) -> Any:
    """Answer /market/tickers of one instType."""
    kinds: dict[str, Kind] = {"SWAP": "perp", "SPOT": "spot"}
    kind = kinds.get(asked.text("instType"))
    return wrap([_ticker(view, asset, kind) for asset in view.market.assets] if kind else [])


def _ticker(view: View, asset: str, kind: Kind) -> dict[str, Any]:
    how, bars = view.market.instrument(asset, VENUE, kind), view.day(asset, VENUE, kind)
    (bid, _), (ask, _) = (side[0] for side in book(view, asset, VENUE, kind, 1))
    volume, traded = float(bars["volume"].sum()), float((bars["volume"] * bars["close"]).sum())
    prices = {
        "last": view.price(asset, VENUE, kind), "bidPx": bid, "askPx": ask, "open24h": float(bars["open"][0]),
        "high24h": float(bars["high"].to_numpy().max()), "low24h": float(bars["low"].to_numpy().min()),
    }  # fmt: skip
    perp = kind == "perp"
    return {
        "instType": "SWAP" if perp else "SPOT", "instId": f"{asset}-USDT-SWAP" if perp else f"{asset}-USDT",
        **{name: decimal(price, how.price_decimals) for name, price in prices.items()},
        "vol24h": contracts(view, asset, volume) if perp else decimal(volume, how.size_decimals),
        "volCcy24h": decimal(volume, how.size_decimals) if perp else decimal(traded, 4), "ts": str(millis(view.now)),
    }  # fmt: skip


PATHS: dict[str, Answer] = {
    **okx_statistics.PATHS,
    "/api/v5/public/time": time,
    "/api/v5/public/instruments": instruments,
    "/api/v5/public/mark-price": mark_price,
    "/api/v5/market/candles": _candles(None, 300, history=False),
    "/api/v5/market/history-candles": _candles(None, 300, history=True),
    "/api/v5/market/mark-price-candles": _candles("mark", 100, history=False),
    "/api/v5/market/history-mark-price-candles": _candles("mark", 100, history=True),
    "/api/v5/market/index-candles": _candles("index", 100, history=False),
    "/api/v5/market/history-index-candles": _candles("index", 100, history=True),
    "/api/v5/market/books": _books(400),
    "/api/v5/market/books-full": _books(5000),
    "/api/v5/market/index-tickers": index_tickers,
    "/api/v5/market/ticker": ticker,
    "/api/v5/market/tickers": tickers,
}
"""Every path the simulated OKX has, by what answers it."""
