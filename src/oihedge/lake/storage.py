"""Where tables lie and how Delta reads and writes them: every address, storage option, lock and vendor call is here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote

import polars as pl
from deltalake import ColumnProperties, CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.table import Metadata
from filelock import FileLock, Timeout

from oihedge.core.errors import BusyError, ConfigError, DataError, OihedgeError, one_line
from oihedge.core.tables import Table
from oihedge.lake.layout import MONTH, crowded, parts_of, with_parts
from oihedge.lake.settings import REMOTE, S3

Layer = Literal["raw", "validated", "derived"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
_QUOTED = re.compile("%[0-9A-Fa-f]{2}")
_INSTANTS = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
_NUMBERS = ColumnProperties(dictionary_enabled=False)

_KEEP_ALL_VERSIONS: Mapping[str, str | None] = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
"""Delta forgets log entries after 30 days by default, and a decision older than that could no longer be replayed;
only `upkeep.vacuum` removes anything, and it knows what is still referred to."""
_CREDENTIALS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_WEB_IDENTITY_TOKEN_FILE",),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",), ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)  # fmt: skip


class OutrunError(OihedgeError):
    """Another writer committed first: nothing was written, and what is new has to be found again."""


class _Unfoldered(Metadata):
    """What a table says of itself but for its folders.

    Polars would take every NAME=VALUE of a file's whole address for a column, those above the table too; the month is
    no column of ours, and which files hold an instant their statistics tell.
    """

    @property
    def partition_columns(self) -> list[str]:
        """Return none."""
        return []


class _Opened(DeltaTable):
    """A Delta table as Polars can read it wherever it lies."""

    @property
    def parts(self) -> list[str]:
        """The columns by which the table is laid out in folders."""
        return super().metadata().partition_columns

    def metadata(self) -> Metadata:
        """Return the metadata without the folders."""
        return _Unfoldered(self._table)

    def file_uris(self, *arguments: Any, **named: Any) -> list[str]:
        """Return the addresses of the data files; local ones as the file system has them, where Delta quotes blanks."""
        uris = super().file_uris(*arguments, **named)
        return uris if self.table_uri.startswith(REMOTE) else [unquote(uri) for uri in uris]


@dataclass(frozen=True)
class Storage:
    """One lake's place: a local folder, whose writers queue at a lock, or S3, where Delta's conditional put decides."""

    root: Path | str
    lock_timeout_s: float
    compact_after: int
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a folder that Delta would look for under another name.

        Raises:
            ConfigError: naming it.
        """
        if not self.remote and (quoted := _QUOTED.search(str(Path(self.root).absolute()))):
            raise ConfigError(
                f"the lake cannot lie in {self.root}",
                expected="a path without % and two digits, which Delta takes for a quoted character",
                got=quoted[0],
                do="rename the folder, or set lake.root or --home to another",
            )

    @property
    def remote(self) -> bool:
        """Whether the tables are on S3."""
        return isinstance(self.root, str)

    def uri(self, layer: Layer, table: str) -> str:
        """Return the table's address; derived tables lie directly under the root."""
        return f"{self.root}/{table}" if layer == "derived" else f"{self.root}/{layer}/{table}"

    def open(self, layer: Layer, table: str, version: int | None = None) -> _Opened | None:
        """Open a table at a version, or at its newest; None where there is no such table yet.

        Raises:
            DataError: if the version does not exist, was vacuumed, or the table's log cannot be read.
        """
        uri = self.uri(layer, table)
        try:
            newest = _Opened(uri, storage_options=self.options)
            if version is None or version == newest.version():
                return newest
            if 0 <= version < newest.version():
                older = _Opened(uri, version=version, storage_options=self.options)
                self._require_files(uri, older, newest)
                return older
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._unreadable(uri, error) from None
        raise DataError(f"lake table {uri} has no version {version}", expected=f"0 to {newest.version()}")

    def scan(self, opened: _Opened) -> pl.LazyFrame:
        """Return the rows of the opened version, lazily; predicates reach the files' statistics.

        Raises:
            DataError: if a local data file is not there or has not the length it was written with.
        """
        if not self.remote:
            _require_whole(opened)
        rows = pl.scan_delta(opened)
        return rows.drop(MONTH) if MONTH in opened.parts else rows

    def write(self, layer: Layer, spec: Table, rows: pl.DataFrame, opened: _Opened | None) -> int:
        """Append `rows` in one commit right after the version `opened`, and return the newest version.

        The first commit makes the table. An append that leaves many small files merges them; should that fail, the rows
        are in all the same, and the next append or `oihedge maintain` merges.

        Raises:
            OutrunError: if another writer committed since `opened`; nothing was written.
            OihedgeError: if the store refuses the write; the table is as it was.
        """
        uri = self.uri(layer, spec.name)
        before = -1 if opened is None else opened.version()
        parts = parts_of(layer, spec) if opened is None else opened.parts
        try:
            write_deltalake(
                opened or uri,
                with_parts(rows, parts),
                mode="append" if opened else "error",
                schema_mode="merge" if opened else None,
                partition_by=None if opened else parts or None,
                configuration=None if opened else _KEEP_ALL_VERSIONS,
                storage_options=self.options,
                writer_properties=_writer(rows.schema),
                # No retries: Delta would put the rows after the other writer's without asking what is still new.
                commit_properties=CommitProperties({"rows": str(rows.height)}, max_commit_retries=0),
            )
        except (DeltaError, OSError) as error:
            if self._newest(layer, spec.name) > before:
                raise OutrunError(f"lake table {uri} has moved on", got=one_line(error)) from None
            raise OihedgeError(
                f"lake table {uri} could not be written", got=one_line(error), do="nothing was changed; run again"
            ) from (None if self.remote else error)
        return self._merged(opened or _Opened(uri, storage_options=self.options))

    def _newest(self, layer: Layer, table: str) -> int:
        found = self.open(layer, table)
        return -1 if found is None else found.version()

    def _merged(self, written: DeltaTable) -> int:
        if (where := crowded(written, self.compact_after)) is not None:
            with suppress(DeltaError, OSError):
                self.merge(written, where)
        return written.version()

    def merge(self, opened: DeltaTable, where: list[tuple[str, str, list[str]]] | None = None) -> None:
        """Merge the small files of an opened table, of the folders `where` alone if given."""
        opened.optimize.compact(where or None, writer_properties=_writer(pl.scan_delta(opened).collect_schema()))

    @contextmanager
    def writing(self, layer: Layer, table: str) -> Iterator[None]:
        """Hold the table's write lock; the kernel drops it when its process dies. On S3 there is none to hold.

        Raises:
            BusyError: if another process holds it for longer than the timeout.
        """
        if self.remote:
            yield
            return
        path = Path(f"{self.uri(layer, table)}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path, timeout=self.lock_timeout_s):
                yield
        except Timeout:
            raise BusyError(
                f"another process has been writing {path.stem} for {self.lock_timeout_s:g} s", do="run again later"
            ) from None

    def committed(self, layer: Layer, table: str, version: int) -> datetime:
        """Return when a version was committed, by its writer's clock."""
        entry = DeltaTable(self.uri(layer, table), version=version, storage_options=self.options).history(1)[0]
        return datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)

    def listing(self, uri: str) -> dict[str, int]:
        """Return every data file that lies under a table's address, of whatever version or none, with its bytes."""
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import FileSelector, PyFileSystem

        held = PyFileSystem(DeltaStorageHandler(uri, self.options)).get_file_info(FileSelector("", recursive=True))
        return {f"{uri}/{entry.path}": entry.size for entry in held if entry.path.endswith(".parquet")}

    def _require_files(self, uri: str, older: DeltaTable, newest: DeltaTable) -> None:
        retired = sorted({*older.file_uris()} - {*newest.file_uris()})
        gone = set(retired) - set(self.listing(uri)) if retired else set()
        if gone:
            raise DataError(
                f"version {older.version()} of lake table {uri} was vacuumed",
                expected="a version within lake.keep_days",
                got=f"{len(gone)} of its files removed",
                do=f"read the newest version {newest.version()} with as_of instead: it holds every row",
            )

    def _unreadable(self, uri: str, error: Exception) -> OihedgeError:
        if self.remote and (isinstance(error, OSError) or "S3 error" in str(error)):
            return ConfigError(
                f"lake table {uri} cannot be reached",
                got=one_line(error),
                do="check lake.root, lake.s3 and credentials",
            )
        return DataError(f"lake table {uri} is damaged", got=one_line(error), do="restore it from a copy")


