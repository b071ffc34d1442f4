"""Bybit's public REST v5: linear perps and spot; newest rows first, refusals as a retCode in an HTTP 200, as there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oihedge.simulator.asked import Asked, Malformed, Refused, asset_of, decimal, increment, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.crowd import ratios
from oihedge.simulator.depth import book
from oihedge.simulator.market import STEP, Kind, Step
from oihedge.simulator.view import FAR, View, instant, millis

VENUE = "bybit"
KLINE_STEPS: dict[str, Step] = {"1": "1m", "5": "5m", "60": "1h"}
OI_STEPS: dict[str, Step] = {"5min": "5m", "1h": "1h"}


def _refuse(message: str) -> Refused:
    return Refused(200, {"retCode": 10001, "retMsg": message, "result": {}, "retExtInfo": {}, "time": 0})


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Bybit does."""
    return _refuse(f"params error: {error.name} {'is missing' if error.missing else 'invalid'}")


def _wrap(view: View, result: dict[str, Any]) -> Any:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": millis(view.now)}


def _market(view: View, asked: Asked, *, perp_only: bool = False) -> tuple[str, Kind]:
    category = asked.text("category")
    if category not in ("linear", "spot") or (perp_only and category == "spot"):
        raise _refuse("params error: category invalid")
    asset = asset_of(view.market, asked.text("symbol"))
    if asset is None:
        raise _refuse("Not supported symbols")
    return asset, "perp" if category == "linear" else "spot"


def _step(asked: Asked, name: str, steps: dict[str, Step]) -> Step:
    if asked.text(name) not in steps:
        raise _refuse("Invalid period!")
    return steps[asked.text(name)]


def time(view: View, asked: Asked) -> Any:
    """Answer /v5/market/time."""
    now = millis(view.now)
    return _wrap(view, {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)})


def instruments(view: View, asked: Asked) -> Any:
    """Answer /v5/market/instruments-info; nothing is in pre-launch, and there is one page."""
    category = asked.text("category")
    if category not in ("linear", "spot", "inverse", "option"):
        raise _refuse("params error: category invalid")
    rows = []
    if category in ("linear", "spot") and asked.values.get("status") in (None, "Trading"):
        rows = [_instrument(view, asset, category) for asset in view.market.assets]
    return _wrap(view, {"category": category, "list": rows, "nextPageCursor": ""})


def _instrument(view: View, asset: str, category: str) -> dict[str, Any]:
    perp = category == "linear"
    how = view.market.instrument(asset, VENUE, "perp" if perp else "spot")
    tick, lot, least = increment(how.price_decimals), increment(how.size_decimals), f"{how.min_notional:g}"
    shared = {"symbol": f"{asset}USDT", "baseCoin": asset, "quoteCoin": "USDT", "status": "Trading"}
    if not perp:
        size = {"basePrecision": lot, "quotePrecision": "0.0000001", "minOrderQty": lot, "maxOrderQty": "1000000000"}
        return shared | {
            "innovation": "0",
            "marginTrading": "none",
            "lotSizeFilter": size | {"minOrderAmt": least, "maxOrderAmt": "10000000"},
            "priceFilter": {"tickSize": tick},
        }
    return shared | {
        "contractType": "LinearPerpetual", "launchTime": str(millis(view.market.origin)), "deliveryTime": "0",
        "settleCoin": "USDT", "priceScale": str(how.price_decimals), "copyTrading": "none", "isPreListing": False,
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        "lotSizeFilter": {"maxOrderQty": "1000000000", "minOrderQty": lot, "qtyStep": lot, "minNotionalValue": least},
        "fundingInterval": view.market.settings.perps[VENUE].funding_interval_h * 60,
    }  # fmt: skip


