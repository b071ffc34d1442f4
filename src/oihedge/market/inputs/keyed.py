"""Sources that need a key: Glassnode, CryptoQuant, Santiment, LunarCrush."""

from __future__ import annotations

import json
from collections.abc import Iterator

from oihedge.core.errors import VenueError
from oihedge.market.inputs.settings import InputSource
from oihedge.market.inputs.source import Part, Point, Source, instant, listed, number
from oihedge.market.web import Web

_SANTIMENT = """query ($metric: String!, $slug: String!, $from: DateTime!, $to: DateTime!) {
  getMetric(metric: $metric) { timeseriesDataJson(slug: $slug, from: $from, to: $to, interval: "1d") } }"""
_CRYPTOQUANT_ROWS = 1000


def _glassnode(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Read docs.glassnode.com; the metric is its path, e.g. `market/mvrv`."""
    ((asset, theirs),), (metric,) = part.assets.items(), part.metrics
    span = {"s": str(int(part.start.timestamp())), "u": str(int(part.end.timestamp()))}
    answer = web.json(f"/v1/metrics/{metric}", {"a": theirs, "i": "24h", **span, **settings.parameters})
    for row in listed(answer):
        yield Point(asset, metric, instant(row["t"]), number(row["v"]))


def _cryptoquant(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Read cryptoquant.com/docs, newest first; a metric is path and field: `exchange-flows/netflow:netflow_total`.

    A page holds the newest rows of the span, so the next one asks for those before its oldest.
    """
    ((asset, theirs),), (metric,) = part.assets.items(), part.metrics
    path, _, field = metric.partition(":")
    end = part.end
    while end > part.start:
        span = {"from": f"{part.start:%Y%m%dT%H%M%S}", "to": f"{end:%Y%m%dT%H%M%S}"}
        page = {"window": "day", **span, "limit": str(_CRYPTOQUANT_ROWS), **settings.parameters}
        rows = listed(web.json(f"/v1/{theirs}/{path}", page)["result"]["data"])
        points = [Point(asset, metric, instant(row["date"]), number(row[field])) for row in rows]
        yield from points
        oldest = min((point.at for point in points), default=part.start)
        if len(points) < _CRYPTOQUANT_ROWS or oldest >= end:
            return
        end = oldest


def _santiment(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Ask academy.santiment.net's GraphQL API; it reports errors with HTTP 200."""
    ((asset, theirs),), (metric,) = part.assets.items(), part.metrics
    span = {"from": f"{part.start:%Y-%m-%dT%H:%M:%SZ}", "to": f"{part.end:%Y-%m-%dT%H:%M:%SZ}"}
    variables = {"metric": metric, "slug": theirs, **span, **settings.parameters}
    answer = web.json("/graphql", body={"query": _SANTIMENT, "variables": variables})
    if answer.get("errors"):
        raise VenueError(f"santiment {part}: it reports an error", do="check the metric, the asset and the plan")
    rows = answer["data"]["getMetric"]["timeseriesDataJson"]
    for row in listed(json.loads(rows) if isinstance(rows, str) else rows):
        yield Point(asset, metric, instant(row["datetime"]), number(row["value"]))


def _lunarcrush(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Read lunarcrush.com/developers/api's coin time series, every metric in one answer."""
    ((asset, theirs),) = part.assets.items()
    span = {"start": str(int(part.start.timestamp())), "end": str(int(part.end.timestamp()))}
    path = f"/api4/public/coins/{theirs}/time-series/v2"
    answer = web.json(path, {"bucket": "day", **span, **settings.parameters})
    for row in listed(answer["data"]):
        for metric in part.metrics:
            yield Point(asset, metric, instant(row["time"]), number(row.get(metric)))


KEYED = (
    Source("glassnode", "onchain", "series", _glassnode, lambda key: {"X-Api-Key": key}),
    Source("cryptoquant", "onchain", "series", _cryptoquant, lambda key: {"Authorization": f"Bearer {key}"}),
    Source("santiment", "sentiment", "series", _santiment, lambda key: {"Authorization": f"Apikey {key}"}),
    Source("lunarcrush", "sentiment", "asset", _lunarcrush, lambda key: {"Authorization": f"Bearer {key}"}),
)
