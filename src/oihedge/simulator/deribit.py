"""Deribit's public REST v2: coin-settled options of BTC and ETH with their greeks, and the volatility index DVOL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from oihedge.simulator.asked import Asked, Malformed, Refused
from oihedge.simulator.binance import Answer
from oihedge.simulator.chain import CONTRACT, CURRENCIES, TICK, Option, Priced, label, listed, priced
from oihedge.simulator.implied import candles
from oihedge.simulator.parameters import Floats
from oihedge.simulator.view import View, instant, millis

POINTS = 1000
"""Candles of the volatility index in one answer."""
RESOLUTIONS = {"3600": 1, "43200": 12, "1D": 24}
"""Hours per candle, by what a client writes."""


def _refuse(message: str, param: str, reason: str, code: int = -32602) -> Refused:
    error = {"message": message, "data": {"reason": reason, "param": param}, "code": code}
    return Refused(400, {"jsonrpc": "2.0", "error": error, "testnet": False, "usIn": 0, "usOut": 0, "usDiff": 0})


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Deribit does."""
    return _refuse("Invalid params", error.name, "is required" if error.missing else "wrong format")


def _wrap(view: View, result: Any) -> Any:
    now = millis(view.now) * 1000
    return {"jsonrpc": "2.0", "result": result, "usIn": now, "usOut": now, "usDiff": 0, "testnet": False}


def _currencies(view: View) -> list[str]:
    return [name for name in CURRENCIES if name in view.market.assets]


def _currency(view: View, asked: Asked) -> str:
    name = asked.text("currency")
    if name not in _currencies(view):
        raise _refuse("Invalid params", "currency", "invalid currency")
    return name


def _chosen(view: View, asked: Asked) -> list[Option]:
    """The options of the currency asked for, of all where none (or `any`) is; none of another kind."""
    if asked.values.get("kind") not in (None, "", "option", "any"):
        return []
    every = asked.values.get("currency") in (None, "", "any")
    return [
        option for asset in (_currencies(view) if every else [_currency(view, asked)]) for option in listed(view, asset)
    ]


def _one(view: View, asked: Asked) -> Priced:
    name = asked.text("instrument_name")
    for option in listed(view, name.partition("-")[0]) if name.partition("-")[0] in _currencies(view) else []:
        if option.name == name:
            return priced(view, [option])[0]
    raise _refuse("Invalid params", "instrument_name", "invalid instrument name", code=13020)


def time(view: View, asked: Asked) -> Any:
    """Answer /public/get_time."""
    return _wrap(view, millis(view.now))


def currencies(view: View, asked: Asked) -> Any:
    """Answer /public/get_currencies."""
    rows = [
        {"currency": name, "currency_long": name, "coin_type": name, "withdrawal_fee": 0.0, "min_confirmations": 1,
         "withdrawal_priorities": [], "fee_precision": 4}
        for name in _currencies(view)
    ]  # fmt: skip
    return _wrap(view, rows)


def instruments(view: View, asked: Asked) -> Any:
    """Answer /public/get_instruments: the options listed now; there are no futures."""
    if asked.values.get("expired") in ("true", True):
        return _wrap(view, [])
    return _wrap(view, [_instrument(option) for option in _chosen(view, asked)])


def _instrument(option: Option) -> dict[str, Any]:
    tenor = option.expiry - option.listed
    return {
        "instrument_name": option.name, "kind": "option", "base_currency": option.asset, "quote_currency": option.asset,
        "counter_currency": "USD", "settlement_currency": option.asset, "strike": option.strike,
        "option_type": "call" if option.call else "put", "instrument_type": "reversed", "is_active": True,
        "settlement_period": "day" if tenor.days < 7 else "week" if tenor.days < 35 else "month",
        "price_index": f"{option.asset.lower()}_usd",
        "expiration_timestamp": millis(option.expiry), "creation_timestamp": millis(option.listed),
        "contract_size": CONTRACT, "min_trade_amount": 0.1 if option.asset == "BTC" else 1.0, "tick_size": TICK,
        "taker_commission": 0.0003, "maker_commission": 0.0003, "block_trade_commission": 0.0003,
    }  # fmt: skip


def summary_by_currency(view: View, asked: Asked) -> Any:
    """Answer /public/get_book_summary_by_currency: one row per option."""
    _currency(view, asked)
    return _wrap(view, [_summary(view, row) for row in priced(view, _chosen(view, asked))])


def summary_by_instrument(view: View, asked: Asked) -> Any:
    """Answer /public/get_book_summary_by_instrument."""
    return _wrap(view, [_summary(view, _one(view, asked))])


