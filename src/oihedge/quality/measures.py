"""The checked frame: a table's rows plus the measured columns that rules speak of. Pure and quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import polars as pl

from oihedge.core.clock import TIMEFRAMES
from oihedge.core.tables import OHLCV, STAMPS, UTC_TIME, Table, conform
from oihedge.quality import quorum
from oihedge.quality.neighbours import line_ids, move_factors
from oihedge.quality.rules import AHEAD, COPY, HELD_BACK, MOVE, OFFSET, PRICE_MOVE, RIVALS, Between, Rule
from oihedge.quality.settings import Quality

TIMEFRAMES_US: Mapping[str, int] = MappingProxyType(
    {name: step // timedelta(microseconds=1) for name, step in TIMEFRAMES.items()}
)
_LATE, _VALUE = {MOVE, PRICE_MOVE, *quorum.MEASURED}, "__value"


@dataclass(frozen=True)
class Around:
    """What judging a slice needs beside it: `earlier` for jumps, `venues` for the comparison of venues.

    `earlier`: see `neighbours.context_for`. `venues`: raw rows of every venue, see `quorum.compare`.
    """

    earlier: pl.DataFrame | None = None
    venues: pl.DataFrame | None = None


def checked_frame(
    rows: pl.DataFrame, spec: Table, rules: Sequence[Rule], settings: Quality, around: Around
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Return what the rules look at, in the order of `rows`, and what the comparison of venues found.

    Args:
        rows: columns of `spec` and available_at.
        spec: their table.
        rules: the table's rules.
        settings: how far a row may move from its neighbour and from other venues.
        around: earlier and neighbouring rows of the same table.

    Raises:
        SchemaError: if a column is missing or has the wrong type.
    """
    own = [name for name in rows.columns if name in spec.columns or name == "available_at"]
    typed = conform(rows.select(own), spec, stamps=False)
    ingested = rows["ingested_at"] if "ingested_at" in rows.columns else pl.lit(None, dtype=UTC_TIME)
    floats = [name for name, dtype in spec.columns.items() if dtype.is_float()]
    numbers = [pl.col(n).fill_nan(float("inf") if n in spec.nullable else None) for n in floats]
    frame = typed.with_columns(*numbers, ingested_at=ingested).with_columns(_times(spec))
    frame = frame.with_columns(_copies(frame, spec))
    if spec.name not in quorum.VALUES or frame.is_empty():
        return frame.with_columns(pl.lit(None, pl.Float64()).alias(r.column) for r in rules if r.column in _LATE), []
    # A venue that is set aside still moves: what keeps it out is not its neighbours' business.
    plain = [rule.bad.fill_null(False) for rule in rules if rule.column not in _LATE]
    earlier = None if around.earlier is None else _sane(around.earlier, rules)
    sane = frame.with_columns(sane=~pl.any_horizontal(plain))
    most = {rule.column: rule.high for rule in rules if isinstance(rule, Between)}

    def moved(column: str, value: pl.Expr) -> pl.Series:
        told = value.alias(_VALUE)
        before = None if earlier is None else earlier.with_columns(told)
        series = [name for name in spec.key if name != "ts"]
        return move_factors(
            sane.with_columns(told), _VALUE, series, before,
            most=most[column], neighbour_h=settings.neighbour_h, settles=spec.name == OHLCV.name,
        ).alias(column)  # fmt: skip

    moves = [moved(MOVE, pl.col(quorum.VALUES[spec.name]))]
    if PRICE_MOVE in most:
        moves.append(moved(PRICE_MOVE, pl.col("oi_usd") / pl.col("oi_base")))
    measured, found = quorum.compare(frame, spec, settings, around.venues)
    return frame.with_columns(*moves, *measured.get_columns()), found


def _sane(earlier: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """Leave out what the rules about a row's own values keep out: it must not become the level of those after it."""
    frame = earlier.with_columns(pl.col(pl.Float64).fill_nan(None))
    own = [rule for rule in rules if {rule.column, getattr(rule, "other", rule.column)} <= set(frame.columns)]
    return frame.filter(~pl.any_horizontal(pl.lit(False), *(rule.bad.fill_null(False) for rule in own)))


def _times(spec: Table) -> list[pl.Expr]:
    opened, available = pl.col("ts").dt.epoch("us"), pl.col("available_at").dt.epoch("us")
    taken = pl.col("ingested_at").dt.epoch("us")
    if "timeframe" not in spec.columns:
        return [(available - opened).alias(HELD_BACK), (opened - taken).alias(AHEAD)]
    step = pl.col("timeframe").replace_strict(TIMEFRAMES_US, default=None, return_dtype=pl.Int64)
    offset = pl.when(step.is_null() & pl.col("timeframe").is_not_null()).then(-1).otherwise(opened % step)
    return [
        (available - opened - step).alias(HELD_BACK), (opened + step - taken).alias(AHEAD), offset.alias(OFFSET)
    ]  # fmt: skip


def _copies(frame: pl.DataFrame, spec: Table) -> list[pl.Series]:
    """Equal rows: the first is kept. Different rows of one key and instant: nobody knows which is right, so none is.

    Rows of one key that were known at different instants are revisions, and no rivals. Only rows that share key and
    stamps with another are compared: mostly none do.
    """
    line = line_ids(frame, [name for name in spec.key if name != "ts"]).alias("__line")
    shared = frame.select(pl.struct(line, "ts", *STAMPS).is_duplicated()).to_series()
    copy, rivals = pl.zeros(frame.height, pl.Int64, eager=True), pl.ones(frame.height, pl.Int64, eager=True)
    if shared.any():
        some = frame.filter(shared).select(
            pl.int_range(pl.len()).over([*spec.columns, *STAMPS]).alias(COPY),
            pl.struct(list(spec.columns)).n_unique().over([*spec.key, *STAMPS]).cast(pl.Int64).alias(RIVALS),
        )
        at = shared.arg_true()
        copy, rivals = copy.scatter(at, some[COPY]), rivals.scatter(at, some[RIVALS])
    return [copy.alias(COPY), rivals.alias(RIVALS)]
