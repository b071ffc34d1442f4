"""The tables of the lake: their columns, types, units and keys.

Every row carries `available_at` (when a live run could first have known it) and `ingested_at` (when we did).
`ts` is a bar's OPEN time in `ohlcv`, the snapshot instant in `open_interest`, the payment instant in `funding`, and the
instant described in `features` (bars with open <= ts - 1 h, snapshots and payments <= ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import polars as pl

from oihedge.core.errors import DataError, SchemaError

UTC_TIME = pl.Datetime("us", "UTC")
STAMPS: Mapping[str, pl.DataType] = MappingProxyType({"available_at": UTC_TIME, "ingested_at": UTC_TIME})


@dataclass(frozen=True)
class Table:
    """One table: `key` names a row, `columns` are name to Polars type without the two stamps.

    `nullable` lists the value columns that may be missing; `open` tables take further columns of their own.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, pl.DataType]
    nullable: frozenset[str] = frozenset()
    open: bool = False

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Return every declared column, stamps included."""
        return {**self.columns, **STAMPS}

    @property
    def values(self) -> tuple[str, ...]:
        """Return the columns that are neither key nor stamp."""
        return tuple(name for name in self.columns if name not in self.key)


def _table(name: str, key: str, columns: dict[str, pl.DataType], nullable: str = "", *, open: bool = False) -> Table:  # noqa: A002
    return Table(name, tuple(key.split()), MappingProxyType(columns), frozenset(nullable.split()), open)


_MARKET: dict[str, pl.DataType] = {"venue": pl.String(), "symbol": pl.String(), "asset": pl.String()}
_F, _S = pl.Float64(), pl.String()

OHLCV = _table(
    "ohlcv", "venue symbol kind timeframe ts",
    {**_MARKET, "kind": _S, "timeframe": _S, "ts": UTC_TIME,
     "open": _F, "high": _F, "low": _F, "close": _F, "volume": _F},
    "volume",
)  # fmt: skip
"""kind: spot|perp|mark|index; timeframe: 1h, 5m ...; prices in quote, volume in base units."""
OPEN_INTEREST = _table(
    "open_interest", "venue symbol ts",
    {**_MARKET, "ts": UTC_TIME, "oi_base": _F, "oi_usd": _F, "unit_source": _S}, "oi_usd",
)  # fmt: skip
"""oi_base in coins, oi_usd in USD at the mark price of that instant; unit_source tells what the source sent."""
FUNDING = _table("funding", "venue symbol ts", {**_MARKET, "ts": UTC_TIME, "rate": _F, "interval_h": _F})
"""rate per own interval of interval_h hours; > 0: longs pay shorts."""
QUARANTINE = _table(
    "quarantine", "table source_key reason",
    {"table": _S, "source_key": _S, "reason": _S, "venue": _S, "symbol": _S, "ts": UTC_TIME, "payload": _S},
    "venue symbol ts",
)  # fmt: skip
"""Rows kept out of validated tables, whole (payload is the row as JSON), with the reason."""
FEATURES = _table("features", "spec asset ts", {"spec": _S, "asset": _S, "ts": UTC_TIME}, open=True)
"""One row per asset and hour; spec is the digest of the feature settings, whose columns features.columns() lists."""
FORECASTS = _table(
    "forecasts",
    "model asset ts",
    {"model": _S, "asset": _S, "ts": UTC_TIME, "p_unwind": _F, "p_unwind_base": _F},
    "p_unwind p_unwind_base",
)
"""What a model (name/version) said about one asset at ts when a decision asked it."""
DECISION_INPUTS = _table("decision_inputs", "decision_id", {"decision_id": _S, "as_of": UTC_TIME, "inputs": _S})
"""What a decision is made from (settings, versions, positions, markets, model, tier state); written before it."""
DECISIONS = _table(
    "decisions", "decision_id",
    {"decision_id": _S, "portfolio": _S, "as_of": UTC_TIME, "status": _S, "payload": _S, "state": _S},
)  # fmt: skip
"""payload: the decision file's bytes as text; state: where each asset's tier machine stands after it, as JSON."""

TABLES: Mapping[str, Table] = MappingProxyType(
    {t.name: t for t in (OHLCV, OPEN_INTEREST, FUNDING, QUARANTINE, FEATURES, FORECASTS, DECISION_INPUTS, DECISIONS)}
)
MARKET_TABLES: tuple[Table, ...] = (OHLCV, OPEN_INTEREST, FUNDING)


def table(name: str) -> Table:
    """Return the table called `name`.

    Raises:
        DataError: if there is none.
    """
    if name not in TABLES:
        raise DataError(f"unknown table {name!r}", expected=", ".join(TABLES))
    return TABLES[name]


def conform(frame: pl.DataFrame, spec: Table, *, stamps: bool = True) -> pl.DataFrame:
    """Return `frame` with exactly the columns of `spec`, in order and cast to their types.

    Args:
        frame: any rows; naive time stamps are refused, zones are converted to UTC.
        stamps: whether `available_at` and `ingested_at` must be there too.

    Raises:
        SchemaError: naming the missing column, the naive time stamp or the column that cannot be cast.
    """
    wanted = spec.schema if stamps else {**spec.columns, "available_at": UTC_TIME}
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"{spec.name} rows lack column {missing[0]!r}", expected=", ".join(wanted), got=", ".join(frame.columns)
        )
    for name, dtype in wanted.items():
        have = frame.schema[name]
        if dtype == UTC_TIME and isinstance(have, pl.Datetime) and have.time_zone is None and frame.height:
            raise SchemaError(f"{spec.name}.{name} has no time zone", expected="UTC time stamps", got=str(have))
    extra = [pl.col(name) for name in frame.columns if spec.open and name not in {**spec.schema}]
    try:
        return frame.select([pl.col(name).cast(dtype) for name, dtype in wanted.items()] + extra)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise SchemaError(f"{spec.name} rows do not fit their types: {str(error).splitlines()[0]}") from error
