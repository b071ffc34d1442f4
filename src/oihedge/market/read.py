"""Fetch bars, open interest and funding of every tracked venue, all venues at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from oihedge.core.errors import ConfigError
from oihedge.core.protocols import Progress, silent
from oihedge.market.settings import Market

TABLES = ("ohlcv", "open_interest", "funding")


@dataclass(frozen=True)
class Gap:
    """A span [start, end) of one series for which the venue gave nothing, and why."""

    venue: str
    table: str
    symbol: str
    start: datetime
    end: datetime
    why: str


@dataclass(frozen=True)
class Fetched:
    """What came: rows by table (as `core.tables` declares them, without ingested_at), gaps, and failed series."""

    rows: dict[str, pl.DataFrame]
    gaps: list[Gap]
    failures: list[str]


def fetch(
    settings: Market,
    *,
    start: datetime | Mapping[tuple[str, str], datetime],
    end: datetime,
    now: datetime,
    base_url: str | None = None,
    tables: Sequence[str] = TABLES,
    venues: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Fetched:
    """Fetch rows with start <= ts < end that a live run could know at `now`.

    Args:
        settings: venues, symbols and patience.
        start: first instant, for all or per (venue, table).
        end: end of the span, excluded.
        now: the instant we stand at; only complete bars and rows with available_at <= now come back.
        base_url: a loopback server that speaks the venues' REST, instead of the venues.
        tables: which of ohlcv, open_interest, funding.
        venues: which venue ids; None takes all.
        progress: told after every finished series.

    Returns:
        All rows, and what is missing: gaps the venue has, and the failures of series that could not be read.

    Raises:
        ConfigError: for an unknown venue, table or symbol; nothing has been returned by then.
        VenueError: if not one series could be read.
    """
    import asyncio

    from oihedge.market.live import Reading  # ccxt takes seconds to import

    unknown = [name for name in tables if name not in TABLES]
    if unknown:
        raise ConfigError(f"unknown market table {unknown[0]!r}", expected=", ".join(TABLES))
    tracked = {venue.id for venue in settings.venues}
    strange = sorted(set(venues or ()) - tracked)
    if strange or not tracked:
        got = repr(strange[0]) if strange else "no venue at all"
        raise ConfigError("there is no such venue in market.venues", expected=", ".join(sorted(tracked)), got=got)
    chosen = tuple(venue for venue in settings.venues if venues is None or venue.id in venues)
    if isinstance(start, Mapping):
        for key in ((venue.id, name) for venue in chosen for name in tables if name == "ohlcv" or venue.kind == "perp"):
            if key not in start:
                raise ConfigError(f"no start is given for {key[0]} {key[1]}")
    return asyncio.run(Reading(settings, chosen, tuple(tables), start, end, now, base_url, progress).run())
