"""Binance's public REST: USD-M futures (`/fapi`, `/futures/data`) and spot (`/api/v3`)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, cast

from oihedge.simulator.asked import Asked, Malformed, Refused, asset_of, decimal, increment, windowed
from oihedge.simulator.market import STEP, Kind, Step
from oihedge.simulator.settings import Instrument
from oihedge.simulator.view import FAR, View, instant, millis

PERP, SPOT = "binanceusdm", "binance"
Answer = Callable[[View, Asked], Any]


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Binance does."""
    if error.missing:
        message = f"Mandatory parameter '{error.name}' was not sent, was empty/null, or malformed."
        return Refused(400, {"code": -1102, "msg": message})
    return Refused(400, {"code": -1130, "msg": f"Data sent for parameter '{error.name}' is not valid."})


def asked_asset(view: View, asked: Asked, name: str = "symbol") -> str:
    """Return the asset of the symbol asked for, or refuse."""
    asset = asset_of(view.market, asked.text(name))
    if asset is None:
        raise Refused(400, {"code": -1121, "msg": "Invalid symbol."})
    return asset


def asked_step(asked: Asked, name: str, known: Collection[str] = STEP) -> Step:
    """Return the timeframe asked for, one of `known`, or refuse."""
    if asked.text(name) not in known:
        raise Refused(400, {"code": -1120, "msg": f"Invalid {name}."})
    return cast(Step, asked.text(name))


def ping(view: View, asked: Asked) -> Any:
    """Answer /ping."""
    return {}


def time(view: View, asked: Asked) -> Any:
    """Answer /time with the simulated present."""
    return {"serverTime": millis(view.now)}


def _filters(instrument: Instrument, notional: dict[str, str]) -> list[dict[str, str]]:
    tick, lot = increment(instrument.price_decimals), increment(instrument.size_decimals)
    size = {"minQty": lot, "maxQty": "100000000", "stepSize": lot}
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", **size},
        {"filterType": "MARKET_LOT_SIZE", **size},
        notional,
    ]


def _exchange(view: View, symbols: list[dict[str, Any]]) -> Any:
    return {
        "timezone": "UTC",
        "serverTime": millis(view.now),
        "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}],
        "exchangeFilters": [],
        "symbols": symbols,
    }


def _symbol(asset: str, instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": f"{asset}USDT",
        "status": "TRADING",
        "baseAsset": asset,
        "quoteAsset": "USDT",
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
    }


def perp_exchange_info(view: View, asked: Asked) -> Any:
    """Answer /fapi/v1/exchangeInfo."""
    symbols = []
    for asset, instrument in view.market.settings.perps[PERP].instruments.items():
        if asset not in view.market.assets:
            continue
        symbols.append(
            _symbol(asset, instrument)
            | {
                "pair": f"{asset}USDT", "contractType": "PERPETUAL", "deliveryDate": 4133404800000,
                "onboardDate": millis(view.market.origin), "marginAsset": "USDT", "underlyingType": "COIN",
                "maintMarginPercent": "2.5000", "requiredMarginPercent": "5.0000",
                "pricePrecision": instrument.price_decimals, "quantityPrecision": instrument.size_decimals,
                "filters": _filters(
                    instrument, {"filterType": "MIN_NOTIONAL", "notional": f"{instrument.min_notional:g}"}
                ),
                "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
            }
        )  # fmt: skip
    return _exchange(view, symbols)


def spot_exchange_info(view: View, asked: Asked) -> Any:
    """Answer /api/v3/exchangeInfo."""
    symbols = []
    for asset, instrument in view.market.settings.spots[SPOT].instruments.items():
        if asset not in view.market.assets:
            continue
        notional = {"filterType": "NOTIONAL", "minNotional": f"{instrument.min_notional:.8f}"}
        symbols.append(
            _symbol(asset, instrument)
            | {
                "quoteAssetPrecision": 8, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
                "filters": _filters(instrument, notional), "permissions": ["SPOT"], "permissionSets": [["SPOT"]],
            }
        )  # fmt: skip
    return _exchange(view, symbols)


def no_symbols(view: View, asked: Asked) -> Any:
    """Answer /dapi/v1/exchangeInfo: the simulated Binance lists no coin-margined contracts."""
    return _exchange(view, [])


def asked_range(asked: Asked) -> tuple[int, int, bool]:
    """Return start and end in ms, and whether the newest rows are wanted because no start was given."""
    start, end = asked.whole("startTime"), asked.whole("endTime", FAR)
    return start or 0, end if end is not None else FAR, start is None


def _klines(venue: str, kind: Kind, most: int, symbol: str = "symbol") -> Answer:
    """Make the answer of one kline path: ascending from startTime, else the newest up to endTime."""

    def answer(view: View, asked: Asked) -> Any:
        asset, step = asked_asset(view, asked, symbol), asked_step(asked, "interval")
        limit, length = min(asked.limit(500, 100_000), most), STEP[step] // timedelta(milliseconds=1)
        start, end, newest = asked_range(asked)
        last = min(end, millis(view.now))
        if newest:
            start = max(start, last - limit * length)
        else:
            last = min(last, start + (limit + 1) * length)
        rows = windowed(view.bars(asset, venue, kind, instant(start), instant(last), step), limit, newest=newest)
        instrument = view.market.instrument(asset, venue, "perp" if kind == "index" else kind)
        price, size = instrument.price_decimals, instrument.size_decimals
        return [
            [
                ms, decimal(o, price), decimal(h, price), decimal(low, price), decimal(c, price), decimal(v, size),
                ms + length - 1, decimal(v * (o + c) / 2, 4), int(v * c / 2500) + 1, decimal(v / 2, size),
                decimal(v * (o + c) / 4, 4), "0",
            ]
            for ms, o, h, low, c, v in rows.select("ms", "open", "high", "low", "close", "volume").iter_rows()
        ]  # fmt: skip

    return answer


