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
from oihedge.jobs.opening import market_address, open_lake
from oihedge.lake.store import Lake
from oihedge.market.budget import budget
from oihedge.market.read import Fetched, fetch
from oihedge.market.settings import Market, Venue

RECENT = timedelta(days=7)
"""Where the newest rows are looked for first; only a series that has none there is looked for further back."""


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
    begin: datetime | Mapping[tuple[str, ...], datetime] = start or resume(lake, config, as_of)
    tables = tracked_tables(config.market)
    with market_address(config, as_of, market_url) as url:
        fetched = fetch(
            config.market, start=begin, end=end or as_of, now=as_of, base_url=url, tables=tables, progress=progress
        )
    return store(lake, fetched, as_of)


def store(lake: Lake, fetched: Fetched, as_of: datetime) -> IngestReport:
    """Append what was fetched to raw/ and count it by venue and table."""
    rows = [line for name, frame in sorted(fetched.rows.items()) for line in _append(lake, name, frame, as_of)]
    gaps = tuple({**asdict(gap), "start": str(gap.start), "end": str(gap.end)} for gap in fetched.gaps)
    return IngestReport(as_of, tuple(rows), gaps, tuple(fetched.failures))


def _append(lake: Lake, name: str, frame: pl.DataFrame, as_of: datetime) -> Sequence[dict[str, Any]]:
    """Append and count by venue; of what the lake holds only the span of the frame is looked at."""
    of = "venue" if "venue" in frame.columns else "source"
    fetched = dict(frame.group_by(of).len().sort(of).iter_rows())
    if len(fetched) < 2:
        new = dict.fromkeys(fetched, lake.append("raw", name, frame, now=as_of).added)
    else:
        before = _counts(lake, name, frame, of)
        lake.append("raw", name, frame, now=as_of)
        after = _counts(lake, name, frame, of)
        new = {one: after[one] - before.get(one, 0) for one in fetched}
    return [{"venue": one, "table": name, "fetched": count, "added": new[one]} for one, count in fetched.items()]


def _counts(lake: Lake, name: str, frame: pl.DataFrame, of: str) -> dict[str, int]:
    near = lake.rows("raw", name).filter(pl.col("ts").is_between(frame["ts"].min(), frame["ts"].max()))
    return dict(near.group_by(of).len().collect().iter_rows())


def tracked_tables(market: Market) -> tuple[str, ...]:
    """Return the names of the tables that these settings ask venues for."""
    return market.tables


def resume(lake: Lake, config: Config, as_of: datetime) -> dict[tuple[str, ...], datetime]:
    """Return where an ingest begins, by (venue, table, symbol).

    That is a little before the newest row that raw/ has of it, else the start of the configured history.
    """
    earliest = as_of - timedelta(days=config.run.history_days)
    back = timedelta(hours=config.market.lookback_h)
    start: dict[tuple[str, ...], datetime] = {}
    for name in tracked_tables(config.market):
        series = {(venue.id, symbol): venue for venue in config.market.venues for symbol in venue.symbols.values()}
        newest = _newest(lake, name, max(earliest, as_of - RECENT))
        if any(one not in newest and _has_past(config, venue, name, as_of) for one, venue in series.items()):
            newest = _newest(lake, name, earliest)
        for venue_id, symbol in series:
            begin = newest.get((venue_id, symbol), earliest) - back
            start[venue_id, name, symbol] = max(earliest, begin)
    return start


def _has_past(config: Config, venue: Venue, name: str, as_of: datetime) -> bool:
    """Whether the venue keeps rows of the table: of what it only shows now, older rows are not looked for."""
    of = budget(config.market, venue, name, as_of)
    return of is not None and bool(of.sources)


def _newest(lake: Lake, name: str, since: datetime) -> dict[tuple[str, str], datetime]:
    rows = lake.rows("raw", name).filter(pl.col("ts") >= since)
    newest = rows.group_by("venue", "symbol").agg(pl.col("ts").max()).collect()
    return {(venue, symbol): ts for venue, symbol, ts in newest.iter_rows()}
