"""The lake's upkeep: small files merged, and files removed that no kept version needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.clock import Clock, SystemClock, iso
from oihedge.core.errors import OihedgeError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import DECISION_INPUTS, FEATURES, MARKET_TABLES
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.lake.storage import Layer
from oihedge.lake.store import Lake

Referred = dict[tuple[Layer, str], set[int]]
DERIVED_FROM: tuple[tuple[Layer, str], ...] = (
    *(("validated", spec.name) for spec in MARKET_TABLES),
    ("derived", FEATURES.name),
)
"""The tables of which decisions and models record the version that they were made from."""
MB = 1e6


@dataclass(frozen=True)
class MaintainReport:
    """One row for each table (files: of the newest version; mb: all that is stored), and the tables that failed."""

    as_of: datetime
    dry_run: bool
    keep_days: int
    tables: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "as_of": iso(self.as_of)}


def run(
    config: Config,
    *,
    as_of: datetime,
    dry_run: bool = False,
    clock: Clock | None = None,
    progress: Progress = silent,
) -> MaintainReport:
    """Tidy up every table; one that fails does not keep the others from theirs.

    Args:
        config: settings; `lake.keep_days` says how long versions are kept.
        as_of: decisions of the keep_days before it keep the versions that they were made from, as do the models in
            service, whenever these were.
        dry_run: only tell what would be removed.
        clock: tells how old files are, which Delta stamps by the wall clock; default: that clock.
        progress: told of every table.
    """
    lake, now, keep = open_lake(config), (clock or SystemClock()).now(), timedelta(days=config.lake.keep_days)
    needed, there = referred(lake, config, since=as_of - keep), lake.tables()
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for done, (layer, name) in enumerate(there, 1):
        began = time.perf_counter()
        try:
            told = lake.keep_up(layer, name, keep=keep, needed=needed.get((layer, name), ()), now=now, dry_run=dry_run)
        except OihedgeError as error:
            failures.append(str(error))
            continue
        rows.append(
            {"table": name if layer == "derived" else f"{layer}/{name}", "files_before": told.files_before,
             "files_after": told.files_after, "mb_before": told.stored_bytes_before / MB,
             "mb_after": told.stored_bytes_after / MB, "removed": told.removed,
             "seconds": round(time.perf_counter() - began, 3)}
        )  # fmt: skip
        progress(done, len(there), rows[-1]["table"])
    return MaintainReport(as_of, dry_run, config.lake.keep_days, tuple(rows), tuple(failures))


def referred(lake: Lake, config: Config, *, since: datetime) -> Referred:
    """Return the versions that decisions made at or after `since`, or the models in service, were made from."""
    found: Referred = {table: set() for table in DERIVED_FROM}
    if lake.exists("derived", DECISION_INPUTS.name):
        stored = lake.rows("derived", DECISION_INPUTS.name).filter(pl.col("as_of") >= since)
        for layer, name in DERIVED_FROM:
            version = pl.col("inputs").str.json_path_match(f"$.versions.{name}").cast(pl.Int64)
            found[layer, name] |= set(stored.select(version).unique().drop_nulls().collect().to_series())
    found["derived", FEATURES.name] |= set(_in_service(lake, config))
    return found


def _in_service(lake: Lake, config: Config) -> Iterator[int]:
    if not lake.exists("derived", FEATURES.name):
        return
    registry = open_registry(config)
    for model in (registry.champion(), registry.challenger()):
        version = model.tags.get("features_version", "") if model else ""
        if version.isdecimal():
            yield int(version)
