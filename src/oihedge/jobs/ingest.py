"""Venue rows to lake raw/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.errors import ConfigError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import MARKET_TABLES
from oihedge.jobs.opening import market_address, open_lake
from oihedge.lake.store import Lake
from oihedge.market.read import Fetched, fetch


@dataclass(frozen=True)
class IngestReport:
    """What came in: `rows` per venue and table, `gaps` that no call can fill, `failures` of whole venues."""

    as_of: datetime
    rows: tuple[dict[str, Any], ...]
    gaps: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @property
    def added(self) -> int:
        """Rows that the lake did not have yet."""
        return sum(row["added"] for row in self.rows)


def run(
    config: Config,
    *,
    as_of: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    market_url: str | None = None,
    progress: Progress = silent,
) -> IngestReport:
    """Fetch every tracked venue from `start` (default: where the lake stops) to `end` (default: `as_of`) into raw/.

    Raises:
        ConfigError: if the market is one that is only imported, or a symbol is not the venue's.
        VenueError: if no venue answered.
    """
    if config.market.source == "import":
        raise ConfigError(
            "this configuration has no venues", expected="market=embedded or market=ccxt", got="market=imported"
        )
    lake = open_lake(config)
    begin: datetime | Mapping[tuple[str, str], datetime] = start or _resume(lake, config, as_of)
    with market_address(config, as_of, market_url) as url:
        fetched = fetch(config.market, start=begin, end=end or as_of, now=as_of, base_url=url, progress=progress)
    return store(lake, fetched, as_of)


def store(lake: Lake, fetched: Fetched, as_of: datetime) -> IngestReport:
    """Append what was fetched to raw/ and count it by venue and table."""
    rows = [line for name, frame in sorted(fetched.rows.items()) for line in _append(lake, name, frame, as_of)]
    gaps = tuple({**asdict(gap), "start": str(gap.start), "end": str(gap.end)} for gap in fetched.gaps)
    return IngestReport(as_of, tuple(rows), gaps, tuple(fetched.failures))


def _append(lake: Lake, name: str, frame: pl.DataFrame, as_of: datetime) -> Sequence[dict[str, Any]]:
    before = _counts(lake, name)
    lake.append("raw", name, frame, now=as_of)
    after = _counts(lake, name)
    fetched = dict(frame.group_by("venue").len().iter_rows())
    return [
        {"venue": venue, "table": name, "fetched": count, "added": after.get(venue, 0) - before.get(venue, 0)}
        for venue, count in sorted(fetched.items())
    ]


def _counts(lake: Lake, name: str) -> dict[str, int]:
    return dict(lake.rows("raw", name).group_by("venue").len().collect().iter_rows())


def _resume(lake: Lake, config: Config, as_of: datetime) -> dict[tuple[str, str], datetime]:
    """Per (venue, table): a little before the newest row that raw/ has, else the start of the configured history."""
    earliest = as_of - timedelta(days=config.run.history_days)
    start = {(venue.id, spec.name): earliest for venue in config.market.venues for spec in MARKET_TABLES}
    for spec in MARKET_TABLES:
        by = ["venue", "symbol"]
        newest = (
            lake.rows("raw", spec.name).group_by(by).agg(pl.col("ts").max()).group_by("venue").agg(pl.col("ts").min())
        )
        for venue, ts in newest.collect().iter_rows():
            start[(venue, spec.name)] = max(earliest, ts - timedelta(hours=config.market.lookback_h))
    return start
