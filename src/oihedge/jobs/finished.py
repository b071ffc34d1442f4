"""The ledger of backfills: which days of which venue's table are done, kept in the lake beside the rows they brought.

It stands and falls with the lake: a lake that is deleted, or put back to an earlier state, forgets what is no longer
there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import polars as pl

from oihedge.config import Config
from oihedge.core.hashing import digest
from oihedge.core.tables import BACKFILLED
from oihedge.lake.store import Lake
from oihedge.market.plan import DAY, Done
from oihedge.market.settings import Venue

SETTLED = timedelta(hours=2)
"""A day counts as finished only this long after its end: until then a venue may still add to it."""
_SOURCE = "source"


def fingerprint(config: Config, venue: Venue) -> str:
    """Return a digest of what decides the rows of `venue`: with another symbol or bar length nothing is done yet."""
    simulator = config.simulator.model_dump(mode="json") if config.simulated else None
    bars = [config.market.timeframes, config.market.price_kinds]
    return digest([venue.model_dump(mode="json", exclude={"taker_fee"}), bars, simulator])


def finished_days(lake: Lake, config: Config, start: datetime | None, end: datetime) -> set[Done]:
    """Return the days in [start, end), or all before `end`, that backfills of these settings have finished."""
    prints = {(venue.id, venue.kind): fingerprint(config, venue) for venue in config.market.venues}
    rows = lake.read("derived", BACKFILLED.name, start=start, end=end).collect()
    return {
        (venue, kind, table, ts)
        for settings, venue, kind, table, ts in rows.select(BACKFILLED.key).iter_rows()
        if prints.get((venue, kind)) == settings
    }


def finished_until(lake: Lake, config: Config, as_of: datetime) -> dict[tuple[str, str, str], datetime]:
    """Return where the last finished day of each venue, kind and table ends that is over at `as_of`."""
    ends: dict[tuple[str, str, str], datetime] = {}
    for venue, kind, table, day in finished_days(lake, config, None, as_of - DAY):
        ends[venue, kind, table] = max(day + DAY, ends.get((venue, kind, table), day))
    return ends


def record(lake: Lake, config: Config, venue: Venue, days: Mapping[str, Collection[datetime]], as_of: datetime) -> None:
    """Write down which `days` of each table are done; to be called once their rows are in the lake."""
    mine = (fingerprint(config, venue), venue.id, venue.kind)
    keys = [(*mine, name, day) for name, done in days.items() for day in done if day + DAY + SETTLED <= as_of]
    schema = {name: BACKFILLED.columns[name] for name in BACKFILLED.key}
    rows = pl.DataFrame(keys, schema=schema, orient="row").with_columns(available_at=pl.lit(as_of))
    lake.append("derived", BACKFILLED.name, rows, now=as_of)


def heard(lake: Lake, source: str) -> datetime | None:
    """Return when a source outside the venues was last read in full, be it that it brought nothing; None if never."""
    rows = lake.rows("derived", BACKFILLED.name).filter(pl.col("settings") == _SOURCE, pl.col("venue") == source)
    found: datetime | None = rows.select(pl.col("ingested_at").max()).collect().item()
    return found


def record_heard(lake: Lake, source: str, table: str, as_of: datetime) -> None:
    """Write down that a source was read in full, once a day."""
    day = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    schema = {name: BACKFILLED.columns[name] for name in BACKFILLED.key}
    row = pl.DataFrame([(_SOURCE, source, _SOURCE, table, day)], schema=schema, orient="row")
    lake.append("derived", BACKFILLED.name, row.with_columns(available_at=pl.lit(as_of)), now=as_of)
