"""The quarantine, seen and opened: list what is kept out, let a row go after a person has looked at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.clock import iso
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import RAW_TABLES, UTC_TIME
from oihedge.core.tables import table as table_named
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake
from oihedge.quality.quarantine import row_of
from oihedge.quality.suites import JUDGEMENTS

KEY_DIGITS = 12
_LEAST_DIGITS = 6


@dataclass(frozen=True)
class Listing:
    """Rows kept out: `rows` newest first and at most `limit` of `total`; `counts` of all by table, venue and reason."""

    total: int
    counts: tuple[dict[str, Any], ...]
    rows: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Release:
    """A row let go: `released` is False where it had been before, `available_at` from when on it is known."""

    key: str
    table: str
    source_key: str
    reason: str
    released: bool
    available_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Releases:
    """What became of several rows: those let go, and one line for each that was not."""

    rows: tuple[Release, ...]
    refused: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def listing(
    config: Config,
    *,
    as_of: datetime,
    table: str | None = None,
    venue: str | None = None,
    reason: str | None = None,
    released: bool = False,
    limit: int = 50,
) -> Listing:
    """Return what is kept out, as known at `as_of`.

    Args:
        config: settings.
        as_of: the instant.
        table: only rows of this table.
        venue: only rows of this venue (of a source, where the table has no venues).
        reason: only rows with this among their reasons.
        released: list the rows that were let go instead.
        limit: how many rows are listed; all are counted.

    Raises:
        ConfigError: if there is no such table.
    """
    found = _chosen(config, as_of, table, venue, reason, released=released)
    counts = found.group_by("table", "venue", "reason").agg(
        rows=pl.len(), first=pl.col("ts").min(), last=pl.col("ts").max()
    )
    shown = found.sort("available_at", "source_key", descending=[True, False]).head(limit)
    columns = [pl.col("payload_hash").str.head(KEY_DIGITS).fill_null(pl.col("source_key")).alias("key")]
    columns += [pl.col(name) for name in ("table", "venue", "symbol", "ts", "reason", "payload")]
    columns += [pl.col("released_at"), pl.col("release_reason")] if released else []
    return Listing(
        found.height,
        tuple(counts.sort("table", "venue", "reason").to_dicts()),
        tuple(shown.select(columns).to_dicts()),
    )


def _chosen(
    config: Config, as_of: datetime, table: str | None, venue: str | None, reason: str | None, *, released: bool = False
) -> pl.DataFrame:
    names = [spec.name for spec in RAW_TABLES]
    if table is not None and table not in names:
        raise ConfigError(f"unknown table {table!r}", expected=", ".join(names))
    rows = open_lake(config).read("derived", "quarantine", as_of=as_of)
    rows = rows.filter(pl.col("released_at").is_not_null() if released else pl.col("released_at").is_null())
    if table is not None:
        rows = rows.filter(pl.col("table") == table)
    if venue is not None:
        rows = rows.filter(pl.col("venue") == venue)
    if reason is not None:
        rows = rows.filter(pl.col("reason").str.split("; ").list.contains(reason))
    return rows.collect()


def release_several(
    config: Config,
    keys: Sequence[str] = (),
    *,
    as_of: datetime,
    table: str | None = None,
    venue: str | None = None,
    having: str | None = None,
    reason: str = "",
) -> Releases:
    """Let the rows of `keys` go, or else all of a table, a venue and with the reason `having`; each as `release` does.

    Raises:
        ConfigError: if there is no such table.
        DataError: if no row is chosen.
    """
    if not keys:
        chosen = _chosen(config, as_of, table, venue, having).sort("table", "ts", "source_key")
        keys = chosen["source_key"].unique(maintain_order=True).to_list()
        if not keys:
            raise DataError("no quarantined row is chosen", do="oihedge quarantine list shows what there is")
    rows, refused = [], []
    for key in keys:
        try:
            rows.append(release(config, key, as_of=as_of, reason=reason))
        except DataError as error:
            refused.append(str(error))
    return Releases(tuple(rows), tuple(refused))


def release(config: Config, key: str, *, as_of: datetime, reason: str = "") -> Release:
    """Let one row go to validated/, known from `as_of` on and not before; the same key again changes nothing.

    The quarantine row's revision that says so is written before the validated row: killed between them, the same
    command or the next validation completes it.

    Args:
        config: settings.
        key: what `listing` shows: the head of the payload's hash, or the whole source_key.
        as_of: the instant of the release.
        reason: why, for the record.

    Raises:
        DataError: if no row or more than one has this key, if a reason is none of JUDGEMENTS, if a required value is
            missing, or if the venue has since sent another row for the same instant.
    """
    lake = open_lake(config)
    held = _held(lake, key)
    first = held.row(0, named=True)
    told = (key, first["table"], first["source_key"], "; ".join(held["reason"].unique().sort()))
    if first["released_at"] is not None:
        return Release(*told, released=admit(lake, first["table"], held) > 0, available_at=first["released_at"])
    _refuse_if_impossible(held)
    row = row_of(first["table"], first["payload"])
    _refuse_if_outdated(lake, first["table"], row)
    now = max(as_of, *(row[stamp].item() for stamp in ("available_at", "ingested_at") if row[stamp].item()))
    said = {"released_at": pl.lit(now, UTC_TIME), "release_reason": pl.lit(reason or None, pl.String())}
    let_go = held.with_columns(**said)
    lake.append("derived", "quarantine", let_go.drop("ingested_at"), now=now)
    admit(lake, first["table"], let_go)
    return Release(*told, released=True, available_at=now)


def admit(lake: Lake, table: str, held: pl.DataFrame) -> int:
    """Put the released ones of a table's quarantine rows into validated/, and return how many were not there yet.

    Each is written as of its release, whenever this runs: one that the venue has revised since stays revised.
    """
    let_go = held.drop_nulls("released_at").unique("source_key", maintain_order=True).sort("released_at", "source_key")
    if let_go.is_empty():
        return 0
    rows = pl.concat([row_of(table, payload) for payload in let_go["payload"]])
    rows = rows.drop("ingested_at").with_columns(available_at=let_go["released_at"])
    there = lake.rows("validated", table).filter(pl.col("ts").is_between(rows["ts"].min(), rows["ts"].max()))
    same = [*table_named(table).columns, "available_at"]
    missing = rows.lazy().join(there, on=same, how="anti", nulls_equal=True, maintain_order="left").collect()
    return sum(
        lake.append("validated", table, row, now=row["available_at"].item()).added for row in missing.iter_slices(1)
    )


def _held(lake: Lake, key: str) -> pl.DataFrame:
    """Return the quarantine rows (one a reason) of the one source row that `key` names."""
    named = pl.col("source_key") == key
    if len(key) >= _LEAST_DIGITS:
        named |= pl.col("payload_hash").str.starts_with(key)
    held = lake.read("derived", "quarantine", where=named).collect()
    rows = held.unique(["table", "source_key"], maintain_order=True)
    if rows.is_empty():
        raise DataError(f"no quarantined row {key!r}", do="oihedge quarantine list shows the keys there are")
    if rows.height > 1:
        raise DataError(
            f"{rows.height} quarantined rows begin with {key!r}",
            expected="a key that names one row",
            got=", ".join(rows["source_key"].head(3)),
        )
    return held


def _refuse_if_impossible(held: pl.DataFrame) -> None:
    """Features and models rely on what validated rows cannot be; no person's word changes that."""
    reasons = set(held["reason"].str.split("; ").explode())
    if wrong := sorted(reasons - JUDGEMENTS):
        raise DataError(
            f"{held['table'][0]} {held['source_key'][0]} cannot be released: {', '.join(wrong)}",
            expected=f"only reasons among {', '.join(sorted(JUDGEMENTS))}",
        )


def _refuse_if_outdated(lake: Lake, table: str, row: pl.DataFrame) -> None:
    """A venue that has sent the instant again knows better than the row that was kept out."""
    spec = table_named(table)
    newer = lake.read("validated", table, start=row["ts"].item()).join(row.lazy(), on=spec.key, how="semi")
    if "filled" in spec.columns:  # what we interpolated ourselves is no word of the venue's
        newer = newer.filter(~pl.col("filled").fill_null(False))
    taken = newer.filter(pl.col("ingested_at") > row["ingested_at"].item()).collect()
    same = [name for name in spec.values if name not in spec.optional]
    if taken.height and not taken.select(same).equals(row.select(same)):
        raise DataError(
            f"{table} already has a later row for this instant",
            expected="none",
            got=f"one taken at {iso(taken['ingested_at'].item())}",
            do="nothing was released",
        )
