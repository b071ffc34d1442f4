"""On-chain, sentiment and events to lake raw/."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from pydantic import SecretStr

from oihedge.config import Config
from oihedge.core.errors import VenueError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import UTC_TIME
from oihedge.jobs.finished import heard, record_heard
from oihedge.jobs.opening import market_address, open_lake
from oihedge.lake.store import Lake
from oihedge.market.inputs.events import as_seen, read_events, withdrawn
from oihedge.market.inputs.fetch import SOURCES, FetchedSource, fetch_sources, key_name, usable

FRESH = timedelta(hours=36)
"""A day first seen this soon after it was due was found by a run that follows the source."""


@dataclass(frozen=True)
class InputsReport:
    """What came in: `rows` by source and table, `failures` one line each, and the sources that are `off` and why."""

    as_of: datetime
    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    off: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def keys_from_environment() -> dict[str, SecretStr]:
    """Return the keys that the environment holds, by source; blank ones count as none."""
    held = {name: os.environ.get(key_name(name), "").strip() for name, source in SOURCES.items() if source.needs_key}
    return {name: SecretStr(key) for name, key in held.items() if key}


def run(
    config: Config,
    *,
    as_of: datetime,
    start: datetime | None = None,
    market_url: str | None = None,
    keys: Mapping[str, SecretStr] | None = None,
    progress: Progress = silent,
) -> InputsReport:
    """Fetch every source that is in use, and read the event calendars, into raw/.

    A source that fails is a line in the report and hinders no other. With the embedded market its loopback server
    speaks for all of them.

    Args:
        config: settings; market.inputs names the sources.
        as_of: the instant to work at.
        start: first day; default: where the lake stops, less `reread_days` for revisions.
        market_url: where the embedded market answers; default: one that this run starts.
        keys: by source; default: what the environment holds.
        progress: told after every source.

    Raises:
        ConfigError: for a calendar or a key that is wrong.
        DataError: if the folder of calendars is not there.
        VenueError: if every source failed.
    """
    told, lake = config.market.inputs, open_lake(config)
    events = read_events(config.calendars)
    keys = keys_from_environment() if keys is None else keys
    on, off = usable(told, keys)
    midnight = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    earliest = start or midnight - timedelta(days=told.history_days)
    newest = {} if start else _newest(lake)
    back = timedelta(days=told.reread_days)
    with market_address(config, as_of, market_url) as url:
        fetched = fetch_sources(
            on,
            told,
            start=lambda source: max(earliest, newest.get(source.name, earliest) - back),
            end=as_of,
            now=as_of,
            keys=keys,
            base_url=url,
            progress=progress,
        )
    rows = [_store(lake, one, as_of) for one in fetched]
    rows.append(_store_events(lake, events, as_of))
    failures = tuple(line for one in fetched for line in one.failures)
    if fetched and all(one.failures and one.rows.is_empty() for one in fetched):
        raise VenueError(f"no source could be read ({len(failures)} failures)", got=failures[0], do="try again later")
    return InputsReport(as_of, tuple(rows), failures, tuple(off))


def _newest(lake: Lake) -> dict[str, datetime]:
    """By source: the day up to which every one of its series is known."""
    found: dict[str, datetime] = {}
    for name in ("onchain", "sentiment"):
        series = lake.rows("raw", name).group_by("source", "asset", "metric").agg(pl.col("ts").max())
        found |= dict(series.group_by("source").agg(pl.col("ts").min()).collect().iter_rows())
    return found


def _store(lake: Lake, fetched: FetchedSource, as_of: datetime) -> dict[str, Any]:
    rows = _seen(lake, fetched, as_of)
    added = lake.append("raw", fetched.table, rows, now=as_of).added
    if not fetched.failures:
        record_heard(lake, fetched.source, fetched.table, as_of)
    return {"source": fetched.source, "table": fetched.table, "fetched": rows.height, "added": added}


def _seen(lake: Lake, fetched: FetchedSource, as_of: datetime) -> pl.DataFrame:
    """Let a day that a series brings for the first time be known from when we saw it, where that is telling.

    It is where we follow the source: the day is fresh, or was due and not there when the source was last heard, be it
    after the series' last day or one that it had left out. It was heard when it was last read in full, even if that
    brought nothing, and at least at the newest ingested_at of its rows. A first fetch, days before the series' first,
    and days missed in a long pause take the day as published on time.
    """
    by = ["asset", "metric"]
    mine = lake.rows("raw", fetched.table).filter(pl.col("source") == fetched.source)
    newest = mine.select(pl.col("ingested_at").max()).collect().item()
    if newest is None:
        return fetched.rows
    last = max(newest, heard(lake, fetched.source) or newest)
    first = mine.group_by(by).agg(first=pl.col("ts").min()).collect()
    held = mine.select(*by, "ts", held=True).unique().collect()
    joined = fetched.rows.join(first, on=by, how="left", maintain_order="left")
    joined = joined.join(held, on=[*by, "ts"], how="left", maintain_order="left")
    due, new = pl.col("available_at"), pl.col("held").is_null() & (pl.col("ts") > pl.col("first"))
    known = pl.when(new & ((due <= last) | (due >= as_of - FRESH))).then(pl.lit(as_of, dtype=UTC_TIME)).otherwise(due)
    return joined.with_columns(available_at=known).drop("first", "held")


def _store_events(lake: Lake, events: pl.DataFrame, as_of: datetime) -> dict[str, Any]:
    told = as_seen(events, lake.rows("raw", "events").collect(), as_of)
    gone = withdrawn(lake.read("raw", "events").collect(), told, as_of)
    known = told.filter(pl.col("available_at") <= as_of)
    added = lake.append("raw", "events", pl.concat([known, gone]), now=as_of).added
    return {"source": "calendars", "table": "events", "fetched": known.height, "added": added}
