"""The lake: append-only Delta tables that can be read as they were known at any instant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from oihedge.core.clock import require_utc
from oihedge.core.errors import ConfigError
from oihedge.core.tables import TABLES, Table, table
from oihedge.lake.revisions import align, changes, latest, one_batch
from oihedge.lake.storage import LAYERS, Layer, Storage

_INVENTORY = pl.Schema(
    {
        "layer": pl.String(), "table": pl.String(), "venue": pl.String(), "symbol": pl.String(), "rows": pl.Int64(),
        "first_ts": pl.Datetime("us", "UTC"), "last_ts": pl.Datetime("us", "UTC"),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Appended:
    """What an append did: rows added, and the table's newest version (None while it has no row at all)."""

    added: int
    version: int | None


class Lake:
    """Delta tables in three layers: `raw`, `validated`, and `derived` (directly under the root).

    Tables only grow. Any number of processes may read and append at the same time: an append is one atomic commit under
    the table's lock, so a killed one leaves the table as it was, and appending the same rows again changes nothing.
    """

    def __init__(
        self, root: Path, *, simulated: bool, lock_timeout_s: float = 120.0, compact_after_files: int = 64
    ) -> None:
        """Open the lake at `root`; nothing is written before the first append.

        Args:
            root: the lake's folder.
            simulated: whether the rows come from the embedded market.
            lock_timeout_s: how long an append waits for another writer of its table.
            compact_after_files: an append that leaves more data files merges them.

        Raises:
            ConfigError: if the lake holds the other kind of market; the two are never mixed.
        """
        self.root, self.simulated = root, simulated
        self._storage = Storage(root, lock_timeout_s, compact_after_files)
        self._require_market(self._storage.marker())

    def append(self, layer: Layer, name: str, rows: pl.DataFrame, *, now: datetime) -> Appended:
        """Add what is new in `rows`: unknown keys as they are, changed values as revisions available from `now`.

        Args:
            layer: raw, validated or derived.
            name: a table of `core.tables`.
            rows: its columns and available_at; ingested_at is `now` where absent. Tables that are open take further
                columns. The raw layer takes missing values, the others only where the table allows them. Rows for
                `validated` that bring ingested_at mirror raw/ and keep its stamps.
            now: the ingestion instant, aware.

        Returns:
            Rows added and the newest version; nothing new makes no version.

        Raises:
            SchemaError: if the rows do not fit the table; the lake is as it was.
            BusyError: if another process writes the table for too long.
            OihedgeError: if the store refuses the write; the table is as it was.
        """
        spec, now = _spec(layer, name), require_utc(now, "now")
        batch = one_batch(rows, spec, now, strict=layer != "raw")
        mirrored = layer == "validated" and "ingested_at" in rows.columns
        if batch.is_empty():
            return Appended(0, self.version(layer, name))
        self._storage.mark(self.simulated)
        self._require_market(self._storage.marker())
        with self._storage.writing(layer, name):
            opened = self._storage.open(layer, name)
            new = batch
            if opened is not None:
                stored = self._storage.scan(opened)
                batch = align(batch, stored.collect_schema(), spec)
                new = changes(batch, _near(stored, batch, spec), spec, now, mirrored=mirrored)
                if new.is_empty():
                    return Appended(0, opened.version())
            return Appended(new.height, self._storage.write(layer, name, new.sort(spec.key), opened))

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
        rows, when = self.rows(layer, name, version), _time_column(spec)
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

    def inventory(self) -> pl.DataFrame:
        """Count rows, revisions included, by table, venue and symbol (the asset where a table has no symbol).

        Returns:
            layer, table, venue, symbol, rows, first_ts, last_ts; sorted.
        """
        found = list(self._counts())
        return pl.concat(found).sort(_INVENTORY.names()[:4]) if found else pl.DataFrame(schema=_INVENTORY)

    def _counts(self) -> Iterator[pl.DataFrame]:
        for layer in LAYERS:
            for spec in TABLES.values():
                if self.exists(layer, spec.name):
                    rows, when = self.rows(layer, spec.name), pl.col(_time_column(spec))
                    symbol = next((name for name in ("symbol", "asset") if name in spec.columns), None)
                    by = {
                        "venue": pl.col("venue") if "venue" in spec.columns else pl.lit(None, pl.String()),
                        "symbol": pl.col(symbol) if symbol else pl.lit(None, pl.String()),
                    }
                    counted = rows.with_columns(**by).group_by("venue", "symbol").agg(
                        rows=pl.len().cast(pl.Int64), first_ts=when.min(), last_ts=when.max()
                    )  # fmt: skip
                    named = counted.with_columns(layer=pl.lit(layer), table=pl.lit(spec.name))
                    yield named.select(_INVENTORY.names()).collect()

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


def _time_column(spec: Table) -> str:
    return "ts" if "ts" in spec.columns else "as_of"


def _near(stored: pl.LazyFrame, batch: pl.DataFrame, spec: Table) -> pl.LazyFrame:
    """Keep the stored rows that can share a key with the batch: an hourly append reads an hour, not the past."""
    if "ts" not in spec.key:
        return stored
    return stored.filter(pl.col("ts").is_between(batch["ts"].min(), batch["ts"].max()))
