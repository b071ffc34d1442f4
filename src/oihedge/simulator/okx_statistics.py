"""OKX's open interest, funding and trading statistics (`/rubik`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oihedge.simulator.asked import Asked, decimal, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.crowd import Measure, ratios
from oihedge.simulator.market import STEP, Step
from oihedge.simulator.okx_terms import (
    VENUE,
    assets_of,
    bounds,
    coins_of,
    contracts,
    refuse,
    step_of,
    swap_of,
    wrap,
)
from oihedge.simulator.view import View, instant, millis

RUBIK = 1440
"""Entries that the trading statistics go back."""
FUNDINGS = timedelta(days=92)
_MS = timedelta(milliseconds=1)


def open_interest(view: View, asked: Asked) -> Any:
    """Answer /public/open-interest for one swap or all."""
    if asked.text("instType") != "SWAP":
        return wrap([])
    rows = []
    for asset in assets_of(view, asked):
        coins = view.open_interest_now(asset, VENUE)
        usd = decimal(coins * view.price(asset, VENUE, "mark"), 4)
        rows.append(
            {
                "instType": "SWAP", "instId": f"{asset}-USDT-SWAP", "oi": contracts(view, asset, coins),
                "oiCcy": coins_of(view, asset, coins), "oiUsd": usd, "ts": str(millis(view.now)),
            }
        )  # fmt: skip
    return wrap(rows)


def open_interest_history(view: View, asked: Asked) -> Any:
    """Answer /rubik/stat/contracts/open-interest-history: at most 100 rows, of the latest 1,440 entries."""
    asset = swap_of(view, asked)
    step, limit, start, end = _statistics(view, asked)
    rows = windowed(view.open_interest(asset, VENUE, instant(start), instant(end), step), limit, newest=True)
    return wrap(
        [
            [str(ms), contracts(view, asset, coins), coins_of(view, asset, coins), decimal(usd, 4)]
            for ms, coins, usd in reversed(rows.select("ms", "oi_base", "oi_usd").rows())
        ]
    )


def _statistics(view: View, asked: Asked) -> tuple[Step, int, int, int]:
    """Step, limit, first and last ms of a trading statistic; `begin` and `end` are exclusive."""
    step, limit = step_of(asked, "period", "5m"), asked.limit(100, 100)
    if step == "1m":
        raise refuse(51000, "Parameter period error")
    length, now = STEP[step] // _MS, millis(view.now)
    first, last = bounds(asked, "begin", "end", now)
    newest = now - (view.now - view.market.origin) % STEP[step] // _MS
    return step, limit, max(first, last - limit * length, newest - (RUBIK - 1) * length), last


def _ratio(measure: Measure) -> Answer:
    """Make the answer of one long/short path: longs over shorts, of the latest 1,440 entries, 100 a page."""

    def answer(view: View, asked: Asked) -> Any:
        asset = swap_of(view, asked)
        step, limit, start, end = _statistics(view, asked)
        rows = windowed(ratios(view, asset, VENUE, measure, instant(start), instant(end), step), limit, newest=True)
        return wrap([[str(ms), decimal(ratio, 8)] for ms, ratio in reversed(rows.select("ms", "ratio").rows())])

    return answer


def funding_rate(view: View, asked: Asked) -> Any:
    """Answer /public/funding-rate: what the running interval pays by now, for one swap or ANY."""
    asked.text("instId")
    interval = view.market.perps[VENUE].funding_interval_h * 3_600_000
    rows = []
    for asset in assets_of(view, asked):
        (rate, pays_at), (paid, _) = view.next_funding(asset, VENUE), view.last_funding(asset, VENUE)
        rows.append(
            {
                "instType": "SWAP", "instId": f"{asset}-USDT-SWAP", "method": "current_period", "formulaType": "noRate",
                "fundingRate": decimal(rate, 8), "fundingTime": str(pays_at), "nextFundingRate": "",
                "nextFundingTime": str(pays_at + interval), "settState": "settled", "settFundingRate": decimal(paid, 8),
                "ts": str(millis(view.now)),
            }
        )  # fmt: skip
    return wrap(rows)


def funding_history(view: View, asked: Asked) -> Any:
    """Answer /public/funding-rate-history: at most 400 rows, of the last three months."""
    asset, limit = swap_of(view, asked), min(asked.limit(400, 10_000), 400)
    first, last = bounds(asked, "before", "after", millis(view.now))
    oldest = millis(view.now - FUNDINGS)
    rows = windowed(view.funding(asset, VENUE, instant(max(first, oldest)), instant(last)), limit, newest=True)
    shared = {"instType": "SWAP", "instId": f"{asset}-USDT-SWAP", "method": "current_period", "formulaType": "noRate"}
    return wrap(
        [
            shared | {"fundingRate": decimal(rate, 8), "realizedRate": decimal(rate, 8), "fundingTime": str(ms)}
            for ms, rate in reversed(rows.select("ms", "rate").rows())
        ]
    )


_RUBIK = "/api/v5/rubik/stat/contracts/"
PATHS: dict[str, Answer] = {
    "/api/v5/public/open-interest": open_interest,
    "/api/v5/public/funding-rate": funding_rate,
    "/api/v5/public/funding-rate-history": funding_history,
    _RUBIK + "open-interest-history": open_interest_history,
    _RUBIK + "long-short-account-ratio-contract": _ratio("accounts"),
    _RUBIK + "long-short-account-ratio-contract-top-trader": _ratio("top_accounts"),
    _RUBIK + "long-short-position-ratio-contract-top-trader": _ratio("top_positions"),
}
"""These paths, by what answers them."""
