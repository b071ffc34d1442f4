"""Lake raw/ to validated/ or quarantine, nothing lost; short gaps closed, the rest told."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.tables import RAW_TABLES, Table
from oihedge.jobs import pending as todo
from oihedge.jobs.opening import open_lake
from oihedge.jobs.quarantine import admit
from oihedge.lake.store import Lake
from oihedge.quality import feeds
from oihedge.quality.fill import filled_rows
from oihedge.quality.measures import TIMEFRAMES_US
from oihedge.quality.quarantine import key_text, keys_held, quarantine_rows
from oihedge.quality.quorum import LOOKBACK
from oihedge.quality.verdict import Verdict, judge

SET_ASIDE = ("cross_venue_outlier", "venue_set_aside", "frozen")
"""Reasons that speak of a venue among others, not of the data: the quorum goes on without it."""


@dataclass(frozen=True)
class ValidateReport:
    """What was judged: `rows` per table and venue, `checks` per expectation, the share of good rows in this slice.

    `venues`: who was set aside, stood still or was silent; `feeds`: gaps against the grid and stale series; `filled`:
    interpolated rows by table. Rows set aside by the quorum count neither as good nor as bad.
    """

    as_of: datetime
    rows: tuple[dict[str, Any], ...]
    checks: tuple[dict[str, Any], ...]
    share_good: float
    sufficient: bool
    venues: tuple[dict[str, Any], ...] = ()
    feeds: tuple[dict[str, Any], ...] = ()
    filled: dict[str, int] = field(default_factory=dict)
    docs: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, as_of: datetime, docs: bool = False) -> ValidateReport:
    """Judge every raw row that is neither validated nor quarantined yet.

    Quarantine is written before validated/, and both writes are idempotent: a run killed between them judges the same
    rows again and ends with the same tables. A release that was killed between them is completed.

    Args:
        config: settings.
        as_of: the instant of the verdicts.
        docs: also write Great Expectations' Data Docs, see `write_docs`.
    """
    lake = open_lake(config)
    judged = _Judged()
    told: list[dict[str, Any]] = []
    filled: dict[str, int] = {}
    for spec in RAW_TABLES:
        if not lake.exists("raw", spec.name):
            continue
        for start, end in todo.blocks(lake, spec):
            admit(lake, spec.name, todo.released(lake, spec, start, end))
            pending, settled = todo.pending_rows(lake, spec, start, end)
            if pending.is_empty():
                continue
            verdict, holes = _judge(lake, spec, pending, settled, start, config)
            lake.append("derived", "quarantine", quarantine_rows(spec.name, verdict.bad), now=as_of)
            _mirror(lake, spec, verdict.good)
            judged.add(spec.name, verdict)
            told += holes
            filled[spec.name] = filled.get(spec.name, 0) + _fill(lake, spec, verdict.good, config)
        told += _stale(lake, spec, config, as_of)
    path = write_docs(config, as_of=as_of) if docs else None
    return _report(lake, config, as_of, judged, told, {n: added for n, added in filled.items() if added}, path)


def write_docs(config: Config, *, as_of: datetime) -> Path:
    """Write Data Docs about the raw rows of the last 7 days, every suite included, and return the page to open.

    Static HTML under `run.data`/quality_docs: it loads nothing, runs no script and shows counts, never a row's text.
    """
    from oihedge.quality.docs import build

    lake = open_lake(config)
    return build(_newest(lake, as_of), config.quality, config.path(config.run.data) / "quality_docs", as_of=as_of)


def worst_share(lake: Lake, start: datetime, end: datetime) -> float:
    """Return the smallest share of good rows of any table and venue with start <= ts <= end; 1 if none was judged.

    Released rows count as good; those that the quorum set aside, and those we interpolated, count as neither. However
    often a good row was revised, it counts once.
    """
    within = pl.col("ts").is_between(start, end)
    by = ["table", "venue"]
    held = lake.read("derived", "quarantine", where=within & pl.col("released_at").is_null() & ~_aside())
    parts = [
        todo.judged_rows(lake, spec)
        .filter(within)
        .unique(spec.key)
        .group_by(pl.col("venue" if "venue" in spec.columns else "source").alias("venue"))
        .agg(good=pl.len())
        .with_columns(table=pl.lit(spec.name))
        for spec in RAW_TABLES
        if lake.exists("validated", spec.name)
    ]
    bad = held.group_by(by).agg(bad=pl.len())
    if not parts:
        return 0.0 if bad.collect().height else 1.0
    judged = pl.concat(parts).join(bad, on=by, how="full", coalesce=True).fill_null(0)
    least = judged.select((pl.col("good") / (pl.col("good") + pl.col("bad"))).min()).collect().item()
    return 1.0 if least is None else float(least)


def _judge(
    lake: Lake, spec: Table, pending: pl.DataFrame, settled: pl.DataFrame, start: datetime, config: Config
) -> tuple[Verdict, list[dict[str, Any]]]:
    context, beside = todo.around(lake, spec, pending, settled, start)
    verdict = judge(spec.name, pending, config.quality, context=context, venues=beside)
    return verdict, feeds.gaps(pending, beside.filter(pl.col("ts") < pending["ts"].min()), spec)


def _mirror(lake: Lake, spec: Table, good: pl.DataFrame) -> int:
    """Append under the stamps of raw/: read as of any instant, validated/ says what the good rows of raw/ say."""
    taken = good["ingested_at"].max()
    return lake.append("validated", spec.name, good, now=taken).added if isinstance(taken, datetime) else 0


def _fill(lake: Lake, spec: Table, good: pl.DataFrame, config: Config) -> int:
    """Close the short gaps next to the new rows; an hour whose venue was set aside stays empty."""
    added = 0
    first, last = good["ts"].min(), good["ts"].max()
    for step, longest in config.quality.fill.get(spec.name, {}).items():
        if longest < 1 or not isinstance(first, datetime) or not isinstance(last, datetime):
            continue
        reach = timedelta(microseconds=TIMEFRAMES_US[step] * (longest + 1))
        near = {"start": first - reach, "end": last + 2 * reach}
        rows = filled_rows(lake.read("validated", spec.name, **near).collect(), spec, step, longest)  # type: ignore[arg-type]
        aside = lake.read("derived", "quarantine", where=pl.col("table") == spec.name).filter(_aside())
        rows = rows.with_columns(key=key_text(spec, rows)).join(keys_held(aside).collect(), on="key", how="anti")
        rows = rows.drop("key")
        added += _mirror(lake, spec, rows)
    return added


def _stale(lake: Lake, spec: Table, config: Config, as_of: datetime) -> list[dict[str, Any]]:
    most = config.quality.stale_h.get(spec.name)
    if most is None:
        return []
    recent = lake.rows("raw", spec.name).filter(pl.col("ts") > as_of - LOOKBACK, pl.col("ts") <= as_of)
    series = [name for name in spec.key if name != "ts"]
    return feeds.stale(recent.group_by(series).agg(pl.col("ts").max()).collect(), spec, as_of, most)


class _Judged:
    """What the verdicts said, in figures: the rows themselves are not held from block to block."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.venues: list[dict[str, Any]] = []

    def add(self, name: str, verdict: Verdict) -> None:
        """Take in the verdict on a block of a table."""
        checks = [{"table": name, **asdict(check)} for check in verdict.checks]
        self.rows = _summed([*self.rows, *_by_venue(name, verdict)], ("table", "venue"))
        self.checks = _summed([*self.checks, *checks], ("table", "name", "column", "told"))
        apart = ("table", "asset", "kind", "timeframe", "venue", "verdict")
        self.venues = _summed([*self.venues, *verdict.venues], apart)