def _klines(kind: Kind | None) -> Answer:
    """Make the answer of one kline path; `kind` None takes it from the category. Newest first, 200 to 1000 rows."""

    def answer(view: View, asked: Asked) -> Any:
        asset, traded = _market(view, asked, perp_only=kind is not None)
        shown = kind or traded
        step, limit = _step(asked, "interval", KLINE_STEPS), asked.limit(200, 1000)
        length = STEP[step] // timedelta(milliseconds=1)
        start, end = asked.whole("start"), asked.whole("end")
        if end is None:
            end = FAR if start is None else start + (limit - 1) * length
        end = min(end, millis(view.now))
        first = max(start or 0, end - limit * length)
        rows = windowed(view.bars(asset, VENUE, shown, instant(first), instant(end), step), limit, newest=True)
        how = view.market.instrument(asset, VENUE, "perp" if shown == "index" else shown)
        price, size = how.price_decimals, how.size_decimals
        listed = [
            [str(ms), *(decimal(x, price) for x in (o, h, low, c)), decimal(v, size), decimal(v * (o + c) / 2, 4)]
            for ms, o, h, low, c, v in rows.select("ms", "open", "high", "low", "close", "volume").iter_rows()
        ]
        width = 7 if kind is None else 5
        result = {"symbol": f"{asset}USDT", "category": asked.text("category")}
        return _wrap(view, result | {"list": [row[:width] for row in reversed(listed)]})

    return answer


def funding_history(view: View, asked: Asked) -> Any:
    """Answer /v5/market/funding/history: newest first, at most 200 rows; a start alone is refused, as by Bybit."""
    asset, _ = _market(view, asked, perp_only=True)
    limit, start, end = asked.limit(200, 200), asked.whole("startTime"), asked.whole("endTime")
    if start is not None and end is None:
        raise _refuse("params error: endTime is missing")
    rows = view.funding(asset, VENUE, instant(start or 0), instant(FAR if end is None else end))
    listed = [
        {"symbol": f"{asset}USDT", "fundingRate": decimal(rate, 8), "fundingRateTimestamp": str(ms)}
        for ms, rate in windowed(rows, limit, newest=True).select("ms", "rate").iter_rows()
    ]
    return _wrap(view, {"category": "linear", "list": listed[::-1]})


def open_interest(view: View, asked: Asked) -> Any:
    """Answer /v5/market/open-interest: newest first, 50 rows by default and at most 200, further pages by cursor.

    The end leads: a lone startTime is ignored, as by Bybit.
    """
    asset, _ = _market(view, asked, perp_only=True)
    step, limit = _step(asked, "intervalTime", OI_STEPS), asked.limit(50, 200)
    length = STEP[step] // timedelta(milliseconds=1)
    end = asked.whole("endTime")
    start = 0 if end is None else asked.whole("startTime", 0) or 0
    end = min(FAR if end is None else end, millis(view.now))
    cursor = asked.values.get("cursor")
    if cursor:
        end = min(end, _position(str(cursor)) - 1)
    rows = view.open_interest(asset, VENUE, instant(max(start, end - (limit + 1) * length)), instant(end), step)
    page = windowed(rows, limit, newest=True).select("ms", "oi_base").rows()
    size = view.market.instrument(asset, VENUE, "perp").size_decimals
    listed = [{"openInterest": decimal(coins, size), "timestamp": str(ms)} for ms, coins in reversed(page)]
    following = f"before={page[0][0]}" if rows.height > limit else ""
    result = {"symbol": f"{asset}USDT", "category": "linear", "list": listed, "nextPageCursor": following}
    return _wrap(view, result)


def account_ratio(view: View, asked: Asked) -> Any:
    """Answer /v5/market/account-ratio: newest first, 50 rows by default and at most 500, further pages by cursor."""
    asset, _ = _market(view, asked, perp_only=True)
    step, limit = _step(asked, "period", OI_STEPS), asked.limit(50, 500)
    length = STEP[step] // timedelta(milliseconds=1)
    start, end = asked.whole("startTime", 0) or 0, asked.whole("endTime", FAR)
    end = min(FAR if end is None else end, millis(view.now))
    cursor = asked.values.get("cursor")
    if cursor:
        end = min(end, _position(str(cursor)) - 1)
    first = max(start, end - (limit + 1) * length)
    rows = ratios(view, asset, VENUE, "accounts", instant(first), instant(end), step)
    page = windowed(rows, limit, newest=True).select("ms", "ratio").rows()
    listed = [
        {
            "symbol": f"{asset}USDT", "buyRatio": decimal(ratio / (1.0 + ratio), 4),
            "sellRatio": decimal(1.0 - round(ratio / (1.0 + ratio), 4), 4), "timestamp": str(ms),
        }
        for ms, ratio in reversed(page)
    ]  # fmt: skip
    following = f"before={page[0][0]}" if rows.height > limit else ""
    return _wrap(view, {"list": listed, "nextPageCursor": following})


