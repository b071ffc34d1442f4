"""One answer per venue and series, in the shape of the venue's own documentation, and the rows that it means.

All speak of BTC at 2025-01-01T00:00:00Z (T0) and the hour after; contract sizes are 0.01 (OKX) and 0.0001 (Gate) coins.
"""

from __future__ import annotations

from typing import Any

T0, T1 = 1735689600000, 1735693200000
ISO = ("2025-01-01T00:00:00.000Z", "2025-01-01T01:00:00.000Z")

MARKETS: dict[tuple[str, str], dict[str, Any]] = {
    ("binanceusdm", "perp"): {"id": "BTCUSDT"},
    ("bybit", "perp"): {"id": "BTCUSDT"},
    ("okx", "perp"): {"id": "BTC-USDT-SWAP", "contractSize": 0.01, "info": {"instFamily": "BTC-USDT"}},
    ("bitget", "perp"): {"id": "BTCUSDT"},
    ("gate", "perp"): {"id": "BTC_USDT", "contractSize": 0.0001},
    ("hyperliquid", "perp"): {"id": "0", "base": "BTC", "baseName": "BTC"},
    ("dydx", "perp"): {"id": "BTC-USD"},
    ("binance", "spot"): {"id": "BTCUSDT", "spot": True},
    ("bybit", "spot"): {"id": "BTCUSDT", "spot": True},
    ("okx", "spot"): {"id": "BTC-USDT", "spot": True},
    ("coinbase", "spot"): {"id": "BTC-USD", "spot": True},
    ("bitfinex", "spot"): {"id": "tBTCUSD", "spot": True},
    ("deribit", "option"): {"id": "BTC", "base": "BTC"},
}

_KLINE = [
    T0,
    "93000.1",
    "93500.0",
    "92800.5",
    "93200.2",
    "12.5",
    T0 + 3599999,
    "1165000.0",
    100,
    "6.0",
    "559000.0",
    "0",
]
_V5_KLINE = [str(T0), "93000.1", "93500.0", "92800.5", "93200.2", "12.5", "1165000.0"]
_BAR = [(T0, 93000.1, 93500.0, 92800.5, 93200.2, 12.5)]
_PRICES = [row[:5] for row in _BAR]
_BIDS, _ASKS = [["93000", "2"], ["92950", "3"]], [["93001", "1"], ["93100", "4"]]
_BOOK = [(93000.0, -2.0), (92950.0, -3.0), (93001.0, 1.0), (93100.0, 4.0)]


def _at(instant: int) -> list[tuple[float, ...]]:
    return [(instant, *level) for level in _BOOK]


def _v5(result: dict[str, Any]) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": T0}


def _okx(*data: Any) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": list(data)}


def _bitget(data: Any) -> dict[str, Any]:
    return {"code": "00000", "msg": "success", "requestTime": T0, "data": data}


