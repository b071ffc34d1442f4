"""Find the holes in what the lake has, ask the venues for those within reach, and say who else could have the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import ceil
from typing import Any, Literal

from oihedge.config import Config
from oihedge.core.clock import HOUR
from oihedge.core.errors import ConfigError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import table
from oihedge.jobs import ingest
from oihedge.jobs.backfill import as_text, carry_out, joined, require_venues
from oihedge.jobs.finished import finished_until
from oihedge.jobs.holes import GRIDDED, Hole, Line, floor, holes, series_of, step_of, tracked_series
from oihedge.jobs.opening import market_address, open_lake
from oihedge.lake.store import Lake
from oihedge.market.budget import budget, opening
from oihedge.market.plan import Chunk
from oihedge.market.read import Gap
from oihedge.market.settings import Venue

LAYERS = ("validated", "raw")
Fate = Literal["ask", "archive", "held"]
WHY = {
    "archive": "{why}; only an archive can give it",
    "held": "raw/ has the rows: they are in quarantine, or wait for `oihedge validate`",
}


@dataclass(frozen=True)
class Finding:
    """A hole and what can be done: `ask` the venue, only an `archive`, or the rows are `held` between the layers."""

    venue: Venue
    hole: Hole
    fate: Fate
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "venue": self.venue.id,
            "table": self.hole.line.table,
            "symbol": self.hole.line.named["symbol"],
            "series": self.hole.line.series,
            "start": self.hole.start,
            "end": self.hole.end,
            "rows": self.hole.rows,
            "fate": self.fate,
        }


@dataclass(frozen=True)
class RefillPlan:
    """The holes there are, oldest first by venue, and the chunks that ask for those within reach.

    `seconds` is how long the venue with the most to do takes at its limits; the others go on beside it.
    """

    findings: tuple[Finding, ...]
    chunks: tuple[Chunk, ...]
    seconds: float

    def count(self, fate: Fate) -> int:
        """Return the missing rows of one fate."""
        return sum(finding.hole.rows for finding in self.findings if finding.fate == fate)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "holes": [finding.as_dict() for finding in self.findings],
            "to_ask": self.count("ask"),
            "only_archives": self.count("archive"),
            "held": self.count("held"),
            "calls": sum(chunk.calls for chunk in self.chunks),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class RefillReport:
    """What a refill brought: rows by venue and table, holes that stay (`gaps`, each with its reason), failures.

    `missing` of the rows that were `asked` for did not come.
    """

    as_of: datetime
    holes: int
    asked: int
    missing: int
    rows: tuple[dict[str, Any], ...]
    gaps: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    calls: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def plan(
    config: Config,
    *,
    as_of: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    layer: str = "validated",
    venues: Sequence[str] = (),
    tables: Sequence[str] = (),
) -> RefillPlan:
    """Look for holes in every tracked series; nothing is asked and nothing written.

    A tracked series without any row is one hole, from `start` or where the configured history begins; series that these
    settings do not read are left out.

    Args:
        config: settings.
        as_of: the instant at which the venues are asked.
        start: where to begin; None: at each series' first row.
        end: where to end, excluded; None: at each series' last row, or with the last day of its table that a backfill
            has finished.
        layer: validated, or raw.
        venues: ids of the venues wanted; empty for all.
        tables: tables wanted; empty for all that these settings track.

    Raises:
        ConfigError: for a span that is empty or in the future, an unknown layer, venue or table, or a market without
            venues.
    """
    if layer not in LAYERS:
        raise ConfigError("holes are looked for in a layer of rows", expected=" or ".join(LAYERS), got=repr(layer))
    if start is not None and end is not None and start >= end:
        raise ConfigError("backfill range is empty", expected="start before end", got=f"{start:%F} .. {end:%F}")
    if end is not None and end > as_of:
        raise ConfigError("backfill reaches into the future", expected=f"an end by {as_of:%F}", got=f"{end:%F}")
    require_venues(config, venues, tables)
    lake, wanted = open_lake(config), tables or ingest.tracked_tables(config.market)
    done = finished_until(lake, config, as_of)
    findings = sorted(
        (one for venue in config.market.venues if not venues or venue.id in venues for name in wanted
         for one in _of_venue(lake, config, venue, name, (layer, start, end),
                              as_of, done.get((venue.id, venue.kind, name)))),
        key=lambda one: (one.venue.id, one.venue.kind, one.hole.line.table, one.hole.start),
    )  # fmt: skip
    asked = list(_chunks(config, findings, as_of))
    lanes: dict[tuple[str, str], float] = defaultdict(float)
    for chunk, seconds in asked:
        lanes[chunk.venue.id, chunk.venue.kind] += seconds
    longest = round(max(lanes.values(), default=0.0), 1)
    return RefillPlan(tuple(findings), tuple(chunk for chunk, _ in asked), longest)


def run(
    config: Config,
    *,
    as_of: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    layer: str = "validated",
    venues: Sequence[str] = (),
    tables: Sequence[str] = (),
    market_url: str | None = None,
    progress: Progress = silent,
) -> RefillReport:
    """Ask for the holes within reach and write what comes into raw/.

    Raises:
        ConfigError: as `plan` does.
        VenueError: if there was something to ask and no venue could be read at all.
    """
    planned = plan(config, as_of=as_of, start=start, end=end, layer=layer, venues=venues, tables=tables)
    with market_address(config, as_of, market_url) as url:
        done = carry_out(config, planned.chunks, as_of=as_of, url=url, progress=progress, remember=False)
    still = [_gap(finding) for finding in planned.findings if finding.fate != "ask"] + done.gaps
    return RefillReport(
        as_of,
        len(planned.findings),
        planned.count("ask"),
        _missing(open_lake(config), planned.findings),
        done.rows(),
        tuple(as_text(gap) for gap in joined(still)),
        tuple(done.failures),
        done.calls,
    )


def _of_venue(
    lake: Lake,
    config: Config,
    venue: Venue,
    name: str,
    where: tuple[str, datetime | None, datetime | None],
    as_of: datetime,
    finished: datetime | None,
) -> Iterator[Finding]:
    """The holes of one table of one venue, cut where the venue's reach begins; what is `finished` must be there."""
    layer, start, end = where
    gives = budget(config.market, venue, name, as_of)
    if gives is None or name not in GRIDDED:
        return
    why = WHY["archive"].format(why=gives.why)
    by = [column for column in table(name).key if column != "ts"]
    wanted = [[tuple(zip(by, (venue.id, symbol, *key), strict=True)) for key in together]
              for symbol in sorted(venue.symbols.values())
              for together in tracked_series(config.market, venue, name)]  # fmt: skip
    every = {key for together in wanted for key in together}
    lines = [line for line in series_of(lake, layer, name) if line.key in every]
    oldest = gives.oldest if gives.sources else datetime.max.replace(tzinfo=UTC)
    for line in lines:
        last = finished if finished and finished > line.last else None
        for hole in holes(lake, layer, line, start, end or last):
            yield from _cut(venue, hole, oldest, why)
    if not gives.sources:  # what was never recorded of the present is no hole
        return
    have = {line.key for line in lines}
    silent = [key for together in wanted if have.isdisjoint(together) for key in together]
    raw = {line.key for line in series_of(lake, "raw", name)} if silent else set()
    begin = start or max(oldest, floor(as_of, HOUR) - timedelta(days=config.run.history_days))
    until = end or floor(as_of, HOUR)
    for key in silent:
        line = Line(name, key, begin, until, 0)
        step = step_of(line)
        rows = ceil((until - begin) / step) if step else gives.rows(begin, until) // gives.symbols
        if begin < until and rows:
            yield from _cut(venue, Hole(line, begin, until, rows, held=key in raw), oldest, why)


