"""Binance's order books and what `/futures/data` tells of positions: open interest and long/short ratios."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from oihedge.simulator.asked import Asked, Refused, decimal, windowed
from oihedge.simulator.binance import PERP, SPOT, Answer, asked_asset, asked_range, asked_step, refusal
from oihedge.simulator.crowd import Measure, ratios
from oihedge.simulator.depth import book
from oihedge.simulator.market import OI_STEPS, STEP, Kind, Step
from oihedge.simulator.view import View, instant, millis

__all__ = ["PATHS", "refusal"]

OI_HISTORY = timedelta(days=30)


def _recent(view: View, asked: Asked) -> tuple[str, Step, int, datetime, datetime]:
    """What a path of `/futures/data` is asked: asset, period, limit, and the window within the last 30 days."""
    asset, step = asked_asset(view, asked), asked_step(asked, "period", OI_STEPS)
    limit, length = asked.limit(30, 500), STEP[step] // timedelta(milliseconds=1)
    start, end, newest = asked_range(asked)
    oldest = millis(view.now - OI_HISTORY)
    if not newest and start < oldest - length:
        raise Refused(400, {"code": -1130, "msg": "parameter 'startTime' is invalid."})
    start, end = max(start, oldest), min(end, millis(view.now))
    return asset, step, limit, instant(max(start, end - (limit + 1) * length)), instant(end)


def long_short(measure: Measure, view: View, asked: Asked) -> Any:
    """Answer one of the account and position ratios of /futures/data: the last 30 days, the newest rows, 30 to 500."""
    asset, step, limit, start, end = _recent(view, asked)
    rows = windowed(ratios(view, asset, PERP, measure, start, end, step), limit, newest=True)
    return [
        {
            "symbol": f"{asset}USDT", "longAccount": decimal(ratio / (1.0 + ratio), 4),
            "longShortRatio": decimal(ratio, 4), "shortAccount": decimal(1.0 / (1.0 + ratio), 4), "timestamp": ms,
        }
        for ms, ratio in rows.select("ms", "ratio").iter_rows()
    ]  # fmt: skip


def taker_volume(view: View, asked: Asked) -> Any:
    """Answer /futures/data/takerlongshortRatio: a row is what was traded in the period that opens at its timestamp."""
    asset, step, limit, start, end = _recent(view, asked)
    rows = windowed(ratios(view, asset, PERP, "taker_volume", start, end, step), limit, newest=True)
    return [
        {"buySellRatio": decimal(ratio, 4), "buyVol": decimal(buy, 4), "sellVol": decimal(sell, 4), "timestamp": ms}
        for ms, ratio, buy, sell in rows.select("ms", "ratio", "buy", "sell").iter_rows()
    ]


def _depth(venue: str, kind: Kind, default: int, most: int, allowed: tuple[int, ...] = ()) -> Answer:
    """Make the answer of one order-book path; `allowed` are the only limits a venue knows, if it has such."""

    def answer(view: View, asked: Asked) -> Any:
        asset, limit = asked_asset(view, asked), asked.limit(default, most)
        if allowed and limit not in allowed:
            raise Refused(400, {"code": -4021, "msg": f"{limit} is not valid depth limit."})
        how = view.market.instrument(asset, venue, kind)
        bids, asks = (
            [[decimal(price, how.price_decimals), decimal(size, how.size_decimals)] for price, size in side]
            for side in book(view, asset, venue, kind, limit)
        )
        now = millis(view.now)
        stamps = {"E": now, "T": now} if kind == "perp" else {}
        return {"lastUpdateId": now} | stamps | {"bids": bids, "asks": asks}

    return answer


def open_interest_history(view: View, asked: Asked) -> Any:
    """Answer /futures/data/openInterestHist: the last 30 days, 30 rows by default and at most 500, the newest ones."""
    asset, step, limit, start, end = _recent(view, asked)
    rows = view.open_interest(asset, PERP, start, end, step)
    return [
        {
            "symbol": f"{asset}USDT", "sumOpenInterest": decimal(coins, 8), "sumOpenInterestValue": decimal(usd, 4),
            "timestamp": ms,
        }
        for ms, coins, usd in windowed(rows, limit, newest=True).select("ms", "oi_base", "oi_usd").iter_rows()
    ]  # fmt: skip


PATHS: dict[str, Answer] = {
    "/futures/data/openInterestHist": open_interest_history,
    "/futures/data/globalLongShortAccountRatio": partial(long_short, "accounts"),
    "/futures/data/topLongShortAccountRatio": partial(long_short, "top_accounts"),
    "/futures/data/topLongShortPositionRatio": partial(long_short, "top_positions"),
    "/futures/data/takerlongshortRatio": taker_volume,
    "/fapi/v1/depth": _depth(PERP, "perp", 500, 1000, allowed=(5, 10, 20, 50, 100, 500, 1000)),
    "/api/v3/depth": _depth(SPOT, "spot", 100, 5000),
}
"""These paths, by what answers them."""
