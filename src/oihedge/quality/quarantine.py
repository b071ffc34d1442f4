"""Bad rows as rows of the quarantine table: whole, with their reason, and found again under the same key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from oihedge.core.errors import DataError
from oihedge.core.tables import EVENTS, QUARANTINE, UTC_TIME, Table
from oihedge.core.tables import table as table_named

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_SOURCE_DIGITS = 12


def quarantine_rows(table: str, bad: pl.DataFrame) -> pl.DataFrame:
    """Return `bad` as quarantine rows, without ingested_at.

    Args:
        table: the table they were kept out of.
        bad: its rows with `reason`, as `judge` returns them.

    Returns:
        One row per row of `bad`: payload is the whole row as JSON (NaN and infinities as text) and payload_hash its
        sha256; source_key names the row by its key and content, so that judging it again adds nothing; available_at is
        never before ts.
    """
    spec = table_named(table)
    known = [pl.col("available_at")] if spec is EVENTS else [pl.col("ts"), pl.col("available_at")]
    payload = _json([name for name in bad.columns if name != "reason"], bad, spec)
    rows = bad.select(
        pl.lit(table).alias("table"),
        source_keys(table, bad).alias("source_key"),
        "reason",
        *places(spec),
        payload.alias("payload"),
        pl.max_horizontal(known).fill_null(pl.lit(_NEVER, dtype=UTC_TIME)).alias("available_at"),
    )
    hashes = pl.Series("payload_hash", _sha256(rows["payload"]), dtype=pl.String)
    return rows.with_columns(hashes).select(
        pl.col(name).cast(dtype) if name in rows.columns or name == "payload_hash" else pl.lit(None, dtype).alias(name)
        for name, dtype in {**QUARANTINE.columns, "available_at": UTC_TIME}.items()
    )


def source_keys(table: str, rows: pl.DataFrame) -> pl.Series:
    """Name every row by its key and content, whenever it was taken; the second of two equal rows ends with `~2`."""
    spec = table_named(table)
    content = rows.select(
        _json([n for n in rows.columns if n not in ("ingested_at", "reason")], rows, spec)
    ).to_series()
    digest = pl.Series([text[:_SOURCE_DIGITS] for text in _sha256(content)], dtype=pl.String)
    named = rows.select(source=pl.concat_str(key_text(spec, rows), pl.lit("#"), digest))
    again = pl.int_range(1, pl.len() + 1).over("source")
    told = pl.when(again > 1).then(pl.concat_str("source", pl.lit("~"), again.cast(pl.String))).otherwise("source")
    return named.select(told.alias("source_key")).to_series()


def key_text(spec: Table, rows: pl.DataFrame) -> pl.Expr:
    """Write the key of a table's rows as the beginning of their source_key."""
    key = [_text(name, rows.schema[name]).fill_null("None") for name in spec.key]
    return pl.concat_str(key, separator="|")


def keys_held(held: pl.LazyFrame) -> pl.LazyFrame:
    """Return the `key` of every quarantine row, as `key_text` writes it."""
    return held.select(key=pl.col("source_key").str.replace(r"#[0-9a-f]+(~\d+)?$", ""))


def places(spec: Table) -> list[pl.Expr]:
    """Return venue, symbol and ts of a table's rows: its source, asset or name stand in where it has none."""
    venue = "venue" if "venue" in spec.columns else "source"
    symbol = next(name for name in ("symbol", "asset", "name") if name in spec.columns)
    return [pl.col(venue).alias("venue"), pl.col(symbol).alias("symbol"), pl.col("ts")]


def row_of(table: str, payload: str) -> pl.DataFrame:
    """Return the row that a payload holds, with its stamps, as one row of its table.

    Raises:
        DataError: if a value that the table requires is missing or no finite number, naming it.
    """
    spec, held = table_named(table), json.loads(payload)
    values = {name: _value(held.get(name), dtype) for name, dtype in spec.schema.items()}
    lost = [name for name in spec.columns if values[name] is None and name not in spec.nullable]
    if lost:
        raise DataError(
            f"the {table} row has no {lost[0]}", expected="a value in every required column", got=str(held.get(lost[0]))
        )
    return pl.DataFrame([values], schema=spec.schema, orient="row")


def _value(value: object, dtype: pl.DataType) -> object:
    if dtype == UTC_TIME and isinstance(value, str):
        return datetime.fromisoformat(value)
    if dtype.is_float() and isinstance(value, str):
        return None  # nan, inf: nothing that a table takes
    return value


def _sha256(texts: pl.Series) -> list[str]:
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts.to_list()]


def _json(names: Sequence[str], rows: pl.DataFrame, spec: Table) -> pl.Expr:
    """Write the columns as one JSON object with sorted names; an optional column that is null is left out."""
    pieces = []
    for name in sorted(names):
        piece = pl.concat_str(pl.lit(json.dumps(name) + ":"), _quoted(name, rows.schema[name]))
        pieces.append(pl.when(pl.col(name).is_not_null()).then(piece) if name in spec.optional else piece)
    return pl.concat_str(pl.lit("{"), pl.concat_str(pieces, separator=",", ignore_nulls=True), pl.lit("}"))


def _quoted(name: str, dtype: pl.DataType) -> pl.Expr:
    text = _text(name, dtype)
    if dtype.is_float():
        written = pl.when(pl.col(name).is_finite()).then(text).otherwise(pl.concat_str(pl.lit('"'), text, pl.lit('"')))
    elif dtype.is_numeric() or dtype == pl.Boolean:
        written = text
    else:
        whole = pl.struct(text.alias("a")).struct.json_encode()
        written = whole.str.slice(len('{"a":'), whole.str.len_chars() - len('{"a":}'))
    return pl.when(pl.col(name).is_null()).then(pl.lit("null")).otherwise(written)


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Write one column as text: instants as `2025-01-01T00:00:00Z`, microseconds only where there are some."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        plain, precise = (column.dt.strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z") for fraction in ("", "%.6f"))
        return pl.when(column.dt.microsecond() == 0).then(plain).otherwise(precise)
    if dtype.is_float():
        return pl.when(column.is_nan()).then(pl.lit("nan")).otherwise(column.cast(pl.String))
    return column.cast(pl.String)