def _require_whole(opened: DeltaTable) -> None:
    """Refuse a table that lost a part of itself: Polars, which reads it later and elsewhere, would panic."""
    written = pl.DataFrame(opened.get_add_actions()).select("path", "size_bytes")
    length = {path.rpartition("/")[2]: size for path, size in written.iter_rows()}
    table = unquote(opened.table_uri).removeprefix("file://").rstrip("/")
    for path in map(Path, opened.file_uris()):
        have = path.stat().st_size if path.is_file() else None
        if have != length[path.name]:
            raise DataError(
                f"lake table {table} is damaged: its file {path.name}",
                expected=f"{length[path.name]} bytes",
                got="no such file" if have is None else f"{have} bytes",
                do="restore the file from a copy",
            )


def _writer(schema: pl.Schema) -> WriterProperties:
    """Return how files of these columns are written: half the bytes of Delta's defaults on minute bars, and quicker.

    Instants as differences; no dictionary of numbers that hardly repeat; row groups small enough for a day of minutes
    to skip most of a file.
    """
    columns = {name: _NUMBERS for name, dtype in schema.items() if dtype.is_float()}
    columns |= {name: _INSTANTS for name, dtype in schema.items() if dtype.is_temporal()}
    return WriterProperties(compression="ZSTD", max_row_group_size=131_072, column_properties=columns)


def s3_options(settings: S3) -> dict[str, str]:
    """Return what Delta and Polars need to reach the store; credentials stay in the environment, where both look.

    Raises:
        ConfigError: if the environment holds none.
    """
    if not any(all(os.environ.get(name) for name in names) for names in _CREDENTIALS):
        raise ConfigError(
            "no S3 credentials in the environment",
            expected="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity or container role",
            do="export them; they never go into settings",
        )
    options = {"aws_region": settings.region, "aws_conditional_put": "etag"}
    if settings.endpoint is not None:
        options["aws_endpoint_url"] = settings.endpoint
    return {**options, "aws_allow_http": "true"} if settings.allow_http else options
