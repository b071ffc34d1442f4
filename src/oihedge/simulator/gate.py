"""Gate's public REST v4 for USDT futures: seconds for stamps, contracts for sizes, a label for refusals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from oihedge.simulator.asked import Asked, Malformed, Refused, decimal, increment, windowed
from oihedge.simulator.binance import Answer
from oihedge.simulator.crowd import Measure, ratios
from oihedge.simulator.depth import book
from oihedge.simulator.market import STEP, Kind, Step
from oihedge.simulator.view import FAR, View, instant, millis

VENUE, SETTLE = "gate", "usdt"
STEPS: dict[str, Step] = {"1m": "1m", "5m": "5m", "1h": "1h"}
CANDLES, AGO = 2000, 10_000
"""Most candles of one answer, and how many candles back they go."""
STATS, FUNDINGS, LIQUIDATIONS = 100, 1000, 1000
LIQUIDATION_SPAN = timedelta(hours=1)
_MEASURES: dict[str, Measure] = {
    "lsr_account": "accounts", "lsr_taker": "taker_volume", "top_lsr_account": "top_accounts",
    "top_lsr_size": "top_positions",
}  # fmt: skip


def _refuse(label: str, message: str) -> Refused:
    return Refused(400, {"label": label, "message": message})


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Gate does."""
    if error.missing:
        return _refuse("MISSING_REQUIRED_PARAM", f"Missing required parameter: {error.name}")
    return _refuse("INVALID_PARAM_VALUE", f"Invalid request parameter `{error.name}` value")


def _asset(view: View, asked: Asked, contract: str | None = None) -> str:
    name = asked.text("contract") if contract is None else contract
    asset = name.removesuffix("_USDT")
    if asset == name or asset not in view.market.assets or asked.text("settle") != SETTLE:
        raise _refuse("CONTRACT_NOT_FOUND", "CONTRACT_NOT_FOUND")
    return asset


def _step(asked: Asked, steps: dict[str, Step]) -> Step:
    value = str(asked.values.get("interval") or "5m")
    if value not in steps:
        raise Malformed("interval")
    return steps[value]


def _window(view: View, asked: Asked) -> tuple[int | None, int]:
    """`from` and `to` in ms, the present where no end was given."""
    start, end, now = asked.whole("from"), asked.whole("to"), millis(view.now)
    return (None if start is None else min(start * 1000, FAR)), now if end is None else min(end * 1000, now)


def _lots(view: View, asset: str, coins: float) -> int:
    return round(coins / view.market.instrument(asset, VENUE, "perp").contract_size)


def time(view: View, asked: Asked) -> Any:
    """Answer /spot/time."""
    return {"server_time": millis(view.now)}


def nothing(view: View, asked: Asked) -> Any:
    """Answer what the simulated Gate has none of: currencies, pairs, delivery contracts, options."""
    return []


def contracts(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/contracts."""
    return [_contract(view, asset) for asset in view.market.assets] if asked.text("settle") == SETTLE else []


def contract(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/contracts/{contract}; position_size is the open interest."""
    return _contract(view, _asset(view, asked))


def _contract(view: View, asset: str) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "perp")
    (estimate, pays_at), (paid, _) = view.next_funding(asset, VENUE), view.last_funding(asset, VENUE)
    tick, opened = increment(how.price_decimals), millis(view.market.origin) // 1000
    prices = {
        "last_price": view.price(asset, VENUE, "perp"), "mark_price": view.price(asset, VENUE, "mark"),
        "index_price": view.price(asset, VENUE, "index"),
    }  # fmt: skip
    return {
        "name": f"{asset}_USDT", "type": "direct", "status": "trading", "in_delisting": False, "enable_decimal": False,
        "quanto_multiplier": f"{how.contract_size:g}", "order_size_min": 1, "order_size_max": 1_000_000,
        "order_price_round": tick, "mark_price_round": tick, "order_price_deviate": "0.5", "leverage_min": "1",
        "leverage_max": "100", "maker_fee_rate": "-0.0001", "taker_fee_rate": "0.00075", "mark_type": "index",
        "funding_rate": decimal(estimate, 8), "funding_rate_indicative": decimal(estimate, 8),
        "funding_rate_last": decimal(paid, 8), "funding_next_apply": pays_at // 1000, "funding_offset": 0,
        "funding_interval": view.market.perps[VENUE].funding_interval_h * 3600, "interest_rate": "0.0003",
        "position_size": _lots(view, asset, view.open_interest_now(asset, VENUE)), "create_time": opened,
        "launch_time": opened, **{name: decimal(price, how.price_decimals) for name, price in prices.items()},
    }  # fmt: skip