def _cut(venue: Venue, hole: Hole, oldest: datetime, why: str) -> Iterator[Finding]:
    if hole.held:
        yield Finding(venue, hole, "held", WHY["held"])
        return
    if hole.start < oldest:
        share = min(1.0, (oldest - hole.start) / (hole.end - hole.start))
        lost = max(1, round(hole.rows * share))
        yield Finding(venue, Hole(hole.line, hole.start, min(hole.end, oldest), min(lost, hole.rows)), "archive", why)
    if hole.end > oldest:
        begin = max(hole.start, oldest)
        share = (hole.end - begin) / (hole.end - hole.start)
        yield Finding(venue, Hole(hole.line, begin, hole.end, max(1, round(hole.rows * share))), "ask")


def _missing(lake: Lake, findings: Sequence[Finding]) -> int:
    """Count the rows asked for that raw/ still lacks; before a series' asked holes are only those of archives."""
    asked: dict[Line, list[Hole]] = {}
    for one in findings:
        if one.fate == "ask":
            asked.setdefault(one.hole.line, []).append(one.hole)
    have = {(name, line.key) for name in {line.table for line in asked} for line in series_of(lake, "raw", name)}
    missing = 0
    for line, mine in asked.items():
        if (line.table, line.key) in have:
            mine = list(holes(lake, "raw", line, mine[0].start, mine[-1].end))
        missing += sum(hole.rows for hole in mine)
    return missing


def _chunks(config: Config, findings: Sequence[Finding], as_of: datetime) -> Iterator[tuple[Chunk, float]]:
    """Chunks for the holes of a venue's table that begin in one month, with the symbols that have any; seconds each."""

    def together(one: Finding) -> tuple[Any, ...]:
        return (one.venue.id, one.venue.kind, one.hole.line.table, one.hole.start.year, one.hole.start.month)

    for _, group in groupby((one for one in findings if one.fate == "ask"), key=together):
        mine = list(group)
        symbols = {one.hole.line.named["symbol"] for one in mine}
        kept = {asset: symbol for asset, symbol in mine[0].venue.symbols.items() if symbol in symbols}
        venue, name = mine[0].venue.model_copy(update={"symbols": kept}), mine[0].hole.line.table
        start, end = min(one.hole.start for one in mine), min(as_of, max(one.hole.end for one in mine))
        gives = budget(config.market, venue, name, as_of)
        assert gives is not None, "a venue is asked for what it gives"
        for since, until in _pieces(start, end, ceil(gives.rows(start, end) / config.market.chunk_rows)):
            calls, seconds = opening(venue)
            yield (
                Chunk(venue, (name,), since, until, calls + gives.calls(since, until)),
                seconds + gives.seconds(since, until),
            )


def _pieces(start: datetime, end: datetime, number: int) -> Iterator[tuple[datetime, datetime]]:
    """Cut a span into about `number` pieces of whole days, so that a long one does not have to fit into memory."""
    width = timedelta(days=ceil((end - start) / timedelta(days=max(1, number))))
    while start < end:
        yield start, min(start + width, end)
        start += width


def _gap(finding: Finding) -> Gap:
    hole = finding.hole
    return Gap(finding.venue.id, hole.line.table, hole.line.named["symbol"], hole.start, hole.end, finding.why)
