"""The checked frame: a table's rows plus the measured columns that rules speak of. Pure and quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import polars as pl

from oihedge.core.tables import OHLCV, OPEN_INTEREST, STAMPS, UTC_TIME, Table, conform
from oihedge.quality.neighbours import move_factors
from oihedge.quality.rules import COPY, HELD_BACK, MOVE, OFFSET, RIVALS, Between, Rule
from oihedge.quality.settings import Quality

MINUTE_US = 60_000_000
TIMEFRAMES_US: Mapping[str, int] = MappingProxyType(
    {"1m": MINUTE_US, "5m": 5 * MINUTE_US, "15m": 15 * MINUTE_US, "30m": 30 * MINUTE_US, "1h": 60 * MINUTE_US,
     "4h": 240 * MINUTE_US, "1d": 1440 * MINUTE_US}
)  # fmt: skip
_MOVING: Mapping[str, str] = MappingProxyType({OHLCV.name: "close", OPEN_INTEREST.name: "oi_base"})


def checked_frame(
    rows: pl.DataFrame, spec: Table, rules: Sequence[Rule], settings: Quality, context: pl.DataFrame | None
) -> pl.DataFrame:
    """Return what the rules look at, in the order of `rows`.

    Args:
        rows: columns of `spec` and available_at.
        spec: their table.
        rules: the table's rules.
        settings: how far a row may move from its neighbour.
        context: earlier rows of the same table, see `neighbours.context_for`.

    Raises:
        SchemaError: if a column is missing or has the wrong type.
    """
    own = [name for name in rows.columns if name in spec.columns or name == "available_at"]
    typed = conform(rows.select(own), spec, stamps=False)
    ingested = rows["ingested_at"] if "ingested_at" in rows.columns else pl.lit(None, dtype=UTC_TIME)
    floats = [name for name, dtype in spec.columns.items() if dtype.is_float()]
    numbers = [pl.col(n).fill_nan(float("inf") if n in spec.nullable else None) for n in floats]
    frame = typed.with_columns(*numbers, ingested_at=ingested).with_columns(_times(spec)).with_columns(_copies(spec))
    if spec.name not in _MOVING:
        return frame
    plain = [rule.bad.fill_null(False) for rule in rules if not (isinstance(rule, Between) and rule.column == MOVE)]
    most = next(rule.high for rule in rules if isinstance(rule, Between) and rule.column == MOVE)
    moves = move_factors(
        frame.with_columns(sane=~pl.any_horizontal(plain)),
        _MOVING[spec.name],
        [name for name in spec.key if name != "ts"],
        context,
        most=most,
        neighbour_h=settings.neighbour_h,
    )
    return frame.with_columns(moves.alias(MOVE))


def _times(spec: Table) -> list[pl.Expr]:
    opened, available = pl.col("ts").dt.epoch("us"), pl.col("available_at").dt.epoch("us")
    if spec.name != OHLCV.name:
        return [(available - opened).alias(HELD_BACK)]
    step = pl.col("timeframe").replace_strict(TIMEFRAMES_US, default=None, return_dtype=pl.Int64)
    offset = pl.when(step.is_null() & pl.col("timeframe").is_not_null()).then(-1).otherwise(opened % step)
    return [(available - opened - step).alias(HELD_BACK), offset.alias(OFFSET)]


def _copies(spec: Table) -> list[pl.Expr]:
    """Equal rows: the first is kept. Different rows of one key and instant: nobody knows which is right, so none is.

    Rows of one key that were known at different instants are revisions, and no rivals.
    """
    content = pl.struct(list(spec.columns))
    return [
        pl.int_range(pl.len()).over([*spec.columns, *STAMPS]).alias(COPY),
        content.n_unique().over([*spec.key, *STAMPS]).cast(pl.Int64).alias(RIVALS),
    ]
