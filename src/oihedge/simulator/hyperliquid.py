"""Hyperliquid's public `POST /info`: one path, told apart by the body's `type`."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from oihedge.simulator.asked import Asked, Malformed, Refused, decimal, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.depth import LEVELS, book
from oihedge.simulator.market import STEP, Step
from oihedge.simulator.view import FAR, View, instant, millis

VENUE = "hyperliquid"
CANDLES, FUNDINGS, BOOK = 5000, 500, 20


def refusal(error: Malformed) -> Refused:
    """Word a bad body as Hyperliquid does: one text, with status 422."""
    return Refused(422, {"error": f"Failed to deserialize the JSON body into the target type: {error.name}"})


def info(view: View, asked: Asked) -> Any:
    """Answer `POST /info`.

    Raises:
        Malformed: for an unknown type or coin, or a field that does not fit.
    """
    kind = asked.text("type")
    if kind not in TYPES:
        raise Malformed("type")
    return TYPES[kind](view, asked)


def _coin(view: View, asked: Asked) -> str:
    if asked.text("coin") not in view.market.assets:
        raise Malformed("coin")
    return asked.text("coin")


def spot_meta(view: View, asked: Asked) -> Any:
    """Answer `spotMeta`: the collateral token alone, no spot pairs."""
    token = {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "tokenId": "0x" + "0" * 32}
    return {"tokens": [token | {"isCanonical": True, "evmContract": None, "fullName": None}], "universe": []}


def spot_contexts(view: View, asked: Asked) -> Any:
    """Answer `spotMetaAndAssetCtxs`."""
    return [spot_meta(view, asked), []]


def dexes(view: View, asked: Asked) -> Any:
    """Answer `perpDexs`: only the first exchange, which goes without a name."""
    return [None]


def meta(view: View, asked: Asked) -> Any:
    """Answer `meta`: the perps' universe."""
    return {
        "universe": [
            {
                "szDecimals": view.market.instrument(asset, VENUE, "perp").size_decimals,
                "name": asset,
                "maxLeverage": 25,
                "marginTableId": 25,
            }
            for asset in view.market.assets
        ],
        "marginTables": [],
        "collateralToken": 0,
    }


def contexts(view: View, asked: Asked) -> Any:
    """Answer `metaAndAssetCtxs`: the universe and each perp's present, the only open interest this venue has."""
    return [meta(view, asked), [_context(view, asset) for asset in view.market.assets]]


def _context(view: View, asset: str) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "perp")
    bars = view.bars(asset, VENUE, "perp", view.now - timedelta(hours=24), view.now, "5m")
    price, index = view.price(asset, VENUE, "perp"), view.price(asset, VENUE, "index")
    rate, _ = view.next_funding(asset, VENUE)
    shown = decimal(price, how.price_decimals)
    volume = float(bars["volume"].sum())
    return {
        "funding": decimal(rate, 8), "openInterest": decimal(view.open_interest_now(asset, VENUE), how.size_decimals),
        "prevDayPx": decimal(float(bars["open"][0]), how.price_decimals),
        "dayNtlVlm": decimal(float((bars["volume"] * bars["close"]).sum()), 4),
        "premium": decimal(price / index - 1.0, 8), "oraclePx": decimal(index, how.price_decimals),
        "markPx": decimal(view.price(asset, VENUE, "mark"), how.price_decimals), "midPx": shown,
        "impactPxs": [shown, shown], "dayBaseVlm": decimal(volume, how.size_decimals),
    }  # fmt: skip


def candles(view: View, asked: Asked) -> Any:
    """Answer `candleSnapshot`: ascending, and only of the latest 5000 candles."""
    body = asked.values.get("req")
    if not isinstance(body, dict):
        raise Malformed("req")
    inner = Asked(body)
    coin, interval = _coin(view, inner), inner.text("interval")
    if interval not in STEP:
        raise Malformed("interval")
    start, end = inner.whole("startTime", 0) or 0, inner.whole("endTime", FAR) or 0
    oldest = millis(view.now - CANDLES * STEP[interval])
    rows = view.bars(coin, VENUE, "perp", instant(max(start, oldest + 1)), instant(end), cast(Step, interval))
    how, length = view.market.instrument(coin, VENUE, "perp"), STEP[interval] // timedelta(milliseconds=1)
    price, size = how.price_decimals, how.size_decimals
    return [
        {
            "t": ms, "T": ms + length - 1, "s": coin, "i": interval, "o": decimal(o, price), "c": decimal(c, price),
            "h": decimal(h, price), "l": decimal(low, price), "v": decimal(v, size), "n": int(v * c / 2500),
        }
        for ms, o, h, low, c, v in rows.select("ms", "open", "high", "low", "close", "volume").iter_rows()
    ]  # fmt: skip


def fundings(view: View, asked: Asked) -> Any:
    """Answer `fundingHistory`: ascending from startTime, at most 500 rows."""
    coin, start = _coin(view, asked), asked.whole("startTime")
    if start is None:
        raise Malformed("startTime", missing=True)
    end = asked.whole("endTime", FAR)
    rows = view.funding(coin, VENUE, instant(start), instant(FAR if end is None else end))
    return [
        {"coin": coin, "fundingRate": decimal(rate, 8), "premium": decimal(rate * 8.0, 8), "time": ms}
        for ms, rate in windowed(rows, FUNDINGS, newest=False).select("ms", "rate").iter_rows()
    ]


def l2_book(view: View, asked: Asked) -> Any:
    """Answer `l2Book`: 20 levels a side, each as wide as `nSigFigs` significant figures (2 to 5) make it."""
    coin, figures = _coin(view, asked), asked.whole("nSigFigs")
    if figures is not None and figures not in (2, 3, 4, 5):
        raise Malformed("nSigFigs")
    how = view.market.instrument(coin, VENUE, "perp")
    bids, asks = book(view, coin, VENUE, "perp", BOOK if figures is None else LEVELS)
    if figures is not None:
        width = 10.0 ** (math.floor(math.log10(bids[0][0])) + 1 - figures)
        bids, asks = _grouped(bids, width, math.floor), _grouped(asks, width, math.ceil)
    levels = [
        [{"px": decimal(px, how.price_decimals), "sz": decimal(sz, how.size_decimals), "n": 1} for px, sz in side]
        for side in (bids, asks)
    ]
    return {"coin": coin, "time": millis(view.now), "levels": levels}


def _grouped(
    side: list[tuple[float, float]], width: float, towards: Callable[[float], int]
) -> list[tuple[float, float]]:
    """Levels joined on multiples of `width`, the outermost left out, for it may not be whole."""
    sums: dict[int, float] = {}
    for price, size in side:
        at = towards(round(price / width, 6))
        sums[at] = sums.get(at, 0.0) + size
    return [(at * width, size) for at, size in list(sums.items())[:-1][:BOOK]]


TYPES: dict[str, Answer] = {
    "meta": meta,
    "metaAndAssetCtxs": contexts,
    "spotMeta": spot_meta,
    "spotMetaAndAssetCtxs": spot_contexts,
    "perpDexs": dexes,
    "candleSnapshot": candles,
    "fundingHistory": fundings,
    "l2Book": l2_book,
}
"""Every `type` the simulated Hyperliquid knows, by what answers it."""
