"""Sources that answer everybody: Coin Metrics' community API, alternative.me, blockchain.com."""

from __future__ import annotations

from collections.abc import Iterator

from oihedge.core.errors import VenueError
from oihedge.market.inputs.settings import InputSource
from oihedge.market.inputs.source import DAY, Part, Point, Source, instant, listed, number
from oihedge.market.web import Web

_PAGES = 1000


def _coinmetrics(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Page through docs.coinmetrics.io/api/v4 timeseries/asset-metrics, oldest first."""
    ours = {theirs: asset for asset, theirs in part.assets.items()}
    params = {
        "assets": ",".join(ours),
        "metrics": ",".join(part.metrics),
        "frequency": "1d",
        "start_time": f"{part.start:%Y-%m-%d}",
        "end_time": f"{part.end:%Y-%m-%d}",
        "page_size": "10000",
        "ignore_unsupported_errors": "true",
        "ignore_forbidden_errors": "true",
        **settings.parameters,
    }
    answer = web.json("/v4/timeseries/asset-metrics", params)
    seen: set[str] = set()
    while True:
        for row in listed(answer["data"]):
            for metric in part.metrics:
                yield Point(ours[row["asset"]], metric, instant(row["time"]), number(row.get(metric)))
        following = answer.get("next_page_url")
        if not following:
            return
        if not isinstance(following, str) or following in seen or len(seen) >= _PAGES:
            raise VenueError("coinmetrics pages without an end")
        seen.add(following)
        answer = web.json(following)


def _alternative(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Read alternative.me/crypto/fear-and-greed-index, newest first, all days at once."""
    answer = web.json("/fng/", {"limit": "0", "format": "json", **settings.parameters})
    if answer.get("metadata", {}).get("error"):
        raise VenueError("alternative.me answers with an error of its own", do="try again later")
    for row in listed(answer["data"]):
        for asset in part.assets:
            for metric in part.metrics:
                yield Point(asset, metric, instant(row["timestamp"]), number(row["value"]))


def _blockchain(web: Web, settings: InputSource, part: Part) -> Iterator[Point]:
    """Read blockchain.com/explorer/api/charts_api; the metric is the chart's name."""
    (asset,), (metric,) = part.assets, part.metrics
    days = (part.end - part.start) // DAY + 1
    params = {"start": f"{part.start:%Y-%m-%d}", "timespan": f"{days}days", "format": "json", "sampled": "false"}
    answer = web.json(f"/charts/{metric}", {**params, **settings.parameters})
    for row in listed(answer["values"]):
        yield Point(asset, metric, instant(row["x"]), number(row["y"]))


KEYLESS = (
    Source("coinmetrics", "onchain", "all", _coinmetrics),
    Source("alternative", "sentiment", "all", _alternative),
    Source("blockchain", "onchain", "series", _blockchain),
)