def candles(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/candlesticks: ascending, both ends included; `mark_` and `index_` before the contract.

    100 rows up to the end, or the window from `from`, which must hold no more than 2,000 and start no more than 10,000
    candles ago.
    """
    kind, asset = _priced(view, asked)
    step = _step(asked, STEPS)
    length, (start, end) = STEP[step] // timedelta(milliseconds=1), _window(view, asked)
    if start is not None and asked.values.get("limit"):
        raise _refuse("INVALID_PARAM_VALUE", "Cannot specify limit when from or to is specified")
    if start is None:
        start = end - asked.limit(100, CANDLES) * length + 1
    elif end - start > CANDLES * length:
        raise _refuse("INVALID_PARAM_VALUE", "Candlestick range too broad. Maximum 2000 data points is recommended")
    if start < millis(view.now) - AGO * length:
        raise _refuse("INVALID_PARAM_VALUE", "Candlestick too long ago. Maximum 10000 points ago are allowed")
    rows = view.bars(asset, VENUE, kind, instant(start), instant(end), step)
    return [
        _candle(view, asset, kind, row)
        for row in rows.select("ms", "open", "high", "low", "close", "volume").iter_rows()
    ]


def _priced(view: View, asked: Asked) -> tuple[Kind, str]:
    name = asked.text("contract")
    kinds: dict[str, Kind] = {"mark": "mark", "index": "index"}
    before, _, rest = name.partition("_")
    return (kinds[before], _asset(view, asked, rest)) if before in kinds else ("perp", _asset(view, asked))


def _candle(view: View, asset: str, kind: Kind, row: tuple[Any, ...]) -> dict[str, Any]:
    ms, opened, high, low, closed, volume = row
    decimals = view.market.instrument(asset, VENUE, "perp").price_decimals
    names = {"o": opened, "h": high, "l": low, "c": closed}
    shown = {"t": ms // 1000, **{name: decimal(price, decimals) for name, price in names.items()}}
    if kind != "perp":
        return shown
    return shown | {"v": _lots(view, asset, volume), "sum": decimal(volume * (opened + closed) / 2, 4)}


def stats(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/contract_stats: ascending, 30 rows by default and at most 100.

    From `from` on, else the newest. Open interest and ratios of accounts and positions are those at `time`;
    liquidations and taker volume are of the interval that begins there, so far as it is over.
    """
    asset, step = _asset(view, asked), _step(asked, {"5m": "5m", "1h": "1h"})
    limit, length, start = asked.limit(30, STATS), STEP[step], asked.whole("from")
    first = view.now - limit * length if start is None else min(instant(start * 1000), view.now + length)
    last = min(first + limit * length, view.now)
    rows = windowed(view.open_interest(asset, VENUE, first, last, step), limit, newest=start is None)
    if not rows.height:
        return []
    opened, closed = rows["ts"][0], rows["ts"][-1]
    forced = view.liquidations(asset, VENUE, opened, closed + length)
    forced = forced.group_by_dynamic("ts", every=step).agg(pl.col("long_usd").sum(), pl.col("short_usd").sum())
    rows = rows.join(forced, on="ts", how="left").with_columns(pl.col("long_usd", "short_usd").fill_null(0.0))
    for name, measure in _MEASURES.items():
        ratio = ratios(view, asset, VENUE, measure, opened, closed, step).select("ts", pl.col("ratio").alias(name))
        rows = rows.join(ratio, on="ts", how="left")
    return [_stat(view, asset, row) for row in rows.iter_rows(named=True)]


def _stat(view: View, asset: str, row: dict[str, Any]) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "perp")
    price = row["oi_usd"] / row["oi_base"]
    forced: dict[str, str] = {}
    for side in ("long", "short"):
        usd = row[f"{side}_usd"]
        forced |= {f"{side}_liq_usd": decimal(usd, 4), f"{side}_liq_amount": decimal(usd / price, 8)}
        forced[f"{side}_liq_size"] = str(_lots(view, asset, usd / price))
    shown = {name: decimal(row[name] or 0.0, 8) for name in _MEASURES}
    return {
        "time": row["ms"] // 1000, "open_interest": _lots(view, asset, row["oi_base"]),
        "open_interest_usd": decimal(row["oi_usd"], 4), "mark_price": decimal(price, how.price_decimals),
    } | forced | shown  # fmt: skip


