"""Lake raw/ to validated/ or quarantine, nothing lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.tables import MARKET_TABLES, Table
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake
from oihedge.quality.neighbours import context_for
from oihedge.quality.quarantine import quarantine_rows
from oihedge.quality.verdict import Verdict, judge

CONTEXT = timedelta(days=7)


@dataclass(frozen=True)
class ValidateReport:
    """What was judged: `rows` per table and venue, `checks` per expectation, the share of good rows in this slice."""

    as_of: datetime
    rows: tuple[dict[str, Any], ...]
    checks: tuple[dict[str, Any], ...]
    share_good: float
    sufficient: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, as_of: datetime) -> ValidateReport:
    """Judge every raw row that is neither validated nor quarantined yet.

    Quarantine is written before validated/, and both writes are idempotent: a run killed between them judges the same
    rows again and ends with the same tables.
    """
    lake = open_lake(config)
    rows: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for spec in MARKET_TABLES:
        pending = pending_rows(lake, spec)
        if pending.is_empty():
            continue
        verdict = judge(spec.name, pending, config.quality, context=_context(lake, spec, pending))
        lake.append("derived", "quarantine", quarantine_rows(spec.name, verdict.bad), now=as_of)
        _mirror(lake, spec, verdict.good)
        rows += _by_venue(spec.name, verdict)
        checks += [{"table": spec.name, **asdict(check)} for check in verdict.checks]
    checked = sum(row["checked"] for row in rows)
    share = sum(row["good"] for row in rows) / checked if checked else 1.0
    # The last day counts too, not only what is new: running again must not turn bad data into good enough.
    least = min(share, worst_share(lake, as_of - timedelta(days=1), as_of))
    return ValidateReport(as_of, tuple(rows), tuple(checks), share, least >= config.quality.min_good_share)


def worst_share(lake: Lake, start: datetime, end: datetime) -> float:
    """Return the smallest share of good rows of any table and venue with start <= ts <= end; 1 if none was judged."""
    within = pl.col("ts").is_between(start, end)
    by = ["table", "venue"]
    held = lake.rows("derived", "quarantine").filter(within).group_by(by).agg(bad=pl.len())
    parts = [
        lake.rows("validated", spec.name)
        .filter(within)
        .group_by("venue")
        .agg(good=pl.len())
        .with_columns(table=pl.lit(spec.name))
        for spec in MARKET_TABLES
    ]
    judged = pl.concat(parts).join(held, on=by, how="full", coalesce=True).fill_null(0)
    least = judged.select((pl.col("good") / (pl.col("good") + pl.col("bad"))).min()).collect().item()
    return 1.0 if least is None else float(least)


def pending_rows(lake: Lake, spec: Table) -> pl.DataFrame:
    """Return the raw rows (every revision) that have no verdict yet."""
    identity = [*spec.key, "available_at", "ingested_at"]
    raw = lake.rows("raw", spec.name).join(lake.rows("validated", spec.name), on=identity, how="anti").collect()
    held = lake.rows("derived", "quarantine").filter(pl.col("table") == spec.name).collect()
    suspects = raw.join(held, on=["venue", "symbol", "ts"], how="semi", nulls_equal=True)
    if suspects.is_empty():
        return raw
    known = quarantine_rows(spec.name, suspects.with_columns(reason=pl.lit("")))["source_key"]
    judged = suspects.filter(known.is_in(held["source_key"].implode()))
    return raw.join(judged, on=identity, how="anti", nulls_equal=True)


def _mirror(lake: Lake, spec: Table, good: pl.DataFrame) -> None:
    """Append under the instants at which raw/ took the rows, so that a revision keeps its own time."""
    for ingested_at in good["ingested_at"].unique().sort():
        lake.append("validated", spec.name, good.filter(pl.col("ingested_at") == ingested_at), now=ingested_at)


def _context(lake: Lake, spec: Table, pending: pl.DataFrame) -> pl.DataFrame:
    """The rows just before and among the new ones, for checks against neighbours."""
    first, last = pending["ts"].min(), pending["ts"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        first = last = datetime.max.replace(tzinfo=UTC) - CONTEXT
    near = {"start": first - CONTEXT, "end": last + timedelta(hours=1)}
    good, raw = (lake.read(layer, spec.name, **near).collect() for layer in ("validated", "raw"))  # type: ignore[arg-type]
    return context_for(pending, spec, good=good, raw=raw)


def _by_venue(name: str, verdict: Verdict) -> list[dict[str, Any]]:
    good = dict(verdict.good.group_by("venue").len().iter_rows())
    bad = dict(verdict.bad.group_by("venue").len().iter_rows())
    return [
        {"table": name, "venue": venue, "checked": good.get(venue, 0) + bad.get(venue, 0), "good": good.get(venue, 0),
         "quarantined": bad.get(venue, 0)}
        for venue in sorted({*good, *bad}, key=str)
    ]  # fmt: skip
