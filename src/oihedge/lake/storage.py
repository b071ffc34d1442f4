"""Where tables lie and how Delta reads and writes them: every address, storage option, lock and vendor call is here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from filelock import FileLock, Timeout

from oihedge.core.errors import BusyError, ConfigError, DataError, OihedgeError

Layer = Literal["raw", "validated", "derived"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
MARKER = "lake.json"

_KEEP_ALL_VERSIONS: Mapping[str, str | None] = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
"""Delta forgets log entries after 30 days by default, and a decision older than that could no longer be replayed."""


@dataclass(frozen=True)
class Storage:
    """One lake's place: a local folder now; another store changes `uri` and `options` and keeps its locks in `root`."""

    root: Path
    lock_timeout_s: float
    compact_after: int
    options: dict[str, str] = field(default_factory=dict)

    def uri(self, layer: Layer, table: str) -> str:
        """Return the table's address; derived tables lie directly under the root."""
        return str(self.root / table if layer == "derived" else self.root / layer / table)

    def open(self, layer: Layer, table: str, version: int | None = None) -> DeltaTable | None:
        """Open a table at a version, or at its newest; None where there is no such table yet.

        Raises:
            DataError: if the version does not exist or the table's log cannot be read.
        """
        uri = self.uri(layer, table)
        if not DeltaTable.is_deltatable(uri, storage_options=self.options):
            return None
        try:
            newest = DeltaTable(uri, storage_options=self.options)
            if version is None or version == newest.version():
                return newest
            if 0 <= version < newest.version():
                return DeltaTable(uri, version=version, storage_options=self.options)
        except (DeltaError, OSError) as error:
            raise DataError(f"lake table {uri} is damaged", got=_line(error), do="restore it from a copy") from error
        raise DataError(f"lake table {uri} has no version {version}", expected=f"0 to {newest.version()}")

    def scan(self, opened: DeltaTable) -> pl.LazyFrame:
        """Return the rows of the opened version, lazily; predicates reach the files' statistics."""
        return pl.scan_delta(opened)

    def write(self, layer: Layer, table: str, rows: pl.DataFrame, opened: DeltaTable | None) -> int:
        """Append `rows` in one commit, create the table with the first one, and return the newest version.

        Raises:
            OihedgeError: if the store refuses the write; the table is as it was.
        """
        uri = self.uri(layer, table)
        try:
            write_deltalake(
                opened or uri,
                rows,
                mode="append" if opened else "error",
                schema_mode="merge" if opened else None,
                configuration=None if opened else _KEEP_ALL_VERSIONS,
                storage_options=self.options,
                commit_properties=CommitProperties(custom_metadata={"rows": str(rows.height)}),
            )
            written = DeltaTable(uri, storage_options=self.options)
            if len(written.file_uris()) > self.compact_after:
                written.optimize.compact()
            return written.version()
        except (DeltaError, OSError) as error:
            raise OihedgeError(
                f"lake table {uri} could not be written", got=_line(error), do="nothing was changed; run again"
            ) from error

    @contextmanager
    def writing(self, layer: Layer, table: str) -> Iterator[None]:
        """Hold the table's write lock; the kernel drops it when its process dies.

        Raises:
            BusyError: if another process holds it for longer than the timeout.
        """
        path = Path(f"{self.uri(layer, table)}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path, timeout=self.lock_timeout_s):
                yield
        except Timeout:
            raise BusyError(
                f"another process has been writing {path.stem} for {self.lock_timeout_s:g} s", do="run again later"
            ) from None

    def marker(self) -> bool | None:
        """Return whether the lake holds the simulated market, or None while nothing was written.

        Raises:
            ConfigError: if the lake's marker file cannot be read.
        """
        path = self.root / MARKER
        try:
            simulated = json.loads(path.read_text())["simulated"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be read", expected='{"simulated": true or false}', got=_line(error)
            ) from None
        return bool(simulated)

    def mark(self, simulated: bool) -> None:
        """Remember which market the lake holds, before its first row; what is remembered already stays."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "lake.lock", timeout=self.lock_timeout_s):
            if self.marker() is None:
                draft = self.root / f"{MARKER}.new"
                draft.write_text(json.dumps({"simulated": simulated}) + "\n")
                draft.replace(self.root / MARKER)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