def funding_history(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/funding_rate: newest first, 100 rows by default and at most 1000."""
    asset, limit, (start, end) = _asset(view, asked), asked.limit(100, FUNDINGS), _window(view, asked)
    rows = windowed(view.funding(asset, VENUE, instant(start or 0), instant(end)), limit, newest=True)
    return [{"r": decimal(rate, 8), "t": ms // 1000} for ms, rate in reversed(rows.select("ms", "rate").rows())]


def liquidations(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/liq_orders: newest first, within at most an hour; `size` is the position's, signed."""
    asset, limit, (start, end) = _asset(view, asked), asked.limit(100, LIQUIDATIONS), _window(view, asked)
    span = LIQUIDATION_SPAN // timedelta(milliseconds=1)
    start = end - span if start is None else start
    if asked.values.get("to") in (None, ""):
        end = min(end, start + span)
    if end - start > span:
        raise _refuse("INVALID_PARAM_VALUE", "The time range between from and to must not exceed 3600 seconds")
    rows = view.liquidations(asset, VENUE, instant(start), instant(end + 1)) if start <= end else None
    orders = [] if rows is None else [
        order
        for ms, longs, shorts in rows.select("ms", "long_usd", "short_usd").iter_rows()
        for order in (_order(view, asset, ms, longs, 1), _order(view, asset, ms, shorts, -1))
        if order["size"]
    ]  # fmt: skip
    return orders[-limit:][::-1]


def _order(view: View, asset: str, ms: int, usd: float, way: int) -> dict[str, Any]:
    """All of one side in 5 minutes as one order, at the price that the 5 minutes closed at."""
    bars = view.bars(asset, VENUE, "perp", instant(ms), instant(ms + 1), "5m")
    price = float(bars["close"][0])
    decimals = view.market.instrument(asset, VENUE, "perp").price_decimals
    size = way * _lots(view, asset, usd / price)
    return {
        "contract": f"{asset}_USDT", "time": ms // 1000, "size": size, "order_size": -size, "left": 0,
        "order_price": decimal(price * (1.0 - 0.005 * way), decimals), "fill_price": decimal(price, decimals),
    }  # fmt: skip


def order_book(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/order_book: 10 levels by default and at most 300, sizes in contracts."""
    asset, limit = _asset(view, asked), asked.limit(10, 300)
    decimals, now = view.market.instrument(asset, VENUE, "perp").price_decimals, millis(view.now)
    bids, asks = (
        [{"p": decimal(price, decimals), "s": _lots(view, asset, size)} for price, size in side]
        for side in book(view, asset, VENUE, "perp", limit)
    )
    return {"id": now, "current": now / 1000, "update": now / 1000, "asks": asks, "bids": bids}


def tickers(view: View, asked: Asked) -> Any:
    """Answer /futures/{settle}/tickers for one contract or all."""
    if asked.text("settle") != SETTLE:
        return []
    assets = [_asset(view, asked)] if "contract" in asked.values else list(view.market.assets)
    return [_ticker(view, asset) for asset in assets]


def _ticker(view: View, asset: str) -> dict[str, Any]:
    how, bars = view.market.instrument(asset, VENUE, "perp"), view.day(asset, VENUE, "perp")
    (bid, _), (ask, _) = (side[0] for side in book(view, asset, VENUE, "perp", 1))
    last, first = view.price(asset, VENUE, "perp"), float(bars["open"][0])
    volume, rate = float(bars["volume"].sum()), decimal(view.next_funding(asset, VENUE)[0], 8)
    prices = {
        "last": last, "mark_price": view.price(asset, VENUE, "mark"), "index_price": view.price(asset, VENUE, "index"),
        "highest_bid": bid, "lowest_ask": ask, "high_24h": float(bars["high"].to_numpy().max()),
        "low_24h": float(bars["low"].to_numpy().min()),
    }  # fmt: skip
    return {
        "contract": f"{asset}_USDT", "change_percentage": decimal(100.0 * (last / first - 1.0), 4),
        "funding_rate": rate, "funding_rate_indicative": rate, "quanto_multiplier": f"{how.contract_size:g}",
        "total_size": str(_lots(view, asset, view.open_interest_now(asset, VENUE))),
        "volume_24h": str(_lots(view, asset, volume)), "volume_24h_base": decimal(volume, how.size_decimals),
        "volume_24h_quote": decimal(float((bars["volume"] * bars["close"]).sum()), 4),
        **{name: decimal(price, how.price_decimals) for name, price in prices.items()},
    }  # fmt: skip


_FUTURES = "/api/v4/futures/{settle}/"
PATHS: dict[str, Answer] = {
    "/api/v4/spot/time": time,
    "/api/v4/spot/currencies": nothing,
    "/api/v4/spot/currency_pairs": nothing,
    "/api/v4/margin/currency_pairs": nothing,
    "/api/v4/delivery/{settle}/contracts": nothing,
    "/api/v4/options/underlyings": nothing,
    _FUTURES + "contracts": contracts,
    _FUTURES + "contracts/{contract}": contract,
    _FUTURES + "candlesticks": candles,
    _FUTURES + "contract_stats": stats,
    _FUTURES + "funding_rate": funding_history,
    _FUTURES + "liq_orders": liquidations,
    _FUTURES + "order_book": order_book,
    _FUTURES + "tickers": tickers,
}
"""Every path the simulated Gate has, by what answers it."""
