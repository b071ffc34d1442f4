"""What a lake holds, counted."""

from __future__ import annotations

import polars as pl

from oihedge.core.tables import UTC_TIME, Table

INVENTORY = pl.Schema(
    {
        "layer": pl.String(), "table": pl.String(), "venue": pl.String(), "symbol": pl.String(), "rows": pl.Int64(),
        "first_ts": UTC_TIME, "last_ts": UTC_TIME,
    }
)  # fmt: skip


def time_column(spec: Table) -> str:
    """Return the column that says when a row of the table was."""
    return "ts" if "ts" in spec.columns else "as_of"


def count(rows: pl.LazyFrame, layer: str, spec: Table) -> pl.DataFrame:
    """Count one table's rows by venue and symbol (the asset where it has no symbol), in the columns of INVENTORY."""
    symbol, when = next((name for name in ("symbol", "asset") if name in spec.columns), None), pl.col(time_column(spec))
    by = {
        "venue": pl.col("venue") if "venue" in spec.columns else pl.lit(None, pl.String()),
        "symbol": pl.col(symbol) if symbol else pl.lit(None, pl.String()),
    }
    counted = rows.with_columns(**by).group_by("venue", "symbol").agg(
        rows=pl.len().cast(pl.Int64), first_ts=when.min(), last_ts=when.max()
    )  # fmt: skip
    return counted.with_columns(layer=pl.lit(layer), table=pl.lit(spec.name)).select(INVENTORY.names()).collect()
