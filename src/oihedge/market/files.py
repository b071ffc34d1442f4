"""Columns of a user's file as text, numbers and UTC instants, with errors that name file, column and value."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

from oihedge.core.clock import EARLIEST, LATEST, iso
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import UTC_TIME
from oihedge.market.spec import FromColumn, ImportSpec, zone_of

Keep = Literal["first", "last"]
Tell = Callable[[str], None]
"""Receives one line where rows had to be left out."""
MOST_BYTES = 48 * 2**20
"""Of the content of gzip'd CSV, a few MB of which can hold more than the memory does: with columns of single digits,
parsing takes forty times as much."""
DAMAGED = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    zlib.error,
)
"""What readers of files raise for damaged ones; polars' panic is no Exception."""
_GZIP = b"\x1f\x8b"
_ENDINGS = {
    ".csv": "csv", ".txt": "csv", ".gz": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".feather": "feather", ".arrow": "feather", ".ipc": "feather",
}  # fmt: skip
_ZONED = r"(Z|[+-]\d{2}:?\d{2})$"
_BLANK = ["", "null", "NULL", "NaN", "nan", "NA", "None"]
_SECONDS = 10**11
"""An epoch count below this is in seconds, each further factor of 1000 is ms, us, ns."""


def read_file(path: Path, spec: ImportSpec) -> pl.DataFrame:
    """Read the columns that the spec names; CSV as text.

    Raises:
        ConfigError: for an ending that tells no format.
        DataError: if the file is unreadable, empty or lacks a column.
    """
    form = spec.format or _ENDINGS.get(path.suffix.lower())
    if form is None:
        raise ConfigError(
            f"{path.name}: its ending tells no format", expected="csv, parquet or feather", do="set `format`"
        )
    try:
        frame = _csv(path, spec) if form == "csv" else pl.read_parquet(path) if form == "parquet" else _feather(path)
    except DAMAGED as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{path.name} cannot be read as {form}: {why}", do="check the file and `format`") from None
    if frame.is_empty():
        raise DataError(f"{path.name} has no rows")
    for column in _wanted(spec):
        _require(frame.columns, column, path)
    return frame


def _wanted(spec: ImportSpec) -> list[str]:
    told = [source.column for source in (spec.venue, spec.asset, spec.symbol) if isinstance(source, FromColumn)]
    return [*spec.columns.values(), *spec.where, *told]


def _csv(path: Path, spec: ImportSpec) -> pl.DataFrame:
    with path.open("rb") as file:  # polars would unpack gzip of any size, whatever the file's name
        zipped = file.read(len(_GZIP)) == _GZIP
    source = gunzipped(path, MOST_BYTES) if zipped else path
    read = partial(pl.read_csv, source, has_header=spec.header is True, separator=spec.separator, infer_schema=False)
    there = read(n_rows=1).columns
    names = list(spec.header) if isinstance(spec.header, tuple) else there
    if len(names) > len(there):
        raise DataError(f"{path.name} has {len(there)} columns", expected=f"{len(names)}: {', '.join(names)}")
    wanted = list(dict.fromkeys(_wanted(spec)))
    for column in wanted:
        _require(names, column, path)
    sent = [there[names.index(column)] for column in wanted]
    return read(columns=sent).select(sent).rename(dict(zip(sent, wanted, strict=True)))


def gunzipped(path: Path, most: int) -> bytes:
    """Return a gzip file's content.

    Raises:
        DataError: if that is more than `most` bytes; no more is unpacked.
        OSError, EOFError, zlib.error: if it is damaged.
    """
    with gzip.open(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path.name} unpacks to too much", expected=f"at most {most} bytes", do="unpack or split it")
    return content