def open_interest(view: View, asked: Asked) -> Any:
    """Answer /fapi/v1/openInterest."""
    asset = asked_asset(view, asked)
    coins = decimal(view.open_interest_now(asset, PERP), 3)
    return {"openInterest": coins, "symbol": f"{asset}USDT", "time": millis(view.now)}


def funding_rate(view: View, asked: Asked) -> Any:
    """Answer /fapi/v1/fundingRate: ascending, 100 rows by default and at most 1000."""
    asset, limit = asked_asset(view, asked), asked.limit(100, 1000)
    start, end, newest = asked_range(asked)
    rows = windowed(view.funding(asset, PERP, instant(start), instant(end)), limit, newest=newest)
    return [
        {"symbol": f"{asset}USDT", "fundingTime": ms, "fundingRate": decimal(rate, 8), "markPrice": ""}
        for ms, rate in rows.select("ms", "rate").iter_rows()
    ]


def premium_index(view: View, asked: Asked) -> Any:
    """Answer /fapi/v1/premiumIndex for one symbol or all."""
    assets = [asked_asset(view, asked)] if "symbol" in asked.values else list(view.market.assets)
    rows = [_premium(view, asset) for asset in assets]
    return rows[0] if "symbol" in asked.values else rows


def _premium(view: View, asset: str) -> dict[str, Any]:
    rate, following = view.next_funding(asset, PERP)
    index = decimal(view.price(asset, PERP, "index"), 8)
    return {
        "symbol": f"{asset}USDT", "markPrice": decimal(view.price(asset, PERP, "mark"), 8), "indexPrice": index,
        "estimatedSettlePrice": index, "lastFundingRate": decimal(rate, 8), "interestRate": "0.00010000",
        "nextFundingTime": following, "time": millis(view.now),
    }  # fmt: skip


def _ticker(venue: str, kind: Kind) -> Answer:
    """Make the answer of a 24 h ticker path, for one symbol or all."""

    def answer(view: View, asked: Asked) -> Any:
        assets = [asked_asset(view, asked)] if "symbol" in asked.values else list(view.market.assets)
        rows = [_day(view, asset, venue, kind) for asset in assets]
        return rows[0] if "symbol" in asked.values else rows

    return answer


def _day(view: View, asset: str, venue: str, kind: Kind) -> dict[str, Any]:
    bars = view.bars(asset, venue, kind, view.now - timedelta(hours=24), view.now, "5m")
    instrument = view.market.instrument(asset, venue, kind)
    price, first, last = instrument.price_decimals, float(bars["open"][0]), float(bars["close"][-1])
    volume = float(bars["volume"].sum())
    traded = float((bars["volume"] * bars["close"]).sum())
    return {
        "symbol": f"{asset}USDT", "priceChange": decimal(last - first, price),
        "priceChangePercent": decimal(100.0 * (last / first - 1.0), 3),
        "weightedAvgPrice": decimal(traded / volume if volume else last, price), "lastPrice": decimal(last, price),
        "openPrice": decimal(first, price), "highPrice": decimal(float(bars["high"].to_numpy().max()), price),
        "lowPrice": decimal(float(bars["low"].to_numpy().min()), price),
        "volume": decimal(volume, instrument.size_decimals), "quoteVolume": decimal(traded, 4),
        "openTime": int(bars["ms"][0]), "closeTime": millis(view.now), "count": int(traded / 2500),
    }  # fmt: skip


PATHS: dict[str, Answer] = {
    "/fapi/v1/ping": ping,
    "/fapi/v1/time": time,
    "/fapi/v1/exchangeInfo": perp_exchange_info,
    "/fapi/v1/klines": _klines(PERP, "perp", 1500),
    "/fapi/v1/markPriceKlines": _klines(PERP, "mark", 1500),
    "/fapi/v1/indexPriceKlines": _klines(PERP, "index", 1500, symbol="pair"),
    "/fapi/v1/fundingRate": funding_rate,
    "/fapi/v1/premiumIndex": premium_index,
    "/fapi/v1/openInterest": open_interest,
    "/fapi/v1/ticker/24hr": _ticker(PERP, "perp"),
    "/dapi/v1/exchangeInfo": no_symbols,
    "/api/v3/ping": ping,
    "/api/v3/time": time,
    "/api/v3/exchangeInfo": spot_exchange_info,
    "/api/v3/klines": _klines(SPOT, "spot", 1000),
    "/api/v3/ticker/24hr": _ticker(SPOT, "spot"),
}
"""The paths of the simulated Binance but those of binance_statistics, by what answers them."""
