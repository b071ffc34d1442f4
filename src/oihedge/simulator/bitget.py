"""Bitget's public REST v2: USDT futures, sizes in coins, answers aligned to their END; open interest now only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oihedge.simulator.asked import Asked, Malformed, Refused, decimal, increment, windowed
from oihedge.simulator.asked import asset_of as known_asset
from oihedge.simulator.binance import Answer
from oihedge.simulator.crowd import ratios
from oihedge.simulator.depth import book
from oihedge.simulator.market import STEP, Kind, Step
from oihedge.simulator.view import FAR, View, instant, millis

VENUE, PRODUCT = "bitget", "USDT-FUTURES"
PRODUCTS = (PRODUCT, "COIN-FUTURES", "USDC-FUTURES", "SUSDT-FUTURES", "SCOIN-FUTURES", "SUSDC-FUTURES")
STEPS: dict[str, Step] = {"1m": "1m", "5m": "5m", "1H": "1h"}
RECENT = {"1m": timedelta(days=30), "5m": timedelta(days=30), "1h": timedelta(days=83)}
"""How far back the candles path goes; older ones come from the history paths."""
SPAN = timedelta(days=90)
KINDS: dict[str, Kind] = {"MARKET": "perp", "MARK": "mark", "INDEX": "index"}
RATIOS = 500
_LEVELS = {"1": 1, "5": 5, "15": 15, "50": 50, "max": 1000}
_MS = timedelta(milliseconds=1)


def _refuse(code: int, message: str) -> Refused:
    return Refused(400, {"code": str(code), "msg": message, "requestTime": 0, "data": None})


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as Bitget does."""
    if error.missing:
        return _refuse(40019, f"Parameter {error.name} cannot be empty")
    return _refuse(40020, f"Parameter {error.name} error")


def _wrap(view: View, data: Any) -> Any:
    return {"code": "00000", "msg": "success", "requestTime": millis(view.now), "data": data}


def _product(asked: Asked) -> str:
    product = asked.text("productType").upper()
    if product not in PRODUCTS:
        raise Malformed("productType")
    return product


def _asset(view: View, asked: Asked, *, product: bool = True) -> str:
    asset = known_asset(view.market, asked.text("symbol"))
    if asset is None or (product and _product(asked) != PRODUCT):
        raise _refuse(40034, f"Parameter {asked.text('symbol')} does not exist")
    return asset


def _step(asked: Asked, name: str, steps: dict[str, Step]) -> Step:
    if asked.text(name) not in steps:
        raise _refuse(400171, f"Parameter {name} error")
    return steps[asked.text(name)]


def _assets(view: View, asked: Asked) -> list[str]:
    if "symbol" in asked.values:
        return [_asset(view, asked)]
    return list(view.market.assets) if _product(asked) == PRODUCT else []


def time(view: View, asked: Asked) -> Any:
    """Answer /public/time."""
    return _wrap(view, {"serverTime": str(millis(view.now))})


def nothing(view: View, asked: Asked) -> Any:
    """Answer what the simulated Bitget has none of: coins, spot pairs, margin pairs."""
    return _wrap(view, [])


def contracts(view: View, asked: Asked) -> Any:
    """Answer /mix/market/contracts of one product type."""
    return _wrap(view, [_contract(view, asset) for asset in _assets(view, asked)])


def _contract(view: View, asset: str) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "perp")
    lot = increment(how.size_decimals)
    return {
        "symbol": f"{asset}USDT", "baseCoin": asset, "quoteCoin": "USDT", "supportMarginCoins": ["USDT"],
        "symbolType": "perpetual", "symbolStatus": "normal", "makerFeeRate": "0.0002", "takerFeeRate": "0.0006",
        "feeRateUpRatio": "0.005", "openCostUpRatio": "0.01", "pricePlace": str(how.price_decimals),
        "priceEndStep": "1", "volumePlace": str(how.size_decimals), "sizeMultiplier": lot, "minTradeNum": lot,
        "minTradeUSDT": f"{how.min_notional:g}", "maxLever": "125", "minLever": "1", "offTime": "-1",
        "limitOpenTime": "-1", "deliveryTime": "", "launchTime": str(millis(view.market.origin)),
        "fundInterval": str(view.market.perps[VENUE].funding_interval_h),
    }  # fmt: skip