_RATIO = {"symbol": "BTCUSDT", "longAccount": "0.6", "longShortRatio": "1.5", "shortAccount": "0.4", "timestamp": T0}
_STATS = {
    "time": T0 // 1000, "lsr_taker": 0.9, "lsr_account": 1.8, "long_liq_size": 20, "short_liq_size": 10,
    "long_liq_amount": 0.002, "short_liq_amount": 0.001, "long_liq_usd": 186.0, "short_liq_usd": 93.0,
    "open_interest": 500000000, "open_interest_usd": 4650000000.0, "top_lsr_account": 1.2, "top_lsr_size": 1.1,
    "mark_price": 93000.0,
}  # fmt: skip
_CANDLE = {
    "startedAt": ISO[0], "ticker": "BTC-USD", "resolution": "1HOUR", "low": "92800.5", "high": "93500",
    "open": "93000.1", "close": "93200.2", "baseTokenVolume": "12.5", "usdVolume": "1165000", "trades": 20,
    "startingOpenInterest": "540.59", "orderbookMidPriceOpen": "93000", "orderbookMidPriceClose": "93200",
}  # fmt: skip
_CONTEXT = [
    {"universe": [{"name": "ETH", "szDecimals": 4}, {"name": "BTC", "szDecimals": 5}]},
    [{"openInterest": "1", "markPx": "2", "oraclePx": "2", "funding": "0.1"},
     {"funding": "0.0000125", "openInterest": "26747.5", "prevDayPx": "92000", "markPx": "93000", "oraclePx": "93010",
      "midPx": "93000.5", "premium": "-0.0001", "impactPxs": ["92999", "93001"], "dayNtlVlm": "1"}],
]  # fmt: skip
_TICKER = {
    "symbol": "BTCUSDT", "lastPrice": "93000", "markPrice": "93000", "indexPrice": "93010", "openInterest": "50000",
    "openInterestValue": "4650000000", "fundingRate": "0.0001", "nextFundingTime": str(T0 + 8 * 3600000),
    "fundingIntervalHour": "8",
}  # fmt: skip
_PREMIUM = {
    "symbol": "BTCUSDT", "markPrice": "93000.0", "indexPrice": "93010.0", "estimatedSettlePrice": "93000.0",
    "lastFundingRate": "0.0001", "interestRate": "0.0001", "nextFundingTime": T0 + 8 * 3600000, "time": T0,
}  # fmt: skip
_PAYS_AT = float(T0 + 8 * 3600000)

