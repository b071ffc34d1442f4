"""Loopback twins of the on-chain and sentiment sources: their paths and shapes over figures of the embedded market.

A day's figure depends on that day's and earlier prices and on noise of its own day, so a longer past never changes it.
It shows an hour after its day's end; Glassnode's first word on a day is revised a day later, as such figures are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import polars as pl
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from oihedge.core.clock import Clock
from oihedge.simulator.asked import Refused
from oihedge.simulator.market import DAY, EmbeddedMarket
from oihedge.simulator.noise import generator

PUBLISHED_AFTER = timedelta(hours=1)
REVISED_AFTER = timedelta(days=1)
COINMETRICS_PAGE, CRYPTOQUANT_PAGE = 10_000, 100_000
_WEEK = timedelta(days=7)
_LONG_NAMES = {"bitcoin": "BTC", "ethereum": "ETH", "near-protocol": "NEAR", "*": "*"}
_INDICES = ("fear_greed", "sentiment", "social_dominance")
_RATIOS = ("CapMVRVCur", "market/mvrv")
_FLOWS = ("netflow", "net", "balance")


@dataclass(frozen=True)
class Asking:
    """One request: where, with what, by whom, and the market at what instant."""

    market: EmbeddedMarket
    now: datetime
    url: str
    path: Mapping[str, Any]
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]

    def figures(
        self, source: str, name: str, metric: str, start: datetime, end: datetime
    ) -> list[tuple[datetime, float]]:
        """Return the published figures of the days in [start, end], oldest first.

        Raises:
            Refused: for an asset there is none of.
        """
        asset = _asset(self.market, name)
        return [
            (day, _figure(self.market, source, asset, metric, day, momentum, volume))
            for day, momentum, volume in _days(self.market, asset, start, min(end, self.now - PUBLISHED_AFTER - DAY))
        ]

    def instant(self, name: str, default: datetime) -> datetime:
        """Return a parameter as an instant: seconds since 1970 or an ISO date."""
        text = self.query.get(name)
        if text is None:
            return default
        try:
            if text.isdigit() and len(text) > 8:
                return datetime.fromtimestamp(int(text), UTC)
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError, OSError):
            raise Refused(400, {"error": f"bad parameter {name}"}) from None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment

    def whole(self, name: str, default: int, most: int) -> int:
        """Return a parameter as a whole number in 0..most."""
        text = self.query.get(name, str(default))
        if not text.isdigit() or len(text) > 7 or int(text) > most:
            raise Refused(400, {"error": f"bad parameter {name}"})
        return int(text)

    def require_key(self, header: str, prefix: str) -> None:
        """Refuse a request without a key where the source wants it."""
        given = self.headers.get(header.lower(), "")
        if not given.startswith(prefix) or not given.removeprefix(prefix).strip():
            raise Refused(401, {"error": "api key missing or wrong"})


Answer = Callable[[Asking], Any]


def _asset(market: EmbeddedMarket, name: str) -> str:
    asset = _LONG_NAMES.get(name, name.upper())
    if asset != "*" and asset not in market.assets:
        raise Refused(404, {"error": "there is no such asset"})
    return asset


def _days(market: EmbeddedMarket, asset: str, start: datetime, end: datetime) -> list[tuple[datetime, float, float]]:
    """(day, log return of the seven days up to its end, its volume in coins) of the days in [start, end]."""
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    priced = market.assets[0] if asset == "*" else asset
    venue = next(iter(market.settings.spots))
    bars = market.bars(priced, venue, "spot", first - _WEEK, max(end, first) + DAY)
    daily = bars.group_by(pl.col("ts").dt.truncate("1d")).agg(
        pl.col("close").last(), pl.col("volume").sum(), hours=pl.len()
    )  # fmt: skip
    past = daily.sort("ts").with_columns(before=pl.col("close").shift(7))
    momentum = (pl.col("close") / pl.coalesce("before", "close")).log()
    chosen = past.filter(pl.col("ts").is_between(first, end), pl.col("hours") == 24)
    return chosen.select("ts", momentum.alias("momentum"), "volume").rows()


def _figure(
    market: EmbeddedMarket, source: str, asset: str, metric: str, day: datetime, momentum: float, volume: float
) -> float:
    noise = generator(market.settings.seed, f"inputs {source} {asset} {metric}", (day - market.origin) // DAY, "hours")
    draw = float(noise.standard_normal())
    if metric in _INDICES:
        return float(round(min(max(50.0 + 180.0 * momentum + 6.0 * draw, 1.0), 99.0)))
    if metric in _RATIOS:
        return round(1.8 * math.exp(momentum + 0.02 * draw), 6)
    if any(word in metric for word in _FLOWS):
        return round(volume * (0.02 * draw - 0.1 * momentum), 4)
    return float(round(1000.0 + 40.0 * volume**0.5 * math.exp(0.05 * draw)))


def _coinmetrics(asking: Asking) -> Any:
    metrics = [name for name in asking.query.get("metrics", "").split(",") if name]
    assets = [name for name in asking.query.get("assets", "").split(",") if name]
    if not metrics or not assets:
        raise Refused(400, {"error": {"type": "missing_parameter", "message": "Missing parameter."}})
    start, end = asking.instant("start_time", asking.market.origin), asking.instant("end_time", asking.now)
    rows = []
    for name in assets:
        found = [asking.figures("coinmetrics", name, metric, start, end) for metric in metrics]
        for at, (day, _) in enumerate(found[0]):
            values = {metric: str(series[at][1]) for metric, series in zip(metrics, found, strict=True)}
            rows.append({"asset": name, "time": f"{day:%Y-%m-%dT%H:%M:%S}.000000000Z", **values})
    size, skip = asking.whole("page_size", 100, COINMETRICS_PAGE), asking.whole("next_page_token", 0, 10**6)
    page: dict[str, Any] = {"data": rows[skip : skip + size]}
    if skip + size < len(rows) and size:
        token = str(skip + size)
        following = urlencode({**asking.query, "next_page_token": token})
        page |= {"next_page_token": token, "next_page_url": f"{asking.url}?{following}"}
    return page


def _alternative(asking: Asking) -> Any:
    limit = asking.whole("limit", 1, 10**6)
    rows = asking.figures("alternative", "*", "fear_greed", asking.market.origin, asking.now)[::-1]
    data = [
        {"value": f"{value:.0f}", "value_classification": "", "timestamp": str(int(day.timestamp()))}
        for day, value in (rows[:limit] if limit else rows)
    ]
    return {"name": "Fear and Greed Index", "data": data, "metadata": {"error": None}}


def _blockchain(asking: Asking) -> Any:
    name = asking.path["name"]
    start = asking.instant("start", asking.market.origin)
    span = asking.query.get("timespan", "1days").removesuffix("days")
    if not span.isdigit() or len(span) > 5:
        raise Refused(400, {"error": "bad timespan"})
    rows = asking.figures("blockchain", "BTC", name, start, start + timedelta(days=int(span)))
    values = [{"x": int(day.timestamp()), "y": value} for day, value in rows]
    return {"status": "ok", "name": name, "unit": "", "period": "day", "values": values}


def _glassnode(asking: Asking) -> Any:
    asking.require_key("X-Api-Key", "")
    start, end = asking.instant("s", asking.market.origin), asking.instant("u", asking.now)
    rows = asking.figures("glassnode", asking.query.get("a", ""), asking.path["metric"], start, end)
    settled = asking.now - DAY - PUBLISHED_AFTER - REVISED_AFTER
    return [
        {"t": int(day.timestamp()), "v": value if day <= settled else round(value * 1.01, 6)} for day, value in rows
    ]


def _cryptoquant(asking: Asking) -> Any:
    asking.require_key("Authorization", "Bearer ")
    start, end = asking.instant("from", asking.market.origin), asking.instant("to", asking.now)
    metric = str(asking.path["metric"])
    field = f"{metric.rsplit('/', 1)[-1]}_total"
    rows = asking.figures("cryptoquant", asking.path["asset"], metric, start, end - timedelta(microseconds=1))
    newest = rows[::-1][: asking.whole("limit", 100, CRYPTOQUANT_PAGE)]
    data = [{"date": f"{day:%Y-%m-%d}", field: value} for day, value in newest]
    return {"status": {"code": 200, "message": "success"}, "result": {"window": "day", "data": data}}


def _santiment(asking: Asking) -> Any:
    asking.require_key("Authorization", "Apikey ")
    told = asking.body.get("variables") if isinstance(asking.body, dict) else None
    if not isinstance(told, dict) or not all(isinstance(told.get(k), str) for k in ("metric", "slug", "from", "to")):
        return {"errors": [{"message": "variables are missing"}], "data": None}
    span = Asking(**{**asking.__dict__, "query": told})
    try:
        start, end = span.instant("from", asking.now), span.instant("to", asking.now)
        rows = asking.figures("santiment", told["slug"], told["metric"], start, end)
    except Refused:
        return {"errors": [{"message": "the slug or a date is not known"}], "data": {"getMetric": None}}
    data = [{"datetime": f"{day:%Y-%m-%dT%H:%M:%SZ}", "value": value} for day, value in rows]
    return {"data": {"getMetric": {"timeseriesDataJson": data}}}


def _lunarcrush(asking: Asking) -> Any:
    asking.require_key("Authorization", "Bearer ")
    start, end = asking.instant("start", asking.market.origin), asking.instant("end", asking.now)
    metrics = ("sentiment", "social_dominance", "interactions", "posts_active", "contributors_active")
    found = [asking.figures("lunarcrush", asking.path["coin"], metric, start, end) for metric in metrics]
    data = [
        {"time": int(day.timestamp()), **{metric: rows[at][1] for metric, rows in zip(metrics, found, strict=True)}}
        for at, (day, _) in enumerate(found[0])
    ]
    return {"config": {"bucket": "day"}, "data": data}


PATHS: Mapping[str, Answer] = {
    "/coinmetrics/v4/timeseries/asset-metrics": _coinmetrics,
    "/alternative/fng/": _alternative,
    "/blockchain/charts/{name}": _blockchain,
    "/glassnode/v1/metrics/{metric:path}": _glassnode,
    "/cryptoquant/v1/{asset}/{metric:path}": _cryptoquant,
    "/lunarcrush/api4/public/coins/{coin}/time-series/v2": _lunarcrush,
    "/santiment/graphql": _santiment,
}
"""Below /inputs; santiment takes POST, the others GET."""


def routes(market: EmbeddedMarket, standing: Callable[[Request], Clock], root: str = "") -> list[Route]:
    """Return the sources' routes below `root`/inputs; `standing` tells the clock by which a request is answered."""
    return [
        Route(
            f"{root}/inputs{path}",
            _endpoint(market, standing, answer),
            methods=["POST" if answer is _santiment else "GET"],
        )
        for path, answer in PATHS.items()
    ]


def _endpoint(market: EmbeddedMarket, standing: Callable[[Request], Clock], answer: Answer) -> Any:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body() or b"null")
        except (ValueError, RecursionError):
            body = None
        asking = Asking(
            market,
            standing(request).now(),
            str(request.url.replace(query="")),
            request.path_params,
            dict(request.query_params),
            body,
            dict(request.headers),
        )
        return await run_in_threadpool(_answered, asking, answer)

    return endpoint


def _answered(asking: Asking, answer: Answer) -> JSONResponse:
    try:
        return JSONResponse(answer(asking))
    except Refused as refused:
        return JSONResponse(refused.body, status_code=refused.status)