def _candles(kind: Kind | None, most: int, *, history: bool) -> Answer:
    """Make the answer of one candle path: ascending, the newest rows that open before endTime.

    `kind` None takes it from kLineType. The history paths hold only candles that are over, and span at most 90 days.
    """

    def answer(view: View, asked: Asked) -> Any:
        asset, step = _asset(view, asked), _step(asked, "granularity", STEPS)
        limit, length = asked.limit(100, most), STEP[step] // _MS
        start, end = asked.whole("startTime"), asked.whole("endTime", FAR)
        last = min(FAR if end is None else end, millis(view.now - STEP[step] if history else view.now) + 1)
        if history and start is not None and last - start > SPAN // _MS:
            raise _refuse(40017, "The interval between startTime and endTime cannot be greater than 90 days")
        first = max(start or 0, last - limit * length)
        if not history:
            first = max(first, millis(view.now - RECENT[step]))
        shown = kind or _kind(asked)
        rows = windowed(view.bars(asset, VENUE, shown, instant(first), instant(last - 1), step), limit, newest=True)
        how = view.market.instrument(asset, VENUE, "perp")
        listed = [
            [
                str(ms), *(decimal(price, how.price_decimals) for price in prices),
                decimal(volume, how.size_decimals), decimal(volume * (prices[0] + prices[3]) / 2, 4),
            ]
            for ms, *prices, volume in rows.select("ms", "open", "high", "low", "close", "volume").iter_rows()
        ]  # fmt: skip
        return _wrap(view, listed)

    return answer


def _kind(asked: Asked) -> Kind:
    kind = str(asked.values.get("kLineType") or "MARKET").upper()
    if kind not in KINDS:
        raise Malformed("kLineType")
    return KINDS[kind]


def open_interest(view: View, asked: Asked) -> Any:
    """Answer /mix/market/open-interest: coins, now."""
    asset = _asset(view, asked)
    size = decimal(view.open_interest_now(asset, VENUE), view.market.instrument(asset, VENUE, "perp").size_decimals)
    listed = [{"symbol": f"{asset}USDT", "size": size}]
    return _wrap(view, {"openInterestList": listed, "ts": str(millis(view.now))})


def funding_history(view: View, asked: Asked) -> Any:
    """Answer /mix/market/history-fund-rate: newest first by page number, 20 rows and at most 100; no window by time."""
    asset = _asset(view, asked)
    size, page = asked.whole("pageSize", 20) or 0, asked.whole("pageNo", 1) or 0
    if not 1 <= size <= 100:
        raise Malformed("pageSize")
    if page < 1:
        raise Malformed("pageNo")
    hours = view.market.perps[VENUE].funding_interval_h
    last = view.now - timedelta(hours=hours) * min(size * (page - 1), 1_000_000)
    rows = view.funding(asset, VENUE, last - timedelta(hours=hours) * size, last).tail(size)
    return _wrap(
        view,
        [
            {"symbol": f"{asset}USDT", "fundingRate": decimal(rate, 8), "fundingTime": str(ms)}
            for ms, rate in reversed(rows.select("ms", "rate").rows())
        ],
    )


def funding_now(view: View, asked: Asked) -> Any:
    """Answer /mix/market/current-fund-rate: what the running interval pays by now."""
    rows = []
    for asset in _assets(view, asked):
        rate, pays_at = view.next_funding(asset, VENUE)
        rows.append(
            {
                "symbol": f"{asset}USDT", "fundingRate": decimal(rate, 8), "nextUpdate": str(pays_at),
                "fundingRateInterval": str(view.market.perps[VENUE].funding_interval_h), "minFundingRate": "-0.003",
                "maxFundingRate": "0.003",
            }
        )  # fmt: skip
    return _wrap(view, rows)


def funding_time(view: View, asked: Asked) -> Any:
    """Answer /mix/market/funding-time."""
    asset = _asset(view, asked)
    row = {"symbol": f"{asset}USDT", "nextFundingTime": str(view.next_funding(asset, VENUE)[1])}
    return _wrap(view, [row | {"ratePeriod": str(view.market.perps[VENUE].funding_interval_h)}])


def long_short(view: View, asked: Asked) -> Any:
    """Answer /mix/market/account-long-short: the latest 500 entries, ascending.

    `longShortAccountRatio` is a hundredth of long over short, as Bitget sends it.
    """
    asset = _asset(view, asked, product=False)
    step = _step(asked, "period", {"5m": "5m", "1h": "1h"}) if asked.values.get("period") else "5m"
    rows = ratios(view, asset, VENUE, "accounts", view.now - RATIOS * STEP[step], view.now, step).tail(RATIOS)
    return _wrap(
        view,
        [
            {
                "longAccountRatio": decimal(ratio / (1.0 + ratio), 4), "ts": str(ms),
                "shortAccountRatio": decimal(1.0 / (1.0 + ratio), 4),
                "longShortAccountRatio": decimal(ratio / 100.0, 4),
            }
            for ms, ratio in rows.select("ms", "ratio").iter_rows()
        ],
    )  # fmt: skip


