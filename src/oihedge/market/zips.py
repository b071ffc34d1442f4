"""Many small zipped CSV files read as one frame, each verified, errors told by file."""

from __future__ import annotations

import hashlib
import io
import lzma
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from oihedge.core.clock import EARLIEST, LATEST
from oihedge.core.errors import DataError
from oihedge.core.tables import UTC_TIME

THREADS = 4
_NO_VALUE = ("", "null", "NULL", "NaN", "nan", "None")


@dataclass(frozen=True)
class Zipped:
    """Text rows of several files one after the other; `first_rows` says at which row each file begins."""

    frame: pl.DataFrame
    paths: tuple[Path, ...]
    first_rows: tuple[int, ...]

    def path_of(self, row: int) -> Path:
        """Return the file that row number `row` came from."""
        return self.paths[bisect_right(self.first_rows, row) - 1]

    def per_row(self, told: pl.DataFrame) -> pl.DataFrame:
        """Return, for every row, the row of `told` about its file; `told` has one row a file, in order."""
        firsts = pl.Series(self.first_rows, dtype=pl.Int64)
        return told[firsts.search_sorted(pl.int_range(self.frame.height, eager=True), "right") - 1]

    def numbers(self, *names: str) -> pl.DataFrame:
        """Return columns as floats; blanks are null.

        Raises:
            DataError: naming the file, column and text that is no number.
        """
        texts = self.frame.select(pl.col(name).str.strip_chars() for name in names)
        texts = texts.select(pl.when(~pl.col(name).is_in(_NO_VALUE)).then(pl.col(name)).alias(name) for name in names)
        values = texts.select(pl.col(name).cast(pl.Float64, strict=False) for name in names)
        for name in names:
            self.refuse(name, texts[name], values[name].is_null() & texts[name].is_not_null(), "a number")
        return values

    def instants(self, name: str) -> pl.Series:
        """Return a time column as UTC instants: ISO text, or ms or us since the epoch, told apart by magnitude.

        Raises:
            DataError: naming the file, column and text that is no time.
        """
        texts = self.frame[name].str.strip_chars()
        numbers = texts.cast(pl.Int64, strict=False)
        micro = pl.select(pl.when(numbers < 10**14).then(numbers * 1000).otherwise(numbers).cast(UTC_TIME)).to_series()
        iso = texts.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us").dt.replace_time_zone("UTC")
        time = micro.fill_null(iso) if micro.null_count() else micro
        # a count of seconds or a mere 20240101 would silently become 1970
        wrong = time.is_null() | ~time.is_between(EARLIEST, LATEST, closed="left")
        self.refuse(name, texts, wrong, "a time in ms, us or as 2024-01-01 00:00:00")
        return time.alias(name)

    def refuse(self, name: str, texts: pl.Series, wrong: pl.Series, expected: str) -> None:
        """Refuse the first of `texts` that is wrong.

        Raises:
            DataError: naming its file, column and the text.
        """
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise DataError(f"{self.path_of(row).name} column {name}", expected=expected, got=repr(texts[row]))


_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    ArithmeticError,
)
"""What the zip reader raises for damaged files; text that cannot be decoded is a ValueError."""
_MOST_BYTES = 256 * 2**20
"""A month of 1-minute bars has 5 MB."""


def read_zips(paths: Sequence[Path], columns: Sequence[str], used: int) -> Zipped:
    """Verify and read zipped CSV files, with or without a header line, as text.

    Args:
        paths: zips, each beside its `.CHECKSUM`, each holding the CSV of its own name.
        columns: names of the columns, in order.
        used: on how many of them, from the first, a header line must agree; the others are called by several names.

    Raises:
        DataError: naming the file that is unreadable, has no checksum or another one, holds another file, or has other
            columns.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        bodies = list(pool.map(lambda path: _body(path, columns, used), paths))
    first_rows, rows = [], 0
    for body in bodies:
        first_rows.append(rows)
        rows += body.count(b"\n")
    schema = dict.fromkeys(columns, pl.String())
    joined = b"".join(bodies)
    if not joined:
        return Zipped(pl.DataFrame(schema=schema), tuple(paths), tuple(first_rows))
    try:
        frame = pl.read_csv(io.BytesIO(joined), has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError as error:
        where = f"{paths[0].name} .. {paths[-1].name}"
        raise DataError(f"{where} are no plain CSV: {str(error).splitlines()[0]}") from None
    return Zipped(frame, tuple(paths), tuple(first_rows))


def _body(path: Path, columns: Sequence[str], used: int) -> bytes:
    """Return the verified CSV text without header and blank lines, ending in a newline."""
    try:
        data = path.read_bytes()
        _verify(path, data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise DataError(
                    f"{path.name} is not an archive file", expected="one CSV in it", got=f"{len(names)} files"
                )
            if names[0] != f"{path.stem}.csv":
                raise DataError(
                    f"{path.name} holds another file", expected=f"{path.stem}.csv", got=repr(names[0][:80]),
                    do="download it again",
                )  # fmt: skip
            if archive.getinfo(names[0]).file_size > _MOST_BYTES:
                raise DataError(f"{path.name} is no archive file", expected=f"at most {_MOST_BYTES} bytes of CSV")
            text = archive.read(names[0])
    except _DAMAGED as error:
        raise DataError(f"{path.name} cannot be read: {str(error)[:160]}", do="download it again") from None
    return _plain(path.name, text, columns, used)


def _plain(name: str, text: bytes, columns: Sequence[str], used: int) -> bytes:
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").strip(b"\n")
    head, _, rest = text.partition(b"\n")
    if head[:1].isalpha() or head[:1] == b'"':
        titles = [title.strip().strip('"') for title in head.decode(errors="replace").split(",")]
        if titles[:used] != list(columns[:used]) or len(titles) != len(columns):
            raise DataError(f"{name} has other columns", expected=", ".join(columns), got=", ".join(titles)[:240])
        text = rest
    while b"\n\n" in text:
        text = text.replace(b"\n\n", b"\n")
    text = text + b"\n" if text else b""
    commas = len(columns) - 1
    if text.count(b",") != text.count(b"\n") * commas:
        odd = next((line for line in text.splitlines() if line.count(b",") != commas), b"")
        raise DataError(f"{name} is damaged", expected=f"{len(columns)} columns", got=odd[:80].decode(errors="replace"))
    return text


def _verify(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.CHECKSUM")
    if not beside.is_file():
        raise DataError(f"{path.name} has no checksum beside it", expected=beside.name, do="download both files")
    words = beside.read_text(errors="replace").split()
    got = hashlib.sha256(data).hexdigest()
    if not words or words[0].lower() != got:
        expected = words[0] if words else "a sha256"
        raise DataError(f"{path.name} does not match its checksum", expected=expected, got=got, do="download it again")
