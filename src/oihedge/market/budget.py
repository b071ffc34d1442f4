"""What the past of one venue's table costs: rows, calls and seconds at the venue's limits, and how far back it goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from oihedge.core.clock import HOUR
from oihedge.market.rows import AFTER, BEFORE
from oihedge.market.settings import Market, Venue
from oihedge.market.venues import STEPS, Offer, Reach, reach

_PAST = ("history", "pages")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Source:
    """One series of a table as a venue offers its past: the distance of its rows, and the seconds that a call takes."""

    offer: Offer
    step: timedelta
    pace_s: float
    now: datetime
    before: timedelta = timedelta(0)
    after: timedelta = timedelta(0)
    """What is read around a span besides, to understand its rows."""
    spare: int = 0
    """Rows that a window stays below the cap."""

    @property
    def oldest(self) -> datetime:
        """Return the first instant that the venue still has."""
        back = self.offer.oldest(self.step)
        if back is None:
            return _ALWAYS
        beside = (self.now - back - _EPOCH) % self.step
        return self.now - back + (self.step - beside if beside else beside)

    def rows(self, start: datetime, end: datetime) -> int:
        """Return how many rows [start, end) should bring."""
        return ceil(max(end - max(start, self.oldest), timedelta(0)) / self.step)

    def calls(self, start: datetime, end: datetime) -> int:
        """Return how many requests [start, end) takes."""
        begin = max(start, self.oldest)
        if begin >= end:
            return 0
        # pages are counted from the newest
        until = self.now if self.offer.when == "pages" else min(end + self.after, self.now)
        return ceil((until - begin + self.before) / (max(1, self.offer.cap - self.spare) * self.step))


@dataclass(frozen=True)
class Budget:
    """One table of one venue; what lies before `oldest` only an archive can give, `why` says what keeps the venue."""

    table: str
    symbols: int
    sources: tuple[Source, ...]
    oldest: datetime
    why: str

    def rows(self, start: datetime, end: datetime) -> int:
        """Return how many rows [start, end) should bring."""
        return self.symbols * sum(source.rows(start, end) for source in self.sources)

    def calls(self, start: datetime, end: datetime) -> int:
        """Return how many requests [start, end) takes."""
        return self.symbols * sum(source.calls(start, end) for source in self.sources)

    def seconds(self, start: datetime, end: datetime) -> float:
        """Return how long those requests take at the venue's pace, one after the other."""
        return self.symbols * sum(source.calls(start, end) * source.pace_s for source in self.sources)


def budget(settings: Market, venue: Venue, table: str, now: datetime) -> Budget | None:
    """Return the budget of a venue's table at `now`, None where the venue has no such table."""
    gives = reach(venue.id, venue.kind)
    if table not in gives.tables:
        return None
    sources = tuple(_sources(settings, venue, gives, table, now))
    symbols = len(venue.symbols)
    if not sources:
        latest = any(offer.when == "latest" for offer in gives.of(table).values())
        shows = "its latest rows" if latest else "the present"
        return Budget(table, symbols, (), now, f"the venue gives only {shows}: recorded from now on")
    furthest = min(sources, key=lambda source: source.oldest)
    kept = f"{furthest.offer.days} days" if furthest.offer.rows is None else f"its latest {furthest.offer.rows} rows"
    return Budget(table, symbols, sources, furthest.oldest, f"the venue keeps {kept}")


def opening(venue: Venue) -> tuple[int, float]:
    """Return the calls, and their seconds, that it takes to learn a venue's markets; every chunk begins with them."""
    calls = {("bybit", "perp"): 2, ("deribit", "option"): 0}.get((venue.id, venue.kind), 1)
    return calls, calls * reach(venue.id, venue.kind).pace_ms / 1000


def _sources(settings: Market, venue: Venue, gives: Reach, table: str, now: datetime) -> Iterator[Source]:
    for name, offer in gives.of(table).items():
        if offer.when not in _PAST or (table == "ohlcv" and name not in _bars(settings, venue)):
            continue
        pace = _pace_s(settings, venue, gives, offer)
        if table == "funding":  # a full page could hide rows
            yield Source(offer, gives.funding_h * HOUR, pace, now, BEFORE, AFTER, spare=2)
        elif table == "ohlcv":
            yield from (Source(offer, STEPS[timeframe], pace, now) for timeframe in settings.timeframes)
        else:
            yield Source(offer, HOUR, pace, now)


def _bars(settings: Market, venue: Venue) -> list[str]:
    kinds = ("trade",) if venue.kind == "spot" else settings.price_kinds
    return ["ohlcv" if kind == "trade" else kind for kind in kinds]


def _pace_s(settings: Market, venue: Venue, gives: Reach, offer: Offer) -> float:
    own = [
        cap.per_s / cap.calls
        for cap in settings.limits
        if cap.venue == venue.id and offer.method.startswith(cap.methods)
    ]
    return max([gives.pace_ms * offer.cost / 1000, *own])