def orderbook(view: View, asked: Asked) -> Any:
    """Answer /v5/market/orderbook: at most 500 levels of a perp (25 by default), 200 of spot (1 by default)."""
    asset, kind = _market(view, asked)
    how = view.market.instrument(asset, VENUE, kind)
    limit = asked.limit(25, 500) if kind == "perp" else asked.limit(1, 200)
    bids, asks = (
        [[decimal(price, how.price_decimals), decimal(size, how.size_decimals)] for price, size in side]
        for side in book(view, asset, VENUE, kind, limit)
    )
    now = millis(view.now)
    return _wrap(view, {"s": f"{asset}USDT", "b": bids, "a": asks, "ts": now, "u": now, "seq": now, "cts": now})


def _position(cursor: str) -> int:
    digits = cursor.removeprefix("before=")
    if not (cursor.startswith("before=") and digits.isascii() and digits.isdigit() and len(digits) < 17):
        raise _refuse("params error: cursor invalid")
    return int(digits)


def tickers(view: View, asked: Asked) -> Any:
    """Answer /v5/market/tickers for one symbol or all."""
    category = asked.text("category")
    if "symbol" in asked.values:
        assets = [_market(view, asked)[0]]
    elif category in ("linear", "spot"):
        assets = list(view.market.assets)
    else:
        raise _refuse("params error: category invalid")
    return _wrap(view, {"category": category, "list": [_ticker(view, asset, category) for asset in assets]})


def _ticker(view: View, asset: str, category: str) -> dict[str, Any]:
    kind: Kind = "perp" if category == "linear" else "spot"
    how, price = view.market.instrument(asset, VENUE, kind), view.price(asset, VENUE, kind)
    bars = view.bars(asset, VENUE, kind, view.now - timedelta(hours=24), view.now, "5m")
    row = {
        "symbol": f"{asset}USDT", "lastPrice": decimal(price, how.price_decimals),
        "prevPrice24h": decimal(float(bars["open"][0]), how.price_decimals),
        "price24hPcnt": decimal(price / float(bars["open"][0]) - 1.0, 6),
        "highPrice24h": decimal(float(bars["high"].to_numpy().max()), how.price_decimals),
        "lowPrice24h": decimal(float(bars["low"].to_numpy().min()), how.price_decimals),
        "volume24h": decimal(float(bars["volume"].sum()), how.size_decimals),
        "turnover24h": decimal(float((bars["volume"] * bars["close"]).sum()), 4),
    }  # fmt: skip
    if kind == "spot":
        return row
    rate, following = view.next_funding(asset, VENUE)
    mark, coins = view.price(asset, VENUE, "mark"), view.open_interest_now(asset, VENUE)
    return row | {
        "indexPrice": decimal(view.price(asset, VENUE, "index"), how.price_decimals),
        "markPrice": decimal(mark, how.price_decimals), "fundingRate": decimal(rate, 8),
        "openInterest": decimal(coins, how.size_decimals), "openInterestValue": decimal(coins * mark, 4),
        "nextFundingTime": str(following),
        "fundingIntervalHour": str(view.market.settings.perps[VENUE].funding_interval_h),
    }  # fmt: skip


PATHS: dict[str, Answer] = {
    "/v5/market/time": time,
    "/v5/market/instruments-info": instruments,
    "/v5/market/kline": _klines(None),
    "/v5/market/mark-price-kline": _klines("mark"),
    "/v5/market/index-price-kline": _klines("index"),
    "/v5/market/funding/history": funding_history,
    "/v5/market/open-interest": open_interest,
    "/v5/market/account-ratio": account_ratio,
    "/v5/market/orderbook": orderbook,
    "/v5/market/tickers": tickers,
}
"""Every path the simulated Bybit has, by what answers it."""
