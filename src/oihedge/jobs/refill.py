"""Find the holes in what the lake has, ask the venues for those within reach, and say who else could have the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from typing import Any, Literal

from oihedge.config import Config
from oihedge.core.clock import HOUR
from oihedge.core.errors import ConfigError
from oihedge.core.protocols import Progress, silent
from oihedge.jobs import ingest
from oihedge.jobs.backfill import as_text, carry_out, joined, require_venues
from oihedge.jobs.holes import GRIDDED, Hole, Line, floor, holes, series_of
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
        key = {name: value for name, value in self.hole.line.key if name not in ("venue", "symbol")}
        return {
            "venue": self.venue.id,
            "table": self.hole.line.table,
            "symbol": self.hole.line.named["symbol"],
            "series": " ".join(str(value) for value in key.values()),
            "start": self.hole.start,
            "end": self.hole.end,
            "rows": self.hole.rows,
            "fate": self.fate,
        }


@dataclass(frozen=True)
class RefillPlan:
    """The holes there are, oldest first by venue, and the chunks that ask for those within reach."""

    findings: tuple[Finding, ...]
    chunks: tuple[Chunk, ...]

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
        }


@dataclass(frozen=True)
class RefillReport:
    """What a refill brought: rows by venue and table, holes that stay (`gaps`, each with its reason), failures."""

    as_of: datetime
    holes: int
    asked: int
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

    A tracked symbol without any row of a table is one hole, from `start` or where the configured history begins.

    Args:
        config: settings.
        as_of: the instant at which the venues are asked.
        start: where to begin; None: at each series' first row.
        end: where to end, excluded; None: at each series' last row.
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
    findings = sorted(
        (one for venue in config.market.venues if not venues or venue.id in venues
         for name in wanted for one in _of_venue(lake, config, venue, name, (layer, start, end), as_of)),
        key=lambda one: (one.venue.id, one.venue.kind, one.hole.line.table, one.hole.start),
    )  # fmt: skip
    return RefillPlan(tuple(findings), tuple(_chunks(config, findings, as_of)))


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
) -> Iterator[Finding]:
    """The holes of one table of one venue, cut where the venue's reach begins."""
    layer, start, end = where
    gives = budget(config.market, venue, name, as_of)
    if gives is None or not gives.sources or name not in GRIDDED:
        return
    why = WHY["archive"].format(why=gives.why)
    silent = set(venue.symbols.values())
    for line in _tracked(lake, layer, venue, name):
        silent.discard(line.named["symbol"])
        for hole in holes(lake, layer, line, start, end):
            yield from _cut(venue, hole, gives.oldest, why)
    raw = {line.named["symbol"] for line in _tracked(lake, "raw", venue, name)} if silent else set()
    begin = start or max(gives.oldest, floor(as_of, HOUR) - timedelta(days=config.run.history_days))
    until = end or floor(as_of, HOUR)
    for symbol in sorted(silent):
        rows = gives.rows(begin, until) // gives.symbols
        line = Line(name, (("venue", venue.id), ("symbol", symbol)), begin, until, 0)
        if rows:
            yield from _cut(venue, Hole(line, begin, until, rows, held=symbol in raw), gives.oldest, why)


def _tracked(lake: Lake, layer: str, venue: Venue, name: str) -> Iterator[Line]:
    for line in series_of(lake, layer, name):
        if line.named["venue"] == venue.id and line.named["symbol"] in venue.symbols.values():
            yield line


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


def _chunks(config: Config, findings: Sequence[Finding], as_of: datetime) -> Iterator[Chunk]:
    """Chunks for the holes of a venue's table that begin in one month, with the symbols that have any."""

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
            yield Chunk(venue, (name,), since, until, opening(venue)[0] + gives.calls(since, until))


def _pieces(start: datetime, end: datetime, number: int) -> Iterator[tuple[datetime, datetime]]:
    """Cut a span into about `number` pieces of whole days, so that a long one does not have to fit into memory."""
    width = timedelta(days=ceil((end - start) / timedelta(days=max(1, number))))
    while start < end:
        yield start, min(start + width, end)
        start += width


def _gap(finding: Finding) -> Gap:
    hole = finding.hole
    return Gap(finding.venue.id, hole.line.table, hole.line.named["symbol"], hole.start, hole.end, finding.why)