def once(
    rows: pl.DataFrame, key: Sequence[str], values: Sequence[str], keep: Keep, what: str, tell: Tell
) -> pl.DataFrame:
    """Return the first or last row of each key; rows left out that are not equal to it in `values` are told."""
    distinct = rows.unique([*key, *values], keep=keep, maintain_order=True)
    kept = distinct.unique(key, keep=keep, maintain_order=True)
    if left := distinct.height - kept.height:
        first = distinct.filter(distinct.select(key).is_duplicated())["ts"].min()
        assert isinstance(first, datetime)
        tell(
            f"{what}: {left} rows left out that contradict another of their ts, the first at {iso(first)}; "
            f"the {keep} of each counts"
        )
    return kept


def _feather(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:  # an open file, not a path: a memory map would outlive this call
        return pl.read_ipc(file)


def _require(names: Sequence[str], column: str, path: Path) -> None:
    if column not in names:
        raise DataError(f"{path.name} lacks column {column!r}", expected=column, got=", ".join(names))


def texts(frame: pl.DataFrame, column: str, path: Path) -> pl.Series:
    """Return a column as text without spaces around it; blanks are null."""
    _require(frame.columns, column, path)
    series = frame[column].cast(pl.String, strict=False).str.strip_chars()
    return series.replace("", None)


def numbers(frame: pl.DataFrame, column: str, path: Path) -> pl.Series:
    """Return a column as floats; blanks are null.

    Raises:
        DataError: naming text that is no number.
    """
    series = frame[column]
    if series.dtype == pl.String:
        text = series.str.strip_chars()
        text = text.replace(dict.fromkeys(_BLANK))
        values = text.cast(pl.Float64, strict=False)
        _refuse(values.is_null() & text.is_not_null(), text, column, path, "a number")
        return values
    if not series.dtype.is_numeric():
        raise DataError(f"{path.name} column {column} holds {series.dtype}", expected="numbers")
    return series.cast(pl.Float64).fill_nan(None)


def instants(frame: pl.DataFrame, column: str, path: Path, zone: str | None) -> pl.Series:
    """Return a column as UTC instants.

    Text is ISO 8601 with or without an offset; whole numbers count s, ms, us or ns since 1970 in UTC.

    Args:
        frame: the file.
        column: its stamps.
        path: for messages.
        zone: of stamps that carry none.

    Raises:
        ConfigError: for stamps without a zone where the spec gives none, or with one where it gives another.
        DataError: for blank, unreadable or mixed stamps, or those of no market: outside the years 2009 to 2199.
    """
    found = _instants(frame, column, path, zone)
    wrong = ~found.is_between(EARLIEST, LATEST, closed="left")
    _refuse(wrong, found.cast(pl.String), column, path, "instants of the years 2009 to 2199")
    return found


def _instants(frame: pl.DataFrame, column: str, path: Path, zone: str | None) -> pl.Series:
    series = frame[column]
    if series.null_count():
        raise DataError(f"{path.name} column {column} has {series.null_count()} rows without a stamp")
    if isinstance(series.dtype, pl.Date | pl.Datetime):
        refuse_wild(series, column, path)
    if series.dtype == pl.Date:
        series = series.cast(pl.Datetime("us"))
    if series.dtype == pl.String:
        series = _parsed(series.str.strip_chars(), column, path)
    if series.dtype.is_numeric():
        return _counted(series, column, path, zone)
    if not isinstance(series.dtype, pl.Datetime):
        raise DataError(f"{path.name} column {column} holds {series.dtype}", expected="time stamps")
    series = series.dt.cast_time_unit("us")
    if series.dtype.time_zone is not None:  # type: ignore[attr-defined]
        return _zoned(series, column, path, zone)
    return _placed(series, column, path, zone)


def refuse_wild(times: pl.Series, column: str, path: Path) -> None:
    """Refuse times far from those of markets before they are cast: beyond 64 bits that wraps around or panics.

    Raises:
        DataError: naming the first by its days since 1970.
    """
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}
    per_day = 86_400 * per_second[times.dtype.time_unit] if isinstance(times.dtype, pl.Datetime) else 1
    days = times.to_physical() // per_day
    first, last = ((end - datetime(1970, 1, 1, tzinfo=UTC)).days for end in (EARLIEST, LATEST))
    wrong = ~days.is_between(first - 1, last + 1)
    _refuse(wrong, days.cast(pl.String) + " days since 1970", column, path, "instants of the years 2009 to 2199")


