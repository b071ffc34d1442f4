"""Coinbase's public Advanced Trade REST: spot in USD; newest candles first, a range that is too long is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oihedge.core.clock import iso
from oihedge.simulator.asked import Asked, Malformed, Refused, decimal, increment
from oihedge.simulator.binance import Answer
from oihedge.simulator.depth import LEVELS, book
from oihedge.simulator.market import STEP, Step
from oihedge.simulator.view import View, instant

VENUE, QUOTE = "coinbase", "USD"
CANDLES = 350
GRANULARITIES: dict[str, Step] = {"ONE_MINUTE": "1m", "FIVE_MINUTE": "5m", "ONE_HOUR": "1h"}


def _refuse(status: int, code: str, message: str) -> Refused:
    return Refused(status, {"error": code, "error_details": message, "message": message})


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Coinbase does."""
    return _refuse(400, "INVALID_ARGUMENT", f"{error.name} is {'required' if error.missing else 'invalid'}")


def _asset(view: View, asked: Asked) -> str:
    asset, _, quote = asked.text("product_id").partition("-")
    if quote != QUOTE or asset not in view.market.assets:
        raise _refuse(404, "NOT_FOUND", "valid product_id is required")
    return asset


def products(view: View, asked: Asked) -> Any:
    """Answer /brokerage/market/products: every spot product; there are no futures."""
    if asked.values.get("product_type") in ("FUTURE", "UNKNOWN_PRODUCT_TYPE"):
        return {"products": [], "num_products": 0}
    rows = [_product(view, asset) for asset in view.market.assets]
    return {"products": rows, "num_products": len(rows)}


def product(view: View, asked: Asked) -> Any:
    """Answer /brokerage/market/products/{product_id}."""
    return _product(view, _asset(view, asked))


def _product(view: View, asset: str) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "spot")
    bars = view.bars(asset, VENUE, "spot", view.now - timedelta(hours=24), view.now, "5m")
    price = view.price(asset, VENUE, "spot")
    return {
        "product_id": f"{asset}-{QUOTE}", "price": decimal(price, how.price_decimals),
        "price_percentage_change_24h": decimal(100.0 * (price / float(bars["open"][0]) - 1.0), 8),
        "volume_24h": decimal(float(bars["volume"].sum()), how.size_decimals),
        "base_increment": increment(how.size_decimals), "quote_increment": increment(how.price_decimals),
        "price_increment": increment(how.price_decimals), "quote_min_size": f"{how.min_notional:g}",
        "quote_max_size": "150000000", "base_min_size": increment(how.size_decimals), "base_max_size": "100000000",
        "base_name": asset, "quote_name": "US Dollar", "is_disabled": False, "new": False, "status": "online",
        "cancel_only": False, "limit_only": False, "post_only": False, "trading_disabled": False, "auction_mode": False,
        "product_type": "SPOT", "quote_currency_id": QUOTE, "base_currency_id": asset, "alias": "", "alias_to": [],
        "base_display_symbol": asset, "quote_display_symbol": QUOTE, "view_only": False,
        "display_name": f"{asset}-{QUOTE}", "product_venue": "CBE",
    }  # fmt: skip


def candles(view: View, asked: Asked) -> Any:
    """Answer /brokerage/market/products/{product_id}/candles: newest first, both ends included, at most 350."""
    asset, name = _asset(view, asked), asked.text("granularity")
    if name not in GRANULARITIES:
        raise Malformed("granularity")
    step, start, end = GRANULARITIES[name], asked.whole("start"), asked.whole("end")
    if start is None or end is None:
        raise Malformed("start" if start is None else "end", missing=True)
    limit = asked.limit(CANDLES, CANDLES)
    if (end - start) / STEP[step].total_seconds() > CANDLES:
        raise _refuse(400, "INVALID_ARGUMENT", f"number of candles requested should be less than {CANDLES}")
    how = view.market.instrument(asset, VENUE, "spot")
    rows = view.bars(asset, VENUE, "spot", instant(start * 1000), instant(end * 1000), step).tail(limit)
    price, size = how.price_decimals, how.size_decimals
    listed = [
        {
            "start": str(ms // 1000), "low": decimal(low, price), "high": decimal(high, price),
            "open": decimal(opened, price), "close": decimal(closed, price), "volume": decimal(volume, size),
        }
        for ms, opened, high, low, closed, volume in rows.select(
            "ms", "open", "high", "low", "close", "volume"
        ).iter_rows()
    ]  # fmt: skip
    return {"candles": listed[::-1]}


def product_book(view: View, asked: Asked) -> Any:
    """Answer /brokerage/market/product_book: the whole book where no limit is sent."""
    asset = _asset(view, asked)
    how = view.market.instrument(asset, VENUE, "spot")
    bids, asks = (
        [
            {"price": decimal(price, how.price_decimals), "size": decimal(size, how.size_decimals)}
            for price, size in side
        ]
        for side in book(view, asset, VENUE, "spot", asked.limit(LEVELS, 100_000))
    )
    return {"pricebook": {"product_id": f"{asset}-{QUOTE}", "bids": bids, "asks": asks, "time": iso(view.now)}}


def fiat(view: View, asked: Asked) -> Any:
    """Answer /v2/currencies."""
    return {"data": [{"id": QUOTE, "name": "US Dollar", "min_size": "0.01"}]}


def crypto(view: View, asked: Asked) -> Any:
    """Answer /v2/currencies/crypto."""
    rows = [
        {"asset_id": asset.lower(), "code": asset, "name": asset, "exponent": 8, "type": "crypto"}
        for asset in view.market.assets
    ]
    return {"data": rows}


def exchange_rates(view: View, asked: Asked) -> Any:
    """Answer /v2/exchange-rates: coins per US dollar."""
    rates = {asset: f"{1.0 / view.price(asset, VENUE, 'spot'):.12f}" for asset in view.market.assets}
    return {"data": {"currency": QUOTE, "rates": {QUOTE: "1.0"} | rates}}


def time(view: View, asked: Asked) -> Any:
    """Answer /brokerage/time."""
    seconds = int(view.now.timestamp())
    return {"iso": iso(view.now), "epochSeconds": str(seconds), "epochMillis": str(seconds * 1000)}


_ROOT = "/api/v3/brokerage"
PATHS: dict[str, Answer] = {
    f"{_ROOT}/time": time,
    f"{_ROOT}/market/products": products,
    f"{_ROOT}/market/product_book": product_book,
    f"{_ROOT}/market/products/{{product_id}}": product,
    f"{_ROOT}/market/products/{{product_id}}/candles": candles,
    "/v2/currencies": fiat,
    "/v2/currencies/crypto": crypto,
    "/v2/exchange-rates": exchange_rates,
}
"""Every path the simulated Coinbase has, by what answers it."""