def depth(view: View, asked: Asked) -> Any:
    """Answer /mix/market/merge-depth: 100 levels, or what `limit` names."""
    asset, limit = _asset(view, asked), str(asked.values.get("limit") or "")
    if limit and limit not in _LEVELS and not (limit.isdigit() and 1 <= int(limit) <= 1000):
        raise Malformed("limit")
    levels = _LEVELS.get(limit) or int(limit or 100)
    how = view.market.instrument(asset, VENUE, "perp")
    bids, asks = (
        [[round(price, how.price_decimals), round(size, how.size_decimals)] for price, size in side]
        for side in book(view, asset, VENUE, "perp", levels)
    )
    shared = {"ts": str(millis(view.now)), "scale": increment(how.price_decimals), "precision": "scale0"}
    return _wrap(view, shared | {"bids": bids, "asks": asks, "isMaxPrecision": "NO"})


def prices(view: View, asked: Asked) -> Any:
    """Answer /mix/market/symbol-price."""
    asset = _asset(view, asked)
    decimals = view.market.instrument(asset, VENUE, "perp").price_decimals
    kinds: dict[str, Kind] = {"price": "perp", "indexPrice": "index", "markPrice": "mark"}
    shown = {name: decimal(view.price(asset, VENUE, kind), decimals) for name, kind in kinds.items()}
    return _wrap(view, [{"symbol": f"{asset}USDT", "ts": str(millis(view.now)), **shown}])


def tickers(view: View, asked: Asked) -> Any:
    """Answer /mix/market/ticker and /mix/market/tickers."""
    return _wrap(view, [_ticker(view, asset) for asset in _assets(view, asked)])


def _ticker(view: View, asset: str) -> dict[str, Any]:
    how, bars = view.market.instrument(asset, VENUE, "perp"), view.day(asset, VENUE, "perp")
    (bid, bid_size), (ask, ask_size) = (side[0] for side in book(view, asset, VENUE, "perp", 1))
    volume, traded = float(bars["volume"].sum()), float((bars["volume"] * bars["close"]).sum())
    prices = {
        "lastPr": view.price(asset, VENUE, "perp"), "bidPr": bid, "askPr": ask, "open24h": float(bars["open"][0]),
        "high24h": float(bars["high"].to_numpy().max()), "low24h": float(bars["low"].to_numpy().min()),
        "markPrice": view.price(asset, VENUE, "mark"), "indexPrice": view.price(asset, VENUE, "index"),
    }  # fmt: skip
    sizes = {"bidSz": bid_size, "askSz": ask_size, "baseVolume": volume}
    sizes["holdingAmount"] = view.open_interest_now(asset, VENUE)
    return {
        "symbol": f"{asset}USDT", "ts": str(millis(view.now)), "quoteVolume": decimal(traded, 4),
        "usdtVolume": decimal(traded, 4), "fundingRate": decimal(view.next_funding(asset, VENUE)[0], 8),
        **{name: decimal(price, how.price_decimals) for name, price in prices.items()},
        **{name: decimal(size, how.size_decimals) for name, size in sizes.items()},
    }  # fmt: skip


_MIX = "/api/v2/mix/market/"
PATHS: dict[str, Answer] = {
    "/api/v2/public/time": time,
    "/api/v2/spot/public/coins": nothing,
    "/api/v2/spot/public/symbols": nothing,
    "/api/v2/margin/currencies": nothing,
    _MIX + "contracts": contracts,
    _MIX + "candles": _candles(None, 1000, history=False),
    _MIX + "history-candles": _candles("perp", 200, history=True),
    _MIX + "history-mark-candles": _candles("mark", 200, history=True),
    _MIX + "history-index-candles": _candles("index", 200, history=True),
    _MIX + "open-interest": open_interest,
    _MIX + "history-fund-rate": funding_history,
    _MIX + "current-fund-rate": funding_now,
    _MIX + "funding-time": funding_time,
    _MIX + "account-long-short": long_short,
    _MIX + "merge-depth": depth,
    _MIX + "symbol-price": prices,
    _MIX + "ticker": tickers,
    _MIX + "tickers": tickers,
}
"""Every path the simulated Bitget has, by what answers it."""
