"""Bitfinex's public REST v2: spot in USD; rows are bare lists, refusals an `error` list with status 500."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oihedge.simulator.asked import Asked, Malformed, Refused, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.depth import LEVELS, book
from oihedge.simulator.market import STEP, Step
from oihedge.simulator.view import FAR, View, instant, millis

VENUE, QUOTE = "bitfinex", "USD"
CANDLES = 10_000
STEPS: dict[str, Step] = {"1m": "1m", "5m": "5m", "1h": "1h"}
LENGTHS = (1, 25, 100, 250)


def _refuse(message: str) -> Refused:
    return Refused(500, ["error", 10020, message])


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Bitfinex does."""
    return _refuse(f"{error.name}: {'missing' if error.missing else 'invalid'}")


def _pair(asset: str) -> str:
    """The pair's id: names longer than three letters are set apart by a colon."""
    return f"{asset}{QUOTE}" if len(asset) == 3 else f"{asset}:{QUOTE}"


def _asset(view: View, symbol: str) -> str:
    for asset in view.market.assets:
        if symbol == f"t{_pair(asset)}":
            return asset
    raise _refuse("symbol: invalid")


def configuration(view: View, asked: Asked) -> Any:
    """Answer /v2/conf/{config}: one list per label, empty for what the simulated venue does not have."""
    return [_label(view, label) for label in asked.text("config").split(",")]


def _label(view: View, label: str) -> list[Any]:
    if label == "pub:info:pair":
        return [_limits(view, asset) for asset in view.market.assets]
    if label == "pub:list:currency":
        return [*view.market.assets, QUOTE]
    if label == "pub:list:pair:exchange":
        return [_pair(asset) for asset in view.market.assets]
    return []


def _limits(view: View, asset: str) -> list[Any]:
    """A pair with its smallest and largest order, in coins."""
    how = view.market.instrument(asset, VENUE, "spot")
    least = max(how.min_notional / view.market.settings.assets[asset].start_price, 10.0**-how.size_decimals)
    return [_pair(asset), [None, None, None, f"{least:.8f}", "100000.0", *[None] * 7]]


def candles(view: View, asked: Asked) -> Any:
    """Answer /v2/candles/{key}/hist, the key being trade:TIMEFRAME:SYMBOL: 100 rows by default, at most 10,000.

    Newest first, or ascending from `start` where `sort` is 1, as Bitfinex does.
    """
    origin, name, symbol = [*asked.text("key").split(":", 2), "", ""][:3]
    if origin != "trade" or name not in STEPS:
        raise _refuse("timeframe: invalid")
    asset = _asset(view, symbol)
    step, limit = STEPS[name], asked.limit(100, CANDLES)
    length, ascending = STEP[step] // timedelta(milliseconds=1), asked.values.get("sort") in ("1", 1)
    start, end = asked.whole("start", 0) or 0, asked.whole("end", FAR)
    end = min(FAR if end is None else end, millis(view.now))
    start = max(start, millis(view.market.origin))
    first, last = (
        (start, min(end, start + (limit + 1) * length)) if ascending else (max(start, end - limit * length), end)
    )
    rows = windowed(view.bars(asset, VENUE, "spot", instant(first), instant(last), step), limit, newest=not ascending)
    listed = [list(row) for row in rows.select("ms", "open", "close", "high", "low", "volume").iter_rows()]
    return listed if ascending else listed[::-1]


def order_book(view: View, asked: Asked) -> Any:
    """Answer /v2/book/{symbol}/{precision}: 25 levels by default, or `len` 1, 25, 100 or 250.

    Bids have a positive amount, asks a negative one. `R0` is order by order, `P0` to `P4` are levels; all show the
    ticks of the simulated book.
    """
    asset, precision = _asset(view, asked.text("symbol")), asked.text("precision")
    length = asked.whole("len", 25)
    if length not in LENGTHS:
        raise _refuse("len: invalid")
    if precision not in ("R0", "P0", "P1", "P2", "P3", "P4"):
        raise _refuse("precision: invalid")
    bids, asks = book(view, asset, VENUE, "spot", min(length, LEVELS))
    rows = [(price, size) for price, size in bids] + [(price, -size) for price, size in asks]
    if precision == "R0":
        return [[number + 1, price, size] for number, (price, size) in enumerate(rows)]
    return [[price, 1, size] for price, size in rows]


def ticker(view: View, asked: Asked) -> Any:
    """Answer /v2/ticker/{symbol}."""
    asset = _asset(view, asked.text("symbol"))
    bars = view.bars(asset, VENUE, "spot", view.now - timedelta(hours=24), view.now, "5m")
    bids, asks = book(view, asset, VENUE, "spot", 1)
    last, first = view.price(asset, VENUE, "spot"), float(bars["open"][0])
    high, low = float(bars["high"].to_numpy().max()), float(bars["low"].to_numpy().min())
    volume = float(bars["volume"].sum())
    return [*bids[0], *asks[0], last - first, last / first - 1.0, last, volume, high, low]


def status(view: View, asked: Asked) -> Any:
    """Answer /v2/platform/status: in operation."""
    return [1]


PATHS: dict[str, Answer] = {
    "/v2/platform/status": status,
    "/v2/conf/{config}": configuration,
    "/v2/candles/{key}/hist": candles,
    "/v2/book/{symbol}/{precision}": order_book,
    "/v2/ticker/{symbol}": ticker,
}
"""Every path the simulated Bitfinex has, by what answers it."""