def _parsed(text: pl.Series, column: str, path: Path) -> pl.Series:
    """Return naive or zoned times, or numbers where the text is whole numbers."""
    digits, zoned = text.str.contains(r"^\d{9,}$"), text.str.contains(_ZONED) & (text.str.len_chars() > 10)
    for share, what in ((digits, "counts since 1970"), (zoned, "stamps with a zone")):
        if share.any() and not share.all():
            row = int((~share).arg_max() or 0)
            raise DataError(
                f"{path.name} column {column} mixes {what} with others", got=f"{text[row]!r} in row {row + 1}"
            )
    if digits.all():
        return text.cast(pl.Int64)
    plain = text.str.replace("T", " ", literal=True)
    if zoned.all():
        plain = plain.str.replace(r" ?Z$", "+0000").str.replace(r" ?([+-]\d{2}):?(\d{2})$", "${1}${2}")
        times = _strptime(plain, ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z"))
    else:
        times = _strptime(plain, ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"))
    _refuse(times.is_null(), text, column, path, "a time like 2024-01-01 00:00:00")
    return times


def _strptime(text: pl.Series, formats: tuple[str, ...]) -> pl.Series:
    """Return the times of the first format that fits most rows; a column has one format."""
    tried = [text.str.to_datetime(form, strict=False, time_unit="us") for form in formats]
    return min(tried, key=lambda times: times.null_count())


def _counted(series: pl.Series, column: str, path: Path, zone: str | None) -> pl.Series:
    if zone not in (None, "UTC"):
        raise ConfigError(f"{path.name} column {column} counts from 1970, which is UTC", got=f"time_zone {zone}",
                          do="remove time_zone")  # fmt: skip
    counts = series.cast(pl.Int64, strict=False)
    low, high = counts.min(), counts.max()
    for factor in (1, 10**3, 10**6, 10**9):
        if (
            isinstance(low, int)
            and isinstance(high, int)
            and _SECONDS * factor // 1000 <= low <= high < _SECONDS * factor
        ):
            micros = counts // (factor // 10**6) if factor >= 10**6 else counts * (10**6 // factor)
            return micros.cast(UTC_TIME)
    raise DataError(f"{path.name} column {column} mixes units of time", expected="one of s, ms, us, ns since 1970",
                    got=f"{low!r} .. {high!r}")  # fmt: skip


def _zoned(series: pl.Series, column: str, path: Path, zone: str | None) -> pl.Series:
    utc = series.dt.convert_time_zone("UTC")
    if zone not in (None, "UTC", series.dtype.time_zone):  # type: ignore[attr-defined]
        raise ConfigError(
            f"{path.name} column {column} carries its own zone", got=f"time_zone {zone}", do="remove time_zone"
        )
    return utc


def _placed(series: pl.Series, column: str, path: Path, zone: str | None) -> pl.Series:
    if zone is None:
        raise ConfigError(f"{path.name} column {column} has stamps without a zone", expected="time_zone in the spec",
                          got=str(series[0]), do="set it, e.g. time_zone: UTC")  # fmt: skip
    place = zone_of(zone)
    if isinstance(place, ZoneInfo):
        local = series.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
        _refuse(local.is_null(), series.cast(pl.String), column, path, f"a time that exists once in {zone}")
        return local.dt.convert_time_zone("UTC")
    minutes = int(place[1:3]) * 60 + int(place[4:])
    offset = timedelta(minutes=minutes if place[0] == "+" else -minutes)
    return (series - offset).dt.replace_time_zone("UTC")


def _refuse(wrong: pl.Series, text: pl.Series, column: str, path: Path, expected: str) -> None:
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"{path.name} column {column}",
            expected=expected,
            got=repr(text[row]),
            do="correct or filter it",
        )
