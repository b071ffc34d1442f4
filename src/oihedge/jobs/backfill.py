"""Fill a past span by hand: a plan, then every venue at its own pace, oldest first, by chunks of whole UTC days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, time
from typing import Any

from oihedge.config import Config
from oihedge.core.errors import ConfigError, VenueError
from oihedge.core.protocols import Progress, silent
from oihedge.jobs import ingest
from oihedge.jobs.filling import work_through
from oihedge.jobs.finished import finished_days, record
from oihedge.jobs.opening import market_address, open_lake
from oihedge.market.plan import DAY, Chunk, Plan, make_plan, require_known
from oihedge.market.read import SENT_NOTHING, UNREADABLE, Fetched, Gap, fetch


@dataclass(frozen=True)
class BackfillReport:
    """What a backfill brought: `rows` by venue and table, `gaps` that no call can fill, `failures` of venues or series.

    `calls` counts the venues' answers, `finished_before` the days of venues' tables that were skipped as done.
    """

    as_of: datetime
    start: datetime
    end: datetime
    rows: tuple[dict[str, Any], ...]
    gaps: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    calls: int
    finished_before: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def plan(
    config: Config,
    *,
    start: datetime,
    end: datetime,
    as_of: datetime,
    venues: Sequence[str] = (),
    tables: Sequence[str] = (),
) -> Plan:
    """Plan the backfill of the UTC days [start, end); nothing is asked and nothing written.

    Args:
        config: settings.
        start: midnight of the first day.
        end: midnight after the last day.
        as_of: the instant at which the venues are asked.
        venues: ids of the venues wanted; empty for all.
        tables: tables wanted; empty for all that these settings track.

    Raises:
        ConfigError: for a span that is empty, no whole days or in the future, an unknown venue or table, or a market
            without venues.
    """
    _require_days(start, end, as_of)
    tracked = ingest.tracked_tables(config.market)
    require_venues(config, venues, tables)
    lake = open_lake(config)
    return make_plan(
        config.market,
        start=start,
        end=end,
        now=as_of,
        tables=tables or tracked,
        venues=venues,
        finished=finished_days(lake, config, start, end),
    )


def run(
    config: Config,
    *,
    start: datetime,
    end: datetime,
    as_of: datetime,
    venues: Sequence[str] = (),
    tables: Sequence[str] = (),
    market_url: str | None = None,
    progress: Progress = silent,
) -> BackfillReport:
    """Work through the plan of [start, end) into raw/; killed at any moment, the next run goes on at that chunk.

    Raises:
        ConfigError: as `plan` does.
        VenueError: if there was work and no venue could be read at all.
    """
    planned = plan(config, start=start, end=end, as_of=as_of, venues=venues, tables=tables)
    with market_address(config, as_of, market_url) as url:
        done = carry_out(config, planned.chunks, as_of=as_of, url=url, progress=progress)
    return BackfillReport(
        as_of,
        start,
        end,
        done.rows(),
        tuple(as_text(gap) for gap in _missing(planned, done.gaps)),
        tuple(done.failures),
        done.calls,
        planned.finished,
    )


class Tally:
    """What has come so far, in figures: its size does not depend on how much that was."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.failures: dict[str, None] = {}
        self.calls = 0
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, report: ingest.IngestReport, fetched: Fetched) -> int:
        """Take in one chunk and return its rows."""
        for row in report.rows:
            line = self._rows.setdefault((row["venue"], row["table"]), {**row, "fetched": 0, "added": 0})
            line["fetched"], line["added"] = line["fetched"] + row["fetched"], line["added"] + row["added"]
        self.gaps = joined([*self.gaps, *fetched.gaps])
        self.failures |= dict.fromkeys(fetched.failures)
        self.calls += fetched.calls
        return sum(row["fetched"] for row in report.rows)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Return the rows by venue and table."""
        return tuple(self._rows[key] for key in sorted(self._rows))


def carry_out(
    config: Config,
    chunks: Sequence[Chunk],
    *,
    as_of: datetime,
    url: str | None,
    progress: Progress = silent,
    remember: bool = True,
) -> Tally:
    """Fetch and write every chunk, all venues side by side.

    Args:
        config: settings.
        chunks: what to fetch; a chunk's venue may carry fewer symbols than the settings.
        as_of: the instant at which the venues are asked.
        url: the loopback server that answers instead of the venues, if any.
        progress: told per venue, in days.
        remember: whether finished days go into the ledger.

    Raises:
        VenueError: if no venue could be read at all.
    """
    lake, tally = open_lake(config), Tally()

    def ask(chunk: Chunk, heard: Progress) -> Fetched:
        market = config.market.model_copy(update={"venues": (chunk.venue,)})
        start, end, tables = chunk.start, chunk.end, chunk.tables
        return fetch(market, start=start, end=end, now=as_of, base_url=url, tables=tables, progress=heard)

    def land(chunk: Chunk, fetched: Fetched) -> int:
        rows = tally.add(ingest.store(lake, fetched, as_of), fetched)
        if remember:
            record(lake, config, chunk.venue, _complete(chunk, fetched), as_of)
        return rows

    stopped = work_through(chunks, ask, land, progress)
    tally.failures |= dict.fromkeys(stopped)
    if stopped and not tally.calls:
        raise VenueError("no venue could be read", got=stopped[0], do="run the same command again")
    return tally


def require_venues(config: Config, venues: Sequence[str], tables: Sequence[str]) -> None:
    """Refuse a market without venues and filters that name none of what these settings track.

    Raises:
        ConfigError: naming it, and what there is.
    """
    if config.market.source == "import":
        raise ConfigError(
            "this configuration has no venues", expected="market=embedded or market=ccxt", got="market=imported"
        )
    require_known(config.market, tables=tables, venues=venues, offered=ingest.tracked_tables(config.market))


def joined(gaps: Iterable[Gap]) -> list[Gap]:
    """Join the gaps of one series that touch and have one reason, so that a long backfill tells each once."""
    kept: dict[tuple[str, ...], list[Gap]] = {}
    for gap in sorted(gaps, key=lambda gap: (gap.venue, gap.table, gap.symbol, gap.why, gap.start)):
        mine = kept.setdefault((gap.venue, gap.table, gap.symbol, gap.why), [])
        if mine and gap.start <= mine[-1].end:
            mine[-1] = Gap(gap.venue, gap.table, gap.symbol, mine[-1].start, max(mine[-1].end, gap.end), gap.why)
        else:
            mine.append(gap)
    return [gap for mine in kept.values() for gap in mine]


def _missing(planned: Plan, told: Iterable[Gap]) -> list[Gap]:
    """What only archives have by plan, and what was missing on the way beyond that."""
    beyond = {(of.venue, of.table, of.end): of for of in planned.unreachable}
    kept = [gap for gap in told if (gap.venue, gap.table, gap.end) not in beyond]
    archive = "only an archive can give it"
    return joined(
        [*(Gap(u.venue, u.table, "*", u.start, u.end, f"{u.why}; {archive}") for u in beyond.values()), *kept]
    )


def as_text(gap: Gap) -> dict[str, Any]:
    """Return a gap as reports show it."""
    return {**asdict(gap), "start": str(gap.start), "end": str(gap.end)}


def _complete(chunk: Chunk, fetched: Fetched) -> dict[str, list[datetime]]:
    """The days of each of the chunk's tables of which every series came; open interest may stand on bars that did not.

    A series of which nothing came at all counts as not come: a venue under maintenance may answer like that. So does a
    day of which a row could not be read: the venue has it, and may send it right the next time.
    """
    failed = {name for name in chunk.tables if any(f"{chunk.venue.id} {name} " in line for line in fetched.failures)}
    if fetched.failures and not failed:
        return {}
    lost = defaultdict[str, set[datetime]](set, {name: set(chunk.days) for name in failed})
    for gap in fetched.gaps:
        silent = gap.why == SENT_NOTHING and gap.start <= chunk.start and gap.end >= chunk.end
        if silent or gap.why == UNREADABLE:
            lost[gap.table].update(day for day in chunk.days if day < gap.end and gap.start < day + DAY)
    lost["open_interest"] |= lost["ohlcv"]
    return {name: [day for day in chunk.days if day not in lost[name]] for name in chunk.tables}


def _require_days(start: datetime, end: datetime, as_of: datetime) -> None:
    for name, instant in (("start", start), ("end", end)):
        if instant.tzinfo is None or instant.timetz() != time(tzinfo=instant.tzinfo) or instant.utcoffset():
            raise ConfigError(
                f"backfill {name} is no day", expected="midnight UTC, e.g. 2025-01-01", got=instant.isoformat()
            )
    if start >= end:
        raise ConfigError("backfill range is empty", expected="start before end", got=f"{start:%F} .. {end:%F}")
    if end > as_of:
        last = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
        raise ConfigError("backfill reaches into the future", expected=f"an end no later than {last:%F}",
                          got=f"{end:%F}")  # fmt: skip
