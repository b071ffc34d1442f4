"""dYdX v4's indexer: USDC perps, stamps as ISO text, newest rows first; open interest only at each candle's start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from oihedge.simulator.asked import Asked, Malformed, Refused, decimal, increment, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.depth import book
from oihedge.simulator.market import STEP, Step
from oihedge.simulator.view import FAR, View, instant, millis

VENUE = "dydx"
STEPS: dict[str, Step] = {"1MIN": "1m", "5MINS": "5m", "1HOUR": "1h"}
MOST, LEVELS = 1000, 100
_MS = timedelta(milliseconds=1)
_WORDS = {
    "ticker": "ticker must be a valid ticker (BTC-USD, etc)",
    "limit": f"limit must be a positive integer that is not greater than max: {MOST}",
    "resolution": "resolution must be a valid Candle Resolution, one of 1DAY,4HOURS,1HOUR,30MINS,15MINS,5MINS,1MIN",
}


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as the indexer does."""
    where = "params" if error.name == "ticker" else "query"
    row = {"msg": _WORDS.get(error.name, "Invalid value"), "param": error.name, "location": where}
    return Refused(400, {"errors": [row]})


def _asset(view: View, asked: Asked) -> str:
    asset = asked.text("ticker").removesuffix("-USD")
    if asset == asked.text("ticker") or asset not in view.market.assets:
        raise Malformed("ticker")
    return asset


def _moment(asked: Asked, name: str) -> int | None:
    """A parameter in ISO 8601 as ms."""
    if asked.values.get(name) in (None, ""):
        return None
    try:
        moment = datetime.fromisoformat(asked.text(name))
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, millis(aware))
    except (ValueError, OverflowError) as error:
        raise Malformed(name) from error


