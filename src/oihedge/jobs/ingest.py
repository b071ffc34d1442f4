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
from oihedge.core.tables import table
from oihedge.jobs.holes import keeps_interest, tracked_series
from oihedge.jobs.opening import market_address, open_lake
from oihedge.lake.store import Lake
from oihedge.market.budget import budget
from oihedge.market.read import Fetched, fetch
from oihedge.market.settings import Market, Venue
from oihedge.market.venues import REACH

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

    That is a little before the newest row that raw/ has of the series that lags most (a kind, timeframe or measure),
    or the start of the configured history where one has none.
    """
    earliest = as_of - timedelta(days=config.run.history_days)
    back = timedelta(hours=config.market.lookback_h)
    start: dict[tuple[str, ...], datetime] = {}
    for name in tracked_tables(config.market):
        venues = [(venue, tracked_series(config.market, venue, name)) for venue in config.market.venues]
        past = {venue.id for venue, _ in venues if _has_past(config, venue, name, as_of)}
        symbols = {(venue.id, symbol): series for venue, series in venues for symbol in venue.symbols.values()}
        newest = _newest(lake, name, max(earliest, as_of - RECENT))
        if any(of[0] in past and None in _reached(newest, of, series) for of, series in symbols.items()):
            newest = _newest(lake, name, earliest)
        for of, series in symbols.items():
            begin = min((at or earliest for at in _reached(newest, of, series)), default=earliest) - back
            start[of[0], name, of[1]] = max(earliest, begin)
    return start


def _has_past(config: Config, venue: Venue, name: str, as_of: datetime) -> bool:
    """Whether the venue keeps rows of the table: of what it only shows now, older rows are not looked for."""
    of = budget(config.market, venue, name, as_of)
    return of is not None and bool(of.sources)


def _reached(
    newest: Mapping[tuple[str, ...], datetime], of: tuple[str, str], series: Sequence[Sequence[tuple[str, ...]]]
) -> list[datetime | None]:
    """Return where each series of (venue, symbol) stops, None where it has no row.

    Of those that come in one answer the last one counts: a venue may leave one of them out for good.
    """
    return [
        max((at for key in together if (at := newest.get((*of, *key))) is not None), default=None)
        for together in series
    ]


def _newest(lake: Lake, name: str, since: datetime) -> dict[tuple[str, ...], datetime]:
    """Return the newest instant since then of each series, by the table's key without ts."""
    rows = lake.rows("raw", name).filter(pl.col("ts") >= since)
    by = [column for column in table(name).key if column != "ts"]
    if name == "open_interest":  # where there is a history, a snapshot of the present does not stand for it
        kept = [venue for venue, _ in REACH if keeps_interest(venue)]
        rows = rows.filter(~pl.col("venue").is_in(kept) | (pl.col("ts") == pl.col("ts").dt.truncate("1h")))
    newest = rows.group_by(by).agg(pl.col("ts").max()).collect()
    return {tuple(key): ts for *key, ts in newest.iter_rows()}