Payload = tuple[Any, list[tuple[float | None, ...]]]
"""The decoded body (two of them where two methods are asked), and its rows: instant in ms (0: none said), values."""
PAYLOADS: dict[tuple[str, str, str], Payload] = {
    ("binanceusdm", "perp", "ohlcv"): ([_KLINE], _BAR),
    ("binanceusdm", "perp", "mark"): ([[*_KLINE[:5], "0", *_KLINE[6:]]], _PRICES),
    ("binanceusdm", "perp", "index"): ([[*_KLINE[:5], "0", *_KLINE[6:]]], _PRICES),
    ("binanceusdm", "perp", "open_interest"): (
        [{"symbol": "BTCUSDT", "sumOpenInterest": "50000.5", "sumOpenInterestValue": "4650046500.0",
          "CMCCirculatingSupply": "19800000", "timestamp": T0}], [(T0, 50000.5, 4650046500.0)]),
    ("binanceusdm", "perp", "open_interest_now"): (
        [{"symbol": "BTCUSDT", "openInterest": "50000.5", "time": T0}, _PREMIUM], [(T0, 50000.5, 93000.0)]),
    ("binanceusdm", "perp", "funding"): (
        [{"symbol": "BTCUSDT", "fundingTime": T0 + 3, "fundingRate": "-0.0001", "markPrice": "93000"}],
        [(T0 + 3, -0.0001)]),
    ("binanceusdm", "perp", "funding_now"): (_PREMIUM, [(T0, 0.0001, None, _PAYS_AT, 93000.0, 93010.0)]),
    ("binanceusdm", "perp", "depth"): (
        {"lastUpdateId": 1, "E": T0, "T": T0, "bids": _BIDS, "asks": _ASKS}, _at(T0)),
    ("binanceusdm", "perp", "long_short:accounts"): ([_RATIO], [(T0, 1.5)]),
    ("binanceusdm", "perp", "long_short:top_accounts"): ([_RATIO], [(T0, 1.5)]),
    ("binanceusdm", "perp", "long_short:top_positions"): ([_RATIO], [(T0, 1.5)]),
    ("binanceusdm", "perp", "long_short:taker_volume"): (
        [{"buySellRatio": "0.9", "buyVol": "90", "sellVol": "100", "timestamp": T0}], [(T0, 0.9)]),
    ("bybit", "perp", "ohlcv"): (_v5({"category": "linear", "symbol": "BTCUSDT", "list": [_V5_KLINE]}), _BAR),
    ("bybit", "perp", "mark"): (_v5({"category": "linear", "symbol": "BTCUSDT", "list": [_V5_KLINE[:5]]}), _PRICES),
    ("bybit", "perp", "index"): (_v5({"category": "linear", "symbol": "BTCUSDT", "list": [_V5_KLINE[:5]]}), _PRICES),
    ("bybit", "perp", "open_interest"): (
        _v5({"symbol": "BTCUSDT", "category": "linear", "list": [{"openInterest": "50000.5", "timestamp": str(T0)}],
             "nextPageCursor": ""}), [(T0, 50000.5)]),
    ("bybit", "perp", "open_interest_now"): (_v5({"category": "linear", "list": [_TICKER]}), [(T0, 50000.0, 93000.0)]),
    ("bybit", "perp", "funding"): (
        _v5({"category": "linear", "list": [
            {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(T0)}]}), [(T0, 0.0001)]),
    ("bybit", "perp", "funding_now"): (
        _v5({"category": "linear", "list": [_TICKER]}), [(T0, 0.0001, 8.0, _PAYS_AT, 93000.0, 93010.0)]),
    ("bybit", "perp", "depth"): (
        _v5({"s": "BTCUSDT", "b": _BIDS, "a": _ASKS, "ts": T0, "u": 1, "seq": 2, "cts": T0}), _at(T0)),
    ("bybit", "perp", "long_short:accounts"): (
        _v5({"list": [{"symbol": "BTCUSDT", "buyRatio": "0.6", "sellRatio": "0.4", "timestamp": str(T0)}]}),
        [(T0, 0.6 / 0.4)]),
    ("okx", "perp", "ohlcv"): (
        _okx([str(T0), "93000.1", "93500.0", "92800.5", "93200.2", "1250", "12.5", "1165000", "1"]), _BAR),
    ("okx", "perp", "mark"): (_okx([str(T0), "93000.1", "93500.0", "92800.5", "93200.2", "1"]), _PRICES),
    ("okx", "perp", "index"): (_okx([str(T0), "93000.1", "93500.0", "92800.5", "93200.2", "1"]), _PRICES),
    ("okx", "perp", "open_interest"): (
        _okx([str(T0), "2800476.45", "28006.5419", "2604608396.7"]), [(T0, 2800476.45, 28006.5419, 2604608396.7)]),
    ("okx", "perp", "open_interest_now"): (
        [_okx({"instId": "BTC-USDT-SWAP", "instType": "SWAP", "oi": "2125419", "oiCcy": "21254.19", "ts": str(T0)}),
         _okx({"instId": "BTC-USDT-SWAP", "instType": "SWAP", "markPx": "93000", "ts": str(T0)})],
        [(T0, 21254.19, 93000.0)]),
    ("okx", "perp", "funding"): (
        _okx({"instType": "SWAP", "instId": "BTC-USDT-SWAP", "fundingRate": "0.0002", "realizedRate": "0.0001",
              "fundingTime": str(T0)}), [(T0, 0.0001)]),
    ("okx", "perp", "funding_now"): (
        _okx({"fundingRate": "0.0001", "fundingTime": str(T0 + 8 * 3600000), "instId": "BTC-USDT-SWAP",
              "instType": "SWAP", "nextFundingRate": "", "nextFundingTime": str(T0 + 16 * 3600000), "ts": str(T0)}),
        [(T0, 0.0001, 8.0, _PAYS_AT, None, None)]),
    ("okx", "perp", "depth"): (
        _okx({"asks": [["93001", "100", "3"], ["93100", "400", "1"]],
              "bids": [["93000", "200", "1"], ["92950", "300", "1"]], "ts": str(T0)}), _at(T0)),
    ("okx", "perp", "long_short:accounts"): (_okx([str(T0), "0.9398"]), [(T0, 0.9398)]),
    ("okx", "perp", "long_short:top_accounts"): (_okx([str(T0), "0.9398"]), [(T0, 0.9398)]),
    ("okx", "perp", "long_short:top_positions"): (_okx([str(T0), "0.9398"]), [(T0, 0.9398)]),
    ("bitget", "perp", "ohlcv"): (_bitget([_V5_KLINE]), _BAR),
    ("bitget", "perp", "mark"): (_bitget([[*_V5_KLINE[:5], "0", "0"]]), _PRICES),
    ("bitget", "perp", "index"): (_bitget([[*_V5_KLINE[:5], "0", "0"]]), _PRICES),
    ("bitget", "perp", "open_interest_now"): (
        [_bitget({"openInterestList": [{"symbol": "BTCUSDT", "size": "52234.134"}], "ts": str(T0)}),
         _bitget([{"symbol": "BTCUSDT", "price": "93001", "indexPrice": "93010", "markPrice": "93000",
                   "ts": str(T0)}])],
        [(T0, 52234.134, 93000.0)]),
    ("bitget", "perp", "funding"): (
        _bitget([{"symbol": "BTCUSDT", "fundingRate": "-0.0003", "fundingTime": str(T0)}]), [(T0, -0.0003)]),
    ("bitget", "perp", "funding_now"): (
        _bitget([{"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateInterval": "8",
                  "nextUpdate": str(T0 + 8 * 3600000), "minFundingRate": "-0.003", "maxFundingRate": "0.003"}]),
        [(T0, 0.0001, 8.0, _PAYS_AT, None, None)]),
    ("bitget", "perp", "depth"): (
        _bitget({"asks": [[93001, 1], [93100, 4]], "bids": [[93000, 2], [92950, 3]], "ts": str(T0), "scale": "0.1",
                 "precision": "scale0", "isMaxPrecision": "NO"}), _at(T0)),
    ("bitget", "perp", "long_short:accounts"): (
        _bitget([{"longAccountRatio": "0.6", "shortAccountRatio": "0.4", "longShortAccountRatio": "0.015",
                  "ts": str(T0)}]), [(T0, 0.6 / 0.4)]),
    ("gate", "perp", "ohlcv"): (
        [{"t": T0 // 1000, "v": 125000, "c": "93200.2", "h": "93500.0", "l": "92800.5", "o": "93000.1", "sum": "1"}],
        _BAR),
    ("gate", "perp", "mark"): (
        [{"t": T0 // 1000, "c": "93200.2", "h": "93500.0", "l": "92800.5", "o": "93000.1"}], _PRICES),
    ("gate", "perp", "index"): (
        [{"t": T0 // 1000, "c": "93200.2", "h": "93500.0", "l": "92800.5", "o": "93000.1"}], _PRICES),
    ("gate", "perp", "open_interest"): ([_STATS], [(T0, 500000000.0, 4650000000.0)]),
    ("gate", "perp", "funding"): ([{"t": T0 // 1000, "r": "0.0001"}], [(T0, 0.0001)]),
    ("gate", "perp", "funding_now"): (
        {"name": "BTC_USDT", "type": "direct", "quanto_multiplier": "0.0001", "mark_price": "93000",
         "index_price": "93010", "funding_rate": "0.0001", "funding_interval": 28800,
         "funding_next_apply": T0 // 1000 + 28800, "position_size": 500000000},
        [(0, 0.0001, 8.0, _PAYS_AT, 93000.0, 93010.0)]),
    ("gate", "perp", "depth"): (
        {"id": 1, "current": T0 / 1000 + 0.5, "update": T0 / 1000,
         "asks": [{"p": "93001", "s": 10000}, {"p": "93100", "s": 40000}],
         "bids": [{"p": "93000", "s": 20000}, {"p": "92950", "s": 30000}]}, _at(T0 + 500)),
    ("gate", "perp", "long_short"): ([_STATS], [(T0, 1.8, 1.2, 1.1, 0.9)]),
    ("gate", "perp", "liquidations"): ([_STATS], [(T0, 186.0, 93.0)]),
    ("hyperliquid", "perp", "ohlcv"): (
        [{"t": T0, "T": T0 + 3599999, "s": "BTC", "i": "1h", "o": "93000.1", "c": "93200.2", "h": "93500.0",
          "l": "92800.5", "v": "12.5", "n": 100}], _BAR),
    ("hyperliquid", "perp", "open_interest_now"): (_CONTEXT, [(0, 26747.5, 93000.0)]),
    ("hyperliquid", "perp", "funding"): (
        [{"coin": "BTC", "fundingRate": "0.0000125", "premium": "0.0001", "time": T0 + 31}], [(T0 + 31, 0.0000125)]),
    ("hyperliquid", "perp", "funding_now"): (
        _CONTEXT, [(0, 0.0000125, 1.0, float(T1), 93000.0, 93010.0)]),
    ("hyperliquid", "perp", "depth"): (
        {"coin": "BTC", "time": T0,
         "levels": [[{"px": p, "sz": s, "n": 1} for p, s in side] for side in (_BIDS, _ASKS)]}, _at(T0)),
    ("dydx", "perp", "ohlcv"): ({"candles": [_CANDLE]}, _BAR),
    ("dydx", "perp", "open_interest"): ({"candles": [_CANDLE]}, [(T0, 540.59)]),
    ("dydx", "perp", "funding"): (
        {"historicalFunding": [{"ticker": "BTC-USD", "rate": "0.00001", "price": "93000", "effectiveAtHeight": "1",
                                "effectiveAt": "2025-01-01T00:00:00.013Z"}]}, [(T0 + 13, 0.00001)]),
    ("dydx", "perp", "funding_now"): (
        {"markets": {"BTC-USD": {"ticker": "BTC-USD", "status": "ACTIVE", "oraclePrice": "93010", "openInterest": "540",
                                 "nextFundingRate": "0.00001"}}}, [(0, 0.00001, 1.0, float(T1), None, 93010.0)]),
    ("dydx", "perp", "depth"): (
        {side: [{"price": p, "size": s} for p, s in rows] for side, rows in (("bids", _BIDS), ("asks", _ASKS))},
        _at(0)),
    ("binance", "spot", "ohlcv"): ([_KLINE], _BAR),
    ("binance", "spot", "depth"): ({"lastUpdateId": 1, "bids": _BIDS, "asks": _ASKS}, _at(0)),
    ("bybit", "spot", "ohlcv"): (_v5({"category": "spot", "symbol": "BTCUSDT", "list": [_V5_KLINE]}), _BAR),
    ("bybit", "spot", "depth"): (
        _v5({"s": "BTCUSDT", "b": _BIDS, "a": _ASKS, "ts": T0, "u": 1, "seq": 2, "cts": T0}), _at(T0)),
    ("okx", "spot", "ohlcv"): (
        _okx([str(T0), "93000.1", "93500.0", "92800.5", "93200.2", "12.5", "1165000", "1165000", "1"]), _BAR),
    ("okx", "spot", "depth"): (
        _okx({"asks": [[*row, "1"] for row in _ASKS], "bids": [[*row, "1"] for row in _BIDS], "ts": str(T0)}), _at(T0)),
    ("coinbase", "spot", "ohlcv"): (
        {"candles": [{"start": str(T0 // 1000), "low": "92800.5", "high": "93500.0", "open": "93000.1",
                      "close": "93200.2", "volume": "12.5"}]}, _BAR),
    ("coinbase", "spot", "depth"): (
        {"pricebook": {"product_id": "BTC-USD", "time": "2025-01-01T00:00:00.533606Z",
                       "bids": [{"price": p, "size": s} for p, s in _BIDS],
                       "asks": [{"price": p, "size": s} for p, s in _ASKS]}}, _at(T0)),
    ("bitfinex", "spot", "ohlcv"): ([[T0, 93000.1, 93200.2, 93500.0, 92800.5, 12.5]], _BAR),
    ("bitfinex", "spot", "depth"): (
        [[93000, 2, 2], [92950, 1, 3], [92900, 0, 1], [93001, 1, -1], [93100, 5, -4]], _at(0)),
    ("deribit", "option", "implied_vol"): (
        {"jsonrpc": "2.0", "result": {"data": [[T0, 55.1, 56.2, 54.3, 55.5]], "continuation": None}, "usIn": 1},
        [(T0, 0.551, 0.562, 0.543, 0.555)]),
}  # fmt: skip