def _iso(ms: int) -> str:
    return instant(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time(view: View, asked: Asked) -> Any:
    """Answer /time."""
    now = millis(view.now)
    return {"iso": _iso(now), "epoch": now / 1000}


def markets(view: View, asked: Asked) -> Any:
    """Answer /perpetualMarkets, for one ticker or all; the present open interest and funding are here."""
    assets = [_asset(view, asked)] if "ticker" in asked.values else list(view.market.assets)
    return {"markets": {f"{asset}-USD": _market(view, asset) for asset in assets}}


def _market(view: View, asset: str) -> dict[str, Any]:
    how, bars = view.market.instrument(asset, VENUE, "perp"), view.day(asset, VENUE, "perp")
    coins = decimal(view.open_interest_now(asset, VENUE), how.size_decimals)
    price, traded = view.price(asset, VENUE, "perp"), float((bars["volume"] * bars["close"]).sum())
    return {
        "clobPairId": str(view.market.assets.index(asset)), "ticker": f"{asset}-USD", "status": "ACTIVE",
        "oraclePrice": decimal(view.price(asset, VENUE, "index"), how.price_decimals + 4),
        "priceChange24H": decimal(price - float(bars["open"][0]), how.price_decimals + 4),
        "volume24H": decimal(traded, 4), "trades24H": int(traded / 2500),
        "nextFundingRate": decimal(view.next_funding(asset, VENUE)[0], 8), "initialMarginFraction": "0.02",
        "maintenanceMarginFraction": "0.012", "openInterest": coins, "baseOpenInterest": coins,
        "atomicResolution": -10, "quantumConversionExponent": -9, "tickSize": increment(how.price_decimals),
        "stepSize": increment(how.size_decimals), "stepBaseQuantums": 1_000_000, "subticksPerTick": 100_000,
        "marketType": "CROSS", "openInterestLowerCap": "0", "openInterestUpperCap": "0", "defaultFundingRate1H": "0",
    }  # fmt: skip


def candles(view: View, asked: Asked) -> Any:
    """Answer /candles/perpetualMarkets/{ticker}: newest first, at most 1000 in [fromISO, toISO).

    The window is read in this spelling only: what ccxt's unified call sends as fromIso and toIso is ignored.
    """
    asset, limit = _asset(view, asked), asked.limit(MOST, MOST)
    name = asked.text("resolution")
    if name not in STEPS:
        raise Malformed("resolution")
    start, end, step = _moment(asked, "fromISO"), _moment(asked, "toISO"), STEPS[name]
    stop = min(millis(view.now) + 1, FAR if end is None else end)
    first = max(start or 0, stop - (limit + 1) * (STEP[step] // _MS))
    rows = view.bars(asset, VENUE, "perp", instant(first), instant(stop - 1), step)
    rows = windowed(rows, limit, newest=True)
    if not rows.height:
        return {"candles": []}
    native: Step = "1h" if step == "1h" else "5m"
    held = view.open_interest(asset, VENUE, rows["ts"][0] - STEP["5m"], rows["ts"][-1], native).select("ts", "oi_base")
    rows = rows.join_asof(held, on="ts")
    return {"candles": [_candle(view, asset, name, row) for row in reversed(rows.rows(named=True))]}


def _candle(view: View, asset: str, resolution: str, row: dict[str, Any]) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "perp")
    usd = row["volume"] * (row["open"] + row["close"]) / 2
    prices = {name: decimal(row[name], how.price_decimals) for name in ("low", "high", "open", "close")}
    return {
        "startedAt": _iso(row["ms"]), "ticker": f"{asset}-USD", "resolution": resolution, **prices,
        "baseTokenVolume": decimal(row["volume"], how.size_decimals), "usdVolume": decimal(usd, 4),
        "trades": int(usd / 2500), "startingOpenInterest": decimal(row["oi_base"], how.size_decimals),
        "orderbookMidPriceOpen": prices["open"], "orderbookMidPriceClose": prices["close"],
    }  # fmt: skip


def funding_history(view: View, asked: Asked) -> Any:
    """Answer /historicalFunding/{ticker}: newest first, at most 1000, stamped by the block after the hour."""
    asset, limit = _asset(view, asked), asked.limit(MOST, MOST)
    before = _moment(asked, "effectiveBeforeOrAt")
    end = millis(view.now) if before is None else min(before, millis(view.now))
    rows = view.funding(asset, VENUE, instant(max(0, end - (limit + 2) * 3_600_000)), instant(end))
    late = [ms + _block_delay(ms) for ms in rows["ms"]]
    rows = windowed(
        rows.with_columns(pl.Series("late", late, dtype=pl.Int64)).filter(pl.col("late") <= end), limit, newest=True
    )
    if not rows.height:
        return {"historicalFunding": []}
    paid = view.bars(asset, VENUE, "index", rows["ts"][0], rows["ts"][-1] + _MS, "1h").select("ts", "open")
    decimals = view.market.instrument(asset, VENUE, "perp").price_decimals + 4
    return {
        "historicalFunding": [
            {
                "ticker": f"{asset}-USD", "rate": decimal(rate, 8), "price": decimal(price, decimals),
                "effectiveAtHeight": str(at // 1100), "effectiveAt": _iso(at),
            }
            for rate, price, at in reversed(rows.join(paid, on="ts", how="left").select("rate", "open", "late").rows())
        ]
    }  # fmt: skip


def _block_delay(ms: int) -> int:
    """How many ms after the hour the block came that paid it."""
    return 5 + ms // 3_600_000 * 7919 % 1200


def order_book(view: View, asked: Asked) -> Any:
    """Answer /orderbooks/perpetualMarket/{ticker}."""
    asset = _asset(view, asked)
    how = view.market.instrument(asset, VENUE, "perp")
    bids, asks = (
        [
            {"price": decimal(price, how.price_decimals), "size": decimal(size, how.size_decimals)}
            for price, size in side
        ]
        for side in book(view, asset, VENUE, "perp", LEVELS)
    )
    return {"bids": bids, "asks": asks}


PATHS: dict[str, Answer] = {
    "/v4/time": time,
    "/v4/perpetualMarkets": markets,
    "/v4/candles/perpetualMarkets/{ticker}": candles,
    "/v4/historicalFunding/{ticker}": funding_history,
    "/v4/orderbooks/perpetualMarket/{ticker}": order_book,
}
"""Every path the simulated indexer has, by what answers it."""
