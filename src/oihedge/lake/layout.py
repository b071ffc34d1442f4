"""How a large table lies on disk: a folder for each month, so that a day's read opens that month's files alone.

Measured on 5 million hourly bars: a day is read several times faster than from one heap of files or from a folder for
each venue, one series over five years more slowly. An hourly append still writes one file, where folders by venue cost
one for each venue.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from deltalake import DeltaTable

from oihedge.core.tables import Table

MONTH = "month"
"""The column that Delta keeps in folder names; readers never see it. Tables made before it came have none."""
SMALL = 48 * 1024 * 1024
"""Bytes below which two files of a folder can become one (Delta merges up to 100 MB)."""
LARGE_TABLES = frozenset({"ohlcv", "open_interest", "depth", "long_short", "liquidations", "option_chain"})


def parts_of(layer: str, spec: Table) -> list[str]:
    """Return the columns by which a new table of that layer is laid out in folders."""
    return [MONTH] if layer != "derived" and spec.name in LARGE_TABLES else []


def with_parts(rows: pl.DataFrame, parts: Sequence[str]) -> pl.DataFrame:
    """Return `rows` with the month of their ts, where the table is laid out by it."""
    return (
        rows.with_columns((pl.col("ts").dt.year() * 100 + pl.col("ts").dt.month()).alias(MONTH))
        if MONTH in parts
        else rows
    )


def crowded(table: DeltaTable, limit: int) -> list[tuple[str, str, list[str]]] | None:
    """Return which folders hold more than `limit` small files, as Delta's partition filter; None where none does."""
    files = pl.DataFrame(table.get_add_actions(flatten=True)).filter(pl.col("size_bytes") < SMALL)
    folder = f"partition.{MONTH}"
    if folder not in files.columns:
        return [] if files.height > limit else None
    many = files.group_by(folder).len().filter(pl.col("len") > limit)[folder].cast(pl.String).sort().to_list()
    return [(MONTH, "in", many)] if many else None
