"""Before a backfill: which chunks to ask which venue for, how many calls, how long at its limits, and what it lacks."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from typing import Any

from oihedge.core.errors import ConfigError
from oihedge.market.budget import Budget, budget, opening
from oihedge.market.settings import Market, Venue

DAY = timedelta(days=1)
Done = tuple[str, str, str, datetime]
"""Venue, kind, table and the midnight of a day."""


@dataclass(frozen=True)
class Chunk:
    """Whole UTC days [start, end) of one venue, fetched and written at one go in about `calls` requests."""

    venue: Venue
    tables: tuple[str, ...]
    start: datetime
    end: datetime
    calls: int

    @property
    def days(self) -> list[datetime]:
        """Return the midnights of the days."""
        return days_of(self.start, self.end)

    @property
    def label(self) -> str:
        """Return how people call it: its first day, and its last where that is another."""
        last = self.end - timedelta(microseconds=1)
        return f"{self.start:%F}" if last.date() == self.start.date() else f"{self.start:%F} .. {last:%F}"


@dataclass(frozen=True)
class Task:
    """What one table of one venue costs: days to ask for, days finished before, calls and rows expected, seconds."""

    venue: str
    kind: str
    table: str
    days: int
    finished: int
    calls: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Unreachable:
    """A span of a venue's table that only an archive can give, and why."""

    venue: str
    kind: str
    table: str
    start: datetime
    end: datetime
    why: str


@dataclass(frozen=True)
class Plan:
    """A backfill before it begins: `chunks` oldest first within each venue, `tasks` their cost by venue and table."""

    start: datetime
    end: datetime
    chunks: tuple[Chunk, ...]
    tasks: tuple[Task, ...]
    unreachable: tuple[Unreachable, ...]

    @property
    def calls(self) -> int:
        """Return all calls together."""
        return sum(task.calls for task in self.tasks)

    @property
    def finished(self) -> int:
        """Return the days of venues' tables that are done and not asked for again."""
        return sum(task.finished for task in self.tasks)

    @property
    def seconds(self) -> float:
        """Return how long the venue with the most to do takes at its limits; the others go on beside it."""
        by_venue: dict[tuple[str, str], float] = {}
        for task in self.tasks:
            lane = (task.venue, task.kind)
            by_venue[lane] = by_venue.get(lane, 0.0) + task.seconds
        return round(max(by_venue.values(), default=0.0), 1)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "start": self.start,
            "end": self.end,
            "chunks": len(self.chunks),
            "calls": self.calls,
            "seconds": self.seconds,
            "tasks": [asdict(task) for task in self.tasks],
            "only_archives": [asdict(span) for span in self.unreachable],
        }


def make_plan(
    settings: Market,
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    tables: Sequence[str],
    venues: Sequence[str] = (),
    finished: Container[Done] = frozenset(),
) -> Plan:
    """Plan the UTC days of [start, end).

    Args:
        settings: the venues tracked, with their symbols and the bar length.
        start: midnight of the first day.
        end: midnight after the last day.
        now: the instant that the venues' reach is counted from.
        tables: the tables wanted; what a venue does not have is no part of the plan.
        venues: ids of the venues wanted; empty for all.
        finished: what earlier backfills have finished.
    """
    parts = [
        _venue(settings, venue, start, end, now, tables, finished)
        for venue in settings.venues
        if not venues or venue.id in venues
    ]
    return Plan(
        start,
        end,
        tuple(chunk for chunks, _, _ in parts for chunk in chunks),
        tuple(task for _, tasks, _ in parts for task in tasks),
        tuple(span for _, _, spans in parts for span in spans),
    )


def days_of(start: datetime, end: datetime) -> list[datetime]:
    """Return the midnights in [start, end), `start` being one."""
    return [start + number * DAY for number in range(ceil((end - start) / DAY))]


def require_known(settings: Market, *, tables: Iterable[str], venues: Iterable[str], offered: Sequence[str]) -> None:
    """Refuse filters that name a venue or table which these settings do not have.

    Raises:
        ConfigError: naming it, and what there is.
    """
    tracked = sorted({venue.id for venue in settings.venues})
    for what, asked, known in (("venue", venues, tracked), ("table", tables, list(offered))):
        for name in asked:
            if name not in known:
                raise ConfigError(
                    f"there is no {what} {name!r} to backfill", expected=", ".join(known) or "none at all"
                )


def _venue(
    settings: Market,
    venue: Venue,
    start: datetime,
    end: datetime,
    now: datetime,
    tables: Sequence[str],
    finished: Container[Done],
) -> tuple[list[Chunk], list[Task], list[Unreachable]]:
    known = {name: found for name in tables if (found := budget(settings, venue, name, now)) is not None}
    beyond = [
        Unreachable(venue.id, venue.kind, name, start, min(end, of.oldest), of.why)
        for name, of in known.items()
        if of.oldest > start
    ]
    near = {name: [day for day in days_of(start, end) if of.oldest < day + DAY] for name, of in known.items()}
    left = {
        name: [day for day in days if (venue.id, venue.kind, name, day) not in finished] for name, days in near.items()
    }
    spans = _spans(left, {name: of.rows(end - DAY, end) for name, of in known.items()}, settings.chunk_rows)
    chunks = [
        Chunk(venue, names, since, until, sum(known[name].calls(since, until) for name in names) + opening(venue)[0])
        for names, since, until in spans
    ]
    tasks = [_task(venue, of, chunks, len(near[name]) - len(left[name])) for name, of in known.items() if near[name]]
    if chunks:
        calls, seconds = (len(chunks) * figure for figure in opening(venue))
        tasks.append(Task(venue.id, venue.kind, "markets", 0, 0, int(calls), 0, round(seconds, 1)))
    return chunks, tasks, beyond


def _spans(
    left: Mapping[str, Sequence[datetime]], rows_a_day: Mapping[str, int], most: int
) -> list[tuple[tuple[str, ...], datetime, datetime]]:
    """Join consecutive days that want the same tables, within the longest period of about `most` rows."""
    wanted: dict[datetime, tuple[str, ...]] = {}
    for name, days in left.items():
        for day in days:
            wanted[day] = (*wanted.get(day, ()), name)
    numbered = [(day.toordinal() - number, day) for number, day in enumerate(sorted(wanted))]

    def together(pair: tuple[int, datetime]) -> tuple[Any, ...]:
        run, day = pair
        rows = sum(rows_a_day[name] for name in wanted[day])
        return (run, *_period(day, rows, most), wanted[day])

    groups = [[day for _, day in group] for _, group in groupby(numbered, key=together)]
    return [(wanted[days[0]], days[0], days[-1] + DAY) for days in groups]


def _period(day: datetime, rows: int, most: int) -> tuple[int, ...]:
    """Name the calendar years, quarter, month or ISO week that `day` is worked off with, at `rows` a day."""
    if years := most // (max(1, rows) * 366):
        return (day.year // years,)
    if rows * 92 <= most:
        return (day.year, (day.month - 1) // 3)
    if rows * 31 <= most:
        return (day.year, day.month)
    return tuple(day.isocalendar())[:2]


def _task(venue: Venue, of: Budget, chunks: Sequence[Chunk], finished: int) -> Task:
    mine = [(chunk.start, chunk.end) for chunk in chunks if of.table in chunk.tables]
    days, calls, rows = (
        sum(count(*span) for span in mine) for count in (lambda a, b: (b - a) // DAY, of.calls, of.rows)
    )
    seconds = sum(of.seconds(*span) for span in mine)
    return Task(venue.id, venue.kind, of.table, days, finished, calls, rows, round(seconds, 1))
