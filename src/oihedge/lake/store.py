"""The lake: append-only Delta tables that can be read as they were known at any instant."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from oihedge.core.clock import require_utc
from oihedge.core.errors import BusyError, ConfigError
from oihedge.core.tables import RAW_TABLES, TABLES, Table, table
from oihedge.lake.inventory import INVENTORY, count, time_column
from oihedge.lake.marker import mark, marked
from oihedge.lake.revisions import align, changes, latest, one_batch, unseen
from oihedge.lake.settings import S3
from oihedge.lake.storage import LAYERS, Layer, OutrunError, Storage, s3_options
from oihedge.lake.upkeep import Upkeep, keep_up


@dataclass(frozen=True)
class Appended:
    """What an append did: rows added, and the table's newest version (None while it has no row at all)."""

    added: int
    version: int | None


class Lake:
    """Delta tables in three layers: `raw`, `validated`, and `derived` (directly under the root).

    Tables only grow. Any number of processes may read and append at the same time: an append is one atomic commit right
    after the version it was compared with, so a killed one leaves the table as it was, and appending the same rows
    again, even by two processes at once, changes nothing.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        simulated: bool,
        lock_timeout_s: float = 120.0,
        compact_after_files: int = 64,
        s3: S3 | None = None,
    ) -> None:
        """Open the lake at `root`; nothing is written before the first append.

        Args:
            root: the lake's folder, or s3://bucket/prefix as text.
            simulated: whether the rows come from the embedded market.
            lock_timeout_s: how long an append waits for other writers of its table.
            compact_after_files: an append that leaves more small data files merges them.
            s3: how the store of an s3:// root is reached.

        Raises:
            ConfigError: if the lake holds the other kind of market (the two are never mixed), if S3 cannot be reached,
                or for a folder that Delta would not find again (%XX in its path).
        """
        self.root, self.simulated = root, simulated
        self._storage = Storage(root, lock_timeout_s, compact_after_files, s3_options(s3) if s3 else {})
        self._marked = marked(self._storage)
        self._require_market(self._marked)

    def append(self, layer: Layer, name: str, rows: pl.DataFrame, *, now: datetime) -> Appended:
        """Add what is new in `rows`: unknown keys as they are, changed values as revisions available from `now`.

        Args:
            layer: raw, validated or derived.
            name: a table of `core.tables`.
            rows: its columns and available_at; ingested_at is `now` where absent. Tables that are open take further
                columns. The raw layer takes missing values, the others only where the table allows them. Rows for
                `validated` that bring ingested_at mirror raw/: every revision goes in under its own stamps.
            now: the ingestion instant, aware.

        Returns:
            Rows added and the newest version; nothing new makes no version.

        Raises:
            SchemaError: if the rows do not fit the table; the lake is as it was.
            BusyError: if another process writes the table for too long.
            OihedgeError: if the store refuses the write; the table is as it was.
        """
        spec, now = _spec(layer, name), require_utc(now, "now")
        mirrored = layer == "validated" and "ingested_at" in rows.columns
        batch = one_batch(rows, spec, now, strict=layer != "raw", mirrored=mirrored)
        if batch.is_empty():
            return Appended(0, self.version(layer, name))
        if self._marked is None:
            mark(self._storage, self.simulated)
            self._marked = marked(self._storage)
        self._require_market(self._marked)
        outrun = Retrying(
            retry=retry_if_exception_type(OutrunError),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(self._storage.lock_timeout_s),
        )
        try:
            return outrun(self._append, layer, spec, batch, now, mirrored)
        except RetryError:
            raise BusyError(
                f"others kept writing {name} for {self._storage.lock_timeout_s:g} s", do="run again later"
            ) from None

    def _append(self, layer: Layer, spec: Table, batch: pl.DataFrame, now: datetime, mirrored: bool) -> Appended:
        with self._storage.writing(layer, spec.name):
            opened, new = self._storage.open(layer, spec.name), batch
            if opened is not None:
                stored = self._storage.scan(opened)
                batch = align(batch, stored.collect_schema(), spec)
                new = unseen(batch, stored, spec) if mirrored else changes(batch, stored, spec, now)
                if new.is_empty():
                    return Appended(0, opened.version())
            return Appended(new.height, self._storage.write(layer, spec, new.sort(spec.key), opened))

    def read(
        self,
        layer: Layer,
        name: str,
        *,
        as_of: datetime | None = None,
        version: int | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        where: pl.Expr | None = None,
    ) -> pl.LazyFrame:
        """Return one row per key as it was known at `as_of`, sorted by key.

        Args:
            layer: raw, validated or derived.
            name: a table of `core.tables`.
            as_of: only rows with available_at <= as_of are known; None takes the newest of each key.
            version: the Delta version to read; None takes the newest at this call.
            start: keep ts >= start (as_of >= start in `decisions`).
            end: keep ts < end.
            where: a condition on the rows that count; on key columns alone it also saves reading.

        Returns:
            Lazy rows of that one version; none, with the table's columns, where nothing was written yet.

        Raises:
            DataError: if the version does not exist or the table is damaged.
        """
        spec = _spec(layer, name)
        rows, when = self.rows(layer, name, version), time_column(spec)
        if start is not None:
            rows = rows.filter(pl.col(when) >= require_utc(start, "start"))
        if end is not None:
            rows = rows.filter(pl.col(when) < require_utc(end, "end"))
        if where is not None and set(where.meta.root_names()) <= set(spec.key):
            rows, where = rows.filter(where), None
        known = latest(rows, spec.key, None if as_of is None else require_utc(as_of, "as_of"))
        return known if where is None else known.filter(where)

    def rows(self, layer: Layer, name: str, version: int | None = None) -> pl.LazyFrame:
        """Return every row with all its revisions, lazily and in no order.

        Raises:
            DataError: if the version does not exist or the table is damaged.
        """
        spec = _spec(layer, name)
        opened = self._storage.open(layer, name, version)
        if opened is None:
            return pl.LazyFrame(schema=spec.schema)
        stored = self._storage.scan(opened)
        have = stored.collect_schema()
        absent = [
            pl.lit(None, dtype=dtype).alias(column) for column, dtype in spec.schema.items() if column not in have
        ]
        return stored.with_columns(absent) if absent else stored

    def version(self, layer: Layer, name: str) -> int | None:
        """Return the table's newest version, or None where nothing was written yet."""
        opened = self._storage.open(layer, _spec(layer, name).name)
        return None if opened is None else opened.version()

    def exists(self, layer: Layer, name: str) -> bool:
        """Tell whether anything was written to the table."""
        return self.version(layer, name) is not None

    def tables(self) -> list[tuple[Layer, str]]:
        """Return the layer and name of every table that something was written to."""
        raw = {spec.name for spec in RAW_TABLES}
        likely = [(layer, name) for layer in LAYERS for name in TABLES if (name in raw) == (layer != "derived")]
        return [(layer, name) for layer, name in likely if self.exists(layer, name)]

    def keep_up(
        self,
        layer: Layer,
        name: str,
        *,
        keep: timedelta,
        needed: Collection[int] = (),
        now: datetime,
        dry_run: bool = False,
    ) -> Upkeep:
        """Merge the table's small files and remove what only versions older than `keep` need; see `upkeep.keep_up`.

        Raises:
            DataError: if there is no such table.
            OihedgeError: if the store refuses; no row is lost.
        """
        name, now = _spec(layer, name).name, require_utc(now, "now")
        return keep_up(self._storage, layer, name, keep=keep, needed=needed, now=now, dry_run=dry_run)

    def inventory(self) -> pl.DataFrame:
        """Count rows, revisions included, by table, venue and symbol (the asset where a table has no symbol).

        Returns:
            layer, table, venue, symbol, rows, first_ts, last_ts; sorted.
        """
        found = [count(self.rows(layer, name), layer, TABLES[name]) for layer, name in self.tables()]
        return pl.concat(found).sort(INVENTORY.names()[:4]) if found else pl.DataFrame(schema=INVENTORY)

    def _require_market(self, stored: bool | None) -> None:
        if stored is not None and stored != self.simulated:
            kinds = {True: "the simulated market", False: "real markets"}
            raise ConfigError(
                f"lake {self.root} holds {kinds[stored]}",
                expected=f"a lake of {kinds[self.simulated]}",
                do="give each its own lake.root; they are never mixed",
            )


def _spec(layer: Layer, name: str) -> Table:
    if layer not in LAYERS:
        raise ConfigError(f"unknown lake layer {layer!r}", expected=", ".join(LAYERS))
    return table(name)