def _report(
    lake: Lake,
    config: Config,
    as_of: datetime,
    judged: _Judged,
    told: list[dict[str, Any]],
    filled: dict[str, int],
    docs: Path | None,
) -> ValidateReport:
    counted = sum(row["checked"] - row["set_aside"] for row in judged.rows)
    share = sum(row["good"] for row in judged.rows) / counted if counted else 1.0
    # The last day counts too, not only what is new: running again must not turn bad data into good enough.
    least = min(share, worst_share(lake, as_of - timedelta(days=1), as_of))
    return ValidateReport(
        as_of,
        tuple(judged.rows),
        tuple(judged.checks),
        share,
        least >= config.quality.min_good_share,
        tuple(judged.venues),
        tuple(_summed(told, ("table", "series", "found"))),
        filled,
        docs,
    )


def _by_venue(name: str, verdict: Verdict) -> list[dict[str, Any]]:
    venue = "venue" if "venue" in verdict.good.columns else "source"
    good = dict(verdict.good.group_by(venue).len().iter_rows())
    bad = dict(verdict.bad.group_by(venue).len().iter_rows())
    aside = dict(verdict.bad.filter(_aside()).group_by(venue).len().iter_rows())
    return [
        {"table": name, "venue": who, "checked": good.get(who, 0) + bad.get(who, 0), "good": good.get(who, 0),
         "quarantined": bad.get(who, 0), "set_aside": aside.get(who, 0)}
        for who in sorted({*good, *bad}, key=str)
    ]  # fmt: skip


def _aside() -> pl.Expr:
    """Rows that nothing but the comparison of venues keeps out."""
    return pl.col("reason").str.split("; ").list.eval(pl.element().is_in(SET_ASIDE)).list.all()


_TOGETHER: Mapping[str, Callable[[Any, Any], Any]] = {"passed": min, "longest_h": max, "first": min, "last": max}
"""How figures of several blocks become one; all others are added."""


def _summed(lines: Sequence[dict[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """Join the lines of all blocks that agree in `by`, in the order in which they first came."""
    out: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines:
        key = tuple(line.get(name) for name in by)
        if key not in out:
            out[key] = dict(line)
            continue
        for name, value in line.items():
            if name not in by and value is not None:
                out[key][name] = _TOGETHER.get(name, operator.add)(out[key][name], value)
    return list(out.values())


def _newest(lake: Lake, as_of: datetime) -> Iterator[tuple[str, pl.DataFrame]]:
    for spec in RAW_TABLES:
        within = pl.col("ts").is_between(as_of - LOOKBACK, as_of + LOOKBACK)
        yield spec.name, lake.rows("raw", spec.name).filter(within).collect()
