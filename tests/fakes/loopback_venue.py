"""A small loopback venue that speaks just enough Bybit, Binance and Hyperliquid REST to be broken on purpose.

Its market is arithmetic: bar h (hours since the epoch) opens at 1000 + h % 500 and closes where the next one opens;
open interest at hour h is 5000 + h % 300 coins; funding is 0.0001 every 8 hours (every hour on Hyperliquid).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fakes.http_service import HttpService

HOUR = 3_600_000


def price(hour: int) -> float:
    return 1000.0 + hour % 500


def coins(hour: int) -> float:
    return 5000.0 + hour % 300


@dataclass(frozen=True)
class Reply:
    """What goes over the wire instead of the right answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Promise more bytes than are sent, then hang up."""


Fault = Callable[[bytes], Reply]
"""Makes the broken reply from the right body."""


@dataclass
class Broken:
    """Breaks the first `times` answers to requests whose path and parameters contain `where`."""

    where: str
    fault: Fault
    times: int = 1


class LoopbackVenue(HttpService):
    """Context manager; `requests` lists what was asked (path with parameters)."""

    def __init__(self, now_ms: int, *broken: Broken, first_ms: int = 0) -> None:
        self.now_ms, self.first_ms = now_ms, first_ms
        self.broken = list(broken)
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def asked(self, where: str) -> int:
        return sum(where in request for request in self.requests)

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        asked = f"{parts.path}?{parts.query} {body.decode()}"
        parameters = dict(parse_qsl(parts.query)) | (json.loads(body) if body else {})
        reply = Reply(body=json.dumps(self._answer(parts.path, parameters)).encode())
        with self._lock:
            self.requests.append(asked)
            for broken in self.broken:
                if broken.times > 0 and broken.where in asked:
                    broken.times -= 1
                    reply = broken.fault(reply.body)
                    break
        headers = {"Content-Type": "application/json", **reply.headers}
        self.send(handler, reply.status, headers, reply.body, cut=reply.cut)

    def _answer(self, path: str, q: dict[str, Any]) -> Any:
        if path == "/info":
            return self._hyperliquid(q)
        if path.endswith("/exchangeInfo"):
            return {"symbols": [_binance_market(base, swap="/fapi/" in path) for base in ("BTC", "ETH")]}
        if path.startswith("/v5/market"):
            return {"retCode": 0, "retMsg": "OK", "result": self._bybit(path, q), "time": self.now_ms}
        a, b = int(q["startTime"]), int(q.get("endTime", self.now_ms))
        if path.endswith("/klines"):
            rows = [
                [h * HOUR, *map(str, _bar(h)), h * HOUR + HOUR - 1, "0", 1, "0", "0", "0"] for h in self._hours(a, b)
            ]
            return rows[: int(q["limit"])]
        if path.endswith("/openInterestHist"):
            rows = [
                {"symbol": q["symbol"], "sumOpenInterest": str(coins(h)), "timestamp": h * HOUR,
                 "sumOpenInterestValue": str(coins(h) * price(h))}
                for h in self._hours(a, b)
            ]  # fmt: skip
            return rows[: int(q["limit"])]
        assert path.endswith("/fundingRate"), path
        rows = [
            {"symbol": q["symbol"], "fundingRate": "0.0001", "fundingTime": h * HOUR + 7}
            for h in self._hours(a, b)
            if h % 8 == 0
        ]
        return rows[: int(q["limit"])]

    def _bybit(self, path: str, q: dict[str, Any]) -> Any:
        if path.endswith("/instruments-info"):
            listed = (
                []
                if q.get("status") == "PreLaunch"
                else [_bybit_market(base, q["category"]) for base in ("BTC", "ETH")]
            )
            return {"category": q["category"], "list": listed, "nextPageCursor": ""}
        a, b = int(q.get("start", q.get("startTime", 0))), int(q.get("end", q.get("endTime", self.now_ms)))
        hours = self._hours(a, b)
        if path.endswith("/kline"):
            rows: list[Any] = [[str(h * HOUR), *map(str, _bar(h)), "0"] for h in hours]
        elif path.endswith("/open-interest"):
            rows = [{"openInterest": str(coins(h)), "timestamp": str(h * HOUR)} for h in hours]
        else:
            rows = [
                {"symbol": q["symbol"], "fundingRate": "0.0001", "fundingRateTimestamp": str(h * HOUR)}
                for h in hours
                if h % 8 == 0
            ]
        return {"symbol": q["symbol"], "category": q["category"], "list": rows[::-1][: int(q["limit"])]}

    def _hyperliquid(self, q: dict[str, Any]) -> Any:
        now = self.now_ms // HOUR
        if q["type"] == "spotMeta":
            return {"tokens": [{"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0}], "universe": []}
        if q["type"] == "metaAndAssetCtxs":
            names = [{"name": base, "szDecimals": 4, "maxLeverage": 50} for base in ("BTC", "ETH")]
            present = {"openInterest": str(coins(now)), "markPx": str(price(now)), "midPx": str(price(now)),
                       "oraclePx": str(price(now)), "prevDayPx": "1", "dayNtlVlm": "1", "funding": "0.00001",
                       "premium": "0", "impactPxs": ["1", "1"]}  # fmt: skip
            return [{"universe": names}, [present, present]]
        if q["type"] == "candleSnapshot":
            ask = q["req"]
            rows = [
                dict(zip("tohlcv", [h * HOUR, *map(str, _bar(h))], strict=True)) | {"s": ask["coin"], "i": "1h", "n": 1}
                for h in self._hours(ask["startTime"], ask["endTime"])
            ]
            return rows[-5000:]
        hours = self._hours(q["startTime"], q["endTime"])
        return [{"coin": q["coin"], "fundingRate": "0.00001", "premium": "0", "time": h * HOUR + 31} for h in hours][
            :500
        ]

    def _hours(self, a: int, b: int) -> range:
        """Hours with a <= instant <= b, none before the listing or after now."""
        return range(-(-max(a, self.first_ms) // HOUR), min(b, self.now_ms) // HOUR + 1)


def _bar(hour: int) -> tuple[float, float, float, float, float]:
    a, b = price(hour), price(hour + 1)
    return a, max(a, b) + 1, min(a, b) - 1, b, 10.0


def _binance_market(base: str, swap: bool) -> dict[str, Any]:
    market = {
        "symbol": f"{base}USDT", "baseAsset": base, "quoteAsset": "USDT", "status": "TRADING",
        "pricePrecision": 2, "quantityPrecision": 3, "baseAssetPrecision": 8, "quotePrecision": 8,
        "filters": [{"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "1000000", "tickSize": "0.1"},
                    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"}],
    }  # fmt: skip
    extra = {"pair": f"{base}USDT", "contractType": "PERPETUAL", "marginAsset": "USDT", "deliveryDate": 4133404800000}
    return market | extra if swap else market | {"isSpotTradingAllowed": True, "permissions": ["SPOT"]}


def _bybit_market(base: str, category: str) -> dict[str, Any]:
    market = {
        "symbol": f"{base}USDT", "status": "Trading", "baseCoin": base, "quoteCoin": "USDT",
        "priceFilter": {"tickSize": "0.1", "minPrice": "0.1", "maxPrice": "1000000"},
        "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001", "maxOrderQty": "1000", "basePrecision": "0.001",
                          "quotePrecision": "0.01", "minOrderAmt": "1"},
    }  # fmt: skip
    if category == "spot":
        return market
    return market | {
        "contractType": "LinearPerpetual", "settleCoin": "USDT", "fundingInterval": 480, "deliveryTime": "0",
        "launchTime": "1585526400000",
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100", "leverageStep": "0.01"},
    }  # fmt: skip
