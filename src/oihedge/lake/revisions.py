"""Which rows are new and which row counts: the lake's rules of time, on plain frames.

A row is new when its values differ from what its key was known to have; a changed value becomes a second row, available
from the instant it was written. Reading as of an instant takes, per key, the row with the greatest
(available_at, ingested_at) among those available by then, so later knowledge never shows earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from oihedge.core.errors import SchemaError
from oihedge.core.tables import STAMPS, UTC_TIME, Table, conform

_MOMENT, _FOUND, _WAS = "__moment", "__found", "__was_"
_TICK = timedelta(microseconds=1)
_FEW = 32
"""Up to as many values of a key column are looked for one by one in the stored rows."""


def latest(rows: pl.LazyFrame, key: Sequence[str], as_of: datetime | None = None) -> pl.LazyFrame:
    """Return per key the row that counts at `as_of`, sorted by key.

    Args:
        rows: all revisions, with both stamps.
        key: columns that name a row; never null.
        as_of: only rows with available_at <= as_of count; None means all of them.
    """
    known = rows if as_of is None else rows.filter(pl.col("available_at") <= as_of)
    said = []
    if "filled" in rows.collect_schema():
        # Where we drew a row between two others, what was there by then counts first, and of that what a source said.
        there = [] if as_of is None else [pl.col("ingested_at") <= as_of]
        said = [*there, ~pl.col("filled").fill_null(False)]
    return known.sort(*key, *said, *STAMPS).filter(_last_of(key))


def _last_of(key: Sequence[str]) -> pl.Expr:
    """Tell whether a row is the last of its key, in a frame sorted by it."""
    return pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(-1)) for name in key)


def one_batch(rows: pl.DataFrame, spec: Table, now: datetime, *, strict: bool, mirrored: bool = False) -> pl.DataFrame:
    """Return `rows` ready to be compared: typed, stamped, one row per key; of mirrored rows one per key and stamps.

    A key that comes twice keeps the row with the greatest available_at, of equal ones the last in the frame.

    Args:
        rows: columns of `spec`; `ingested_at` may be absent and becomes `now`.
        spec: the table.
        now: the ingestion instant.
        strict: whether every column that is not nullable must have a value, or only the key and the stamps.
        mirrored: whether the rows copy another layer's, all revisions with their stamps.

    Raises:
        SchemaError: for a missing column, a wrong type or a missing value, naming the column.
    """
    if "ingested_at" not in rows.columns:
        rows = rows.with_columns(ingested_at=pl.lit(now, dtype=UTC_TIME))
    typed = _storable(conform(rows, spec), spec)
    required = [n for n in spec.schema if n not in spec.nullable] if strict else [*spec.key, *STAMPS]
    for name in required:
        if empty := typed[name].null_count():
            raise SchemaError(
                f"{spec.name}.{name} is missing in {empty} of {typed.height} rows", expected="a value in every row"
            )
    key = (*spec.key, *STAMPS) if mirrored else spec.key
    if _rises(typed, key):
        return typed
    return typed.sort(*key, "available_at", maintain_order=True).filter(_last_of(key))


def _rises(rows: pl.DataFrame, key: Sequence[str]) -> bool:
    """Tell whether each key is greater than the one before: most batches come so, and no key can then come twice."""
    above = pl.lit(False)
    for name in reversed(key):
        before = pl.col(name).shift()
        above = (pl.col(name) > before) | ((pl.col(name) == before) & above)
    return bool(rows.select(above.slice(1).all()).item())


def _storable(rows: pl.DataFrame, spec: Table) -> pl.DataFrame:
    casts = {name: kept for name, dtype in rows.schema.items() if (kept := _kept_as(dtype, spec.name, name)) != dtype}
    return _cast(rows, casts, spec.name) if casts else rows


def _kept_as(dtype: pl.DataType, table: str, name: str) -> pl.DataType:
    if dtype.is_unsigned_integer():
        return pl.Int64()
    if isinstance(dtype, pl.Null):
        return pl.Float64()
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    if dtype.is_numeric() or dtype in (pl.String(), pl.Boolean(), pl.Date(), UTC_TIME):
        return dtype
    raise SchemaError(
        f"{table}.{name} has a type the lake does not keep",
        expected="numbers, text, booleans, dates or UTC time stamps",
        got=str(dtype),
    )


def _cast(rows: pl.DataFrame, casts: Mapping[str, pl.DataType], table: str) -> pl.DataFrame:
    """Cast the columns, refusing to lose anything on the way (Polars would cut 1.5 to 1 silently)."""
    for name, dtype in casts.items():
        before = rows[name]
        try:
            after = before.cast(dtype)
            lost = after.cast(before.dtype).ne_missing(before).any()
        except pl.exceptions.PolarsError:
            lost = True
        if lost:
            raise SchemaError(
                f"{table}.{name} does not fit the stored column", expected=str(dtype), got=str(before.dtype)
            )
        rows = rows.with_columns(after)
    return rows


def align(rows: pl.DataFrame, stored: pl.Schema, spec: Table) -> pl.DataFrame:
    """Return `rows` with the columns of the stored table first, in their stored types; absent ones are null.

    Raises:
        SchemaError: if a column cannot take the stored type without loss.
    """
    casts = {n: dtype for n, dtype in rows.schema.items() if n in stored and stored[n] != dtype}
    rows = _cast(rows, {name: stored[name] for name in casts}, spec.name)
    absent = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in stored.items() if name not in rows.columns]
    new = [name for name in rows.columns if name not in stored]
    return rows.with_columns(absent).select(*stored, *new)


def unseen(incoming: pl.DataFrame, stored: pl.LazyFrame, spec: Table) -> pl.DataFrame:
    """Return the mirrored rows that the table does not hold under their key and stamps, as they came.

    Values are not compared: the copy must say at every instant what its original says, also where a value comes back.
    """
    near, _ = _near(stored, incoming, spec)
    identity = [*spec.key, *STAMPS]
    return incoming.join(near.select(identity).collect(), on=identity, how="anti", maintain_order="left")


def changes(incoming: pl.DataFrame, stored: pl.LazyFrame, spec: Table, now: datetime) -> pl.DataFrame:
    """Return the rows of `incoming` that say something the table did not know, stamped as they must be written.

    Each row is compared with what its key was known to have at `now` (at its own available_at where that is later):
    looking at the newest row instead would make a run at an earlier instant write the same revision again and again.
    Missing equals missing and NaN equals NaN.

    Args:
        incoming: what `one_batch` returned, aligned with `stored`.
        stored: every revision of at least the keys of `incoming`; may lack columns that `incoming` has.
        spec: the table.
        now: the ingestion instant.

    Returns:
        New keys as they came; revisions with available_at = ingested_at = now. Where a key is revised twice at one
        instant, ingested_at moves on by a microsecond, so that the later word still counts.
    """
    stored, key = _near(stored, incoming, spec)
    asked = incoming.with_columns(pl.max_horizontal("available_at", pl.lit(now, dtype=UTC_TIME)).alias(_MOMENT))
    past = stored.join(asked.lazy().select(*key, _MOMENT), on=key, how="inner")
    known = latest(past.filter(pl.col("available_at") <= pl.col(_MOMENT)).drop(_MOMENT), key).collect()
    if known.is_empty():
        return incoming
    columns = [name for name in known.columns if name not in spec.key]
    before = known.select(*key, pl.col(columns).name.prefix(_WAS), pl.lit(True).alias(_FOUND))
    joined = asked.join(before, on=key, how="left", maintain_order="left")
    values = [name for name in incoming.columns if name not in spec.key and name not in STAMPS]
    differs = [
        pl.col(n).ne_missing(pl.col(_WAS + n)) if _WAS + n in joined.columns else pl.col(n).is_not_null()
        for n in values
    ]
    found, changed = pl.col(_FOUND).is_not_null(), pl.any_horizontal(pl.lit(False), *differs)
    return joined.filter(~found | changed).with_columns(_stamps(found, now)).select(incoming.columns)


def _near(stored: pl.LazyFrame, batch: pl.DataFrame, spec: Table) -> tuple[pl.LazyFrame, list[str]]:
    """Keep the stored rows that can share a key with the batch, and name the key columns that vary within it.

    An hourly append so reads an hour, a backfill of one series that series; and a join by ts alone is the quicker one.
    """
    wanted, varying = [], []
    for name in spec.key:
        values = batch[name].unique()
        if values.len() <= _FEW:
            wanted.append(pl.col(name) == values[0] if values.len() == 1 else pl.col(name).is_in(values.implode()))
        elif values.dtype == UTC_TIME:
            wanted.append(pl.col(name).is_between(values.min(), values.max()))
        if values.len() > 1:
            varying.append(name)
    return stored.filter(*wanted), varying or [spec.key[-1]]


def _stamps(found: pl.Expr, now: datetime) -> list[pl.Expr]:
    was, written = pl.col(_WAS + "available_at"), pl.lit(now, dtype=UTC_TIME)
    after_tie = pl.max_horizontal(written, pl.col(_WAS + "ingested_at") + _TICK)
    taken = pl.when(was == pl.col(_MOMENT)).then(after_tie).otherwise(written)
    return [
        pl.when(found).then(_MOMENT).otherwise("available_at").alias("available_at"),
        pl.when(found).then(taken).otherwise("ingested_at").alias("ingested_at"),
    ]
