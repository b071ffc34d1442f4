"""Which files rows came from: every file that an import reads, by name and sha256, in `imported_files`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from oihedge.core.tables import IMPORTED_FILES, UTC_TIME, conform
from oihedge.lake.store import Lake
from oihedge.market.archive import BARS, ArchiveFile
from oihedge.market.spec import ImportSpec, resolve_file

_TABLES = {"fundingRate": ("funding",), "metrics": ("open_interest", "long_short")}
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class ReadFile:
    """One file as it was when it was read, and of which tables it holds rows: the first ts and number of each."""

    name: str
    sha256: str
    tables: Mapping[str, tuple[datetime | None, int | None]]


def described(path: Path, name: str, tables: Mapping[str, tuple[datetime | None, int | None]]) -> ReadFile:
    """Describe the file at `path`, which goes by `name`."""
    with path.open("rb") as content:
        return ReadFile(name, hashlib.file_digest(content, "sha256").hexdigest(), tables)


def of_spec(spec: ImportSpec, folder: Path | None, rows: pl.DataFrame) -> list[ReadFile]:
    """Describe the files that a spec names, by their names there, and which of its `rows` each gave."""
    parts = [(name, rows.filter(pl.col("asset") == asset)) for asset, name in spec.files.items()]
    if spec.file is not None:
        parts.append((spec.file, rows))
    found = []
    for name, part in parts:
        first = part["ts"].min()
        held = (first if isinstance(first, datetime) else None, part.height)
        shown = Path(name).name if Path(name).is_absolute() else Path(name).as_posix()
        found.append(described(resolve_file(name, folder, spec.home), shown, {spec.table: held}))
    return found


def of_freqtrade(folder: Path, names: Iterable[str]) -> list[ReadFile]:
    """Describe the files of those names in a freqtrade folder; what each gave is not told."""
    paths = [path for name in dict.fromkeys(names) for path in (folder / name, folder / "futures" / name)]
    return [
        described(
            path,
            path.relative_to(folder).as_posix(),
            {"funding" if "-funding_rate." in path.name else "ohlcv": (None, None)},
        )
        for path in paths
        if path.is_file()
    ]


def of_archives(files: Sequence[ArchiveFile], folder: Path, read: Mapping[str, pl.DataFrame]) -> list[ReadFile]:
    """Describe archive files of which rows came.

    Args:
        files: what may have been read.
        folder: from which on they are named.
        read: the rows by table; a row that both a month's and a day's file cover counts for both.
    """
    days = {name: _per_day(name, rows) for name, rows in read.items()}
    told = []
    for file in files:
        names = _TABLES.get(file.kind, ("ohlcv",))
        tables = {name: found for name in names if (found := _covered(file, days.get(name, {})))}
        if tables:
            told.append(described(file.path, file.path.relative_to(folder).as_posix(), tables))
    return told


def record(lake: Lake, files: Iterable[ReadFile], as_of: datetime) -> int:
    """Remember the files, each once however often it is imported, and return how many there are."""
    rows: list[dict[str, Any]] = [
        {"sha256": file.sha256, "file": file.name, "table": name, "rows": count, "ts": first, "available_at": as_of}
        for file in files
        for name, (first, count) in file.tables.items()
    ]
    frame = pl.DataFrame(rows, schema={**IMPORTED_FILES.columns, "available_at": UTC_TIME})
    lake.append("derived", IMPORTED_FILES.name, conform(frame, IMPORTED_FILES, stamps=False), now=as_of)
    return frame.n_unique(["sha256", "file"])


_Series = tuple[str, str, str | None]


def _per_day(name: str, rows: pl.DataFrame) -> dict[_Series, dict[date, tuple[datetime, int]]]:
    """Return (first ts, rows) of every day of each series, by venue, symbol and, of bars, kind."""
    kind = pl.col("kind") if name == "ohlcv" else pl.lit(None, dtype=pl.String).alias("kind")
    # a day of snapshots ends with the next day's midnight, and does not begin with its own
    day = (pl.col("ts") if name in ("ohlcv", "funding") else pl.col("ts") - _TICK).dt.date().alias("day")
    counted = rows.group_by("venue", "symbol", kind, day).agg(first=pl.col("ts").min(), rows=pl.len())
    found: dict[_Series, dict[date, tuple[datetime, int]]] = {}
    for venue, symbol, of, on, first, count in counted.iter_rows():
        found.setdefault((venue, symbol, of), {})[on] = (first, count)
    return found


def _covered(
    file: ArchiveFile, days: Mapping[_Series, Mapping[date, tuple[datetime, int]]]
) -> tuple[datetime, int] | None:
    of = (BARS[file.kind] or file.instrument.kind) if file.kind in BARS else None
    series = days.get((file.instrument.venue, file.instrument.symbol, of), {})
    within = [file.since + timedelta(days=n) for n in range((file.until - file.since).days)]
    found = [series[day] for day in within if day in series]
    return (min(first for first, _ in found), sum(count for _, count in found)) if found else None