def _summary(view: View, row: Priced) -> dict[str, Any]:
    option, price = row.option, round(float(row.quote.price[row.n]), 6)
    middle = round((row.bid + row.ask) / 2, 6) if row.bid else None
    return {
        "instrument_name": option.name, "base_currency": option.asset, "quote_currency": option.asset,
        "underlying_index": f"SYN.{option.asset}-{label(option.expiry)}",
        "underlying_price": round(row.quote.forward, 4), "mark_price": price,
        "mark_iv": round(100.0 * float(row.quote.iv[row.n]), 2), "bid_price": round(row.bid, 6) or None,
        "ask_price": round(row.ask, 6), "mid_price": middle, "last": price, "high": None, "low": None,
        "open_interest": row.open_interest, "interest_rate": 0.0, "volume": 0.0, "volume_usd": 0.0,
        "price_change": None, "creation_timestamp": millis(view.now),
        "estimated_delivery_price": round(row.index, 2),
    }  # fmt: skip


def ticker(view: View, asked: Asked) -> Any:
    """Answer /public/ticker: one option's present, its greeks included."""
    row = _one(view, asked)
    quote, n, summary = row.quote, row.n, _summary(view, row)
    greeks = {
        "delta": round(float(quote.delta[n]), 5), "gamma": round(float(quote.gamma[n]), 8),
        "vega": round(float(quote.vega[n]), 5), "theta": round(float(quote.theta[n]), 5),
        "rho": round(float(quote.rho[n]), 5),
    }  # fmt: skip
    shared = ("instrument_name", "underlying_index", "underlying_price", "mark_price", "mark_iv", "open_interest")
    return _wrap(
        view,
        {name: summary[name] for name in (*shared, "interest_rate", "estimated_delivery_price")}
        | {
            "timestamp": millis(view.now), "state": "open", "last_price": summary["last"], "greeks": greeks,
            "index_price": summary["estimated_delivery_price"], "best_bid_price": round(row.bid, 6),
            "best_ask_price": round(row.ask, 6), "best_bid_amount": 10.0 if row.bid else 0.0, "best_ask_amount": 10.0,
            "bid_iv": round(summary["mark_iv"] * 0.985, 2), "ask_iv": round(summary["mark_iv"] * 1.015, 2),
            "stats": {"volume": 0.0, "volume_usd": 0.0, "price_change": None, "low": None, "high": None},
        },
    )  # fmt: skip


def volatility_index(view: View, asked: Asked) -> Any:
    """Answer /public/get_volatility_index_data: candles [ms, open, high, low, close] in per cent, oldest first.

    The newest 1000 of the window; what is left of it is asked for with `continuation` as the next end.
    """
    asset, name = _currency(view, asked), asked.text("resolution")
    if name not in RESOLUTIONS:
        raise _refuse("Invalid params", "resolution", f"must be one of {', '.join(RESOLUTIONS)}")
    start, end = asked.whole("start_timestamp"), asked.whole("end_timestamp")
    if start is None or end is None:
        raise Malformed("start_timestamp" if start is None else "end_timestamp", missing=True)
    length = timedelta(hours=RESOLUTIONS[name])
    first = max(instant(start), view.market.origin, min(instant(end), view.now) - (POINTS + 1) * length)
    rows = _candles(view, asset, first, min(instant(end), view.now), length)
    page = rows[-POINTS:]
    earlier = bool(page) and max(start, millis(view.market.origin)) <= page[0][0] - length // timedelta(milliseconds=1)
    following = page[0][0] - length // timedelta(milliseconds=1) if earlier else None
    return _wrap(view, {"data": page, "continuation": following})


def _candles(view: View, asset: str, start: datetime, end: datetime, length: timedelta) -> list[list[float]]:
    """Candles of `length` that open in [start, end], joined from whole ones of an hour."""
    grid = (start - view.market.origin) / length
    opened = view.market.origin + int(np.ceil(grid)) * length
    stamps, hourly = candles(view.market, asset, opened, end + length - timedelta(hours=1), view.now)
    group = length // timedelta(hours=1)
    return [
        [millis(stamps[n]), *(round(100.0 * x, 2) for x in _joined(hourly[:, n : n + group]))]
        for n in range(0, len(stamps), group)
        if stamps[n] <= end
    ]


def _joined(part: Floats) -> tuple[float, float, float, float]:
    return float(part[0, 0]), float(part[1].max()), float(part[2].min()), float(part[3, -1])


def index_price(view: View, asked: Asked) -> Any:
    """Answer /public/get_index_price for btc_usd and eth_usd."""
    asset = asked.text("index_name").removesuffix("_usd").upper()
    if asset not in _currencies(view):
        raise _refuse("Invalid params", "index_name", "invalid index name")
    price = round(view.price(asset, "*", "index"), 2)
    return _wrap(view, {"index_price": price, "estimated_delivery_price": price})


_ROOT = "/api/v2/public"
PATHS: dict[str, Answer] = {
    f"{_ROOT}/get_time": time,
    f"{_ROOT}/get_currencies": currencies,
    f"{_ROOT}/get_instruments": instruments,
    f"{_ROOT}/get_book_summary_by_currency": summary_by_currency,
    f"{_ROOT}/get_book_summary_by_instrument": summary_by_instrument,
    f"{_ROOT}/ticker": ticker,
    f"{_ROOT}/get_index_price": index_price,
    f"{_ROOT}/get_volatility_index_data": volatility_index,
}
"""Every path the simulated Deribit has, by what answers it."""
