"""Fetch whatever the tracked venues have, all venues at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from oihedge.core.errors import ConfigError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import VENUE_TABLES
from oihedge.market.settings import Market
from oihedge.market.venues import offered

TABLES = tuple(spec.name for spec in VENUE_TABLES)

SENT_NOTHING = "the venue sent no rows"
UNREADABLE = "the venue's rows hold no numbers there"


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
    """What came: rows by table (as `core.tables` declares them, without ingested_at), gaps, and failed series.

    `calls` counts the answers that the venues gave, whatever they held.
    """

    rows: dict[str, pl.DataFrame]
    gaps: list[Gap]
    failures: list[str]
    calls: int = 0


def fetch(
    settings: Market,
    *,
    start: datetime | Mapping[tuple[str, ...], datetime],
    end: datetime,
    now: datetime,
    base_url: str | None = None,
    tables: Sequence[str] | None = None,
    venues: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Fetched:
    """Fetch rows with start <= ts < end that a live run could know at `now`.

    Args:
        settings: venues, symbols and patience.
        start: first instant, for all, per (venue, table) or per (venue, table, symbol).
        end: end of the span, excluded.
        now: the instant we stand at; only complete bars and rows with available_at <= now come back.
        base_url: a loopback server that speaks the venues' REST, instead of the venues.
        tables: which of `TABLES`; None takes those of the settings. A venue is asked for those that it has.
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

    tables = settings.tables if tables is None else tables
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
        wanted = (
            (venue.id, name, symbol)
            for venue in chosen
            for name in offered(venue.id, venue.kind, tables)
            for symbol in venue.symbols.values()
        )
        for key in wanted:
            if key not in start and key[:2] not in start:
                raise ConfigError(f"no start is given for {' '.join(key)}")
    return asyncio.run(Reading(settings, chosen, tuple(tables), start, end, now, base_url, progress).run())
