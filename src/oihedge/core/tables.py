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

    `nullable` lists the value columns that may be missing, `optional` those of them that a frame need not even have;
    `open` tables take further columns of their own.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, pl.DataType]
    nullable: frozenset[str] = frozenset()
    open: bool = False
    optional: frozenset[str] = frozenset()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Return every declared column, stamps included."""
        return {**self.columns, **STAMPS}

    @property
    def values(self) -> tuple[str, ...]:
        """Return the columns that are neither key nor stamp."""
        return tuple(name for name in self.columns if name not in self.key)


def _table(
    name: str,
    key: str,
    columns: dict[str, pl.DataType],
    nullable: str = "",
    *,
    optional: str = "",
    open: bool = False,  # noqa: A002
) -> Table:
    absent = frozenset(optional.split())
    return Table(
        name, tuple(key.split()), MappingProxyType(columns), frozenset(nullable.split()) | absent, open, absent
    )


_MARKET: dict[str, pl.DataType] = {"venue": pl.String(), "symbol": pl.String(), "asset": pl.String()}
_F, _S, _B = pl.Float64(), pl.String(), pl.Boolean()

OHLCV = _table(
    "ohlcv", "venue symbol kind timeframe ts",
    {**_MARKET, "kind": _S, "timeframe": _S, "ts": UTC_TIME,
     "open": _F, "high": _F, "low": _F, "close": _F, "volume": _F, "filled": _B},
    "volume", optional="filled",
)  # fmt: skip
"""kind: spot|perp|mark|index, or premium (1 + the venue's premium index: 1.0003 is 0.03 % above); timeframe: 1h, 1m
...; prices in quote, volume in base units. Here and below, `filled` is true where no venue sent the row and it was
interpolated between its neighbours; it is available when the later one is.
"""
OPEN_INTEREST = _table(
    "open_interest", "venue symbol ts",
    {**_MARKET, "ts": UTC_TIME, "oi_base": _F, "oi_usd": _F, "unit_source": _S, "filled": _B}, "oi_usd",
    optional="filled",
)  # fmt: skip
"""oi_base in coins, oi_usd in USD at the mark price of that instant; unit_source tells what the source sent."""
FUNDING = _table("funding", "venue symbol ts", {**_MARKET, "ts": UTC_TIME, "rate": _F, "interval_h": _F})
"""rate per own interval of interval_h hours; > 0: longs pay shorts."""
FUNDING_NOW = _table(
    "funding_now", "venue symbol ts",
    {**_MARKET, "ts": UTC_TIME, "rate": _F, "interval_h": _F, "pays_at": UTC_TIME, "mark_price": _F, "index_price": _F},
    "interval_h pays_at mark_price index_price",
)  # fmt: skip
"""What the venue quoted at ts for its next payment, which may still change until pays_at."""
DEPTH = _table(
    "depth", "venue symbol ts",
    {**_MARKET, "kind": _S, "ts": UTC_TIME, "bid": _F, "ask": _F, "bid_usd_10": _F, "ask_usd_10": _F, "bid_usd_50": _F,
     "ask_usd_50": _F},
    "bid_usd_10 ask_usd_10 bid_usd_50 ask_usd_50",
)  # fmt: skip
"""Best prices at ts, and what rests within 10 and 50 basis points of the middle, in quote money; null where the book
that the venue sent ends before that."""
LONG_SHORT = _table(
    "long_short", "venue symbol measure ts",
    {**_MARKET, "measure": _S, "ts": UTC_TIME, "ratio": _F},
)  # fmt: skip
"""Longs over shorts; measure: accounts | top_accounts | top_positions | taker_volume."""
LIQUIDATIONS = _table(
    "liquidations", "venue symbol timeframe ts",
    {**_MARKET, "timeframe": _S, "ts": UTC_TIME, "long_usd": _F, "short_usd": _F},
)  # fmt: skip
"""Positions closed by force in [ts, ts + timeframe): long_usd were longs (sold), whatever side the venue writes."""
IMPLIED_VOL = _table(
    "implied_vol", "venue symbol timeframe ts",
    {**_MARKET, "timeframe": _S, "ts": UTC_TIME, "open": _F, "high": _F, "low": _F, "close": _F},
)  # fmt: skip
"""A volatility index (Deribit's DVOL, 30 days ahead) as annual shares: 0.55 is 55 %."""
OPTION_CHAIN = _table(
    "option_chain", "venue symbol ts",
    {**_MARKET, "ts": UTC_TIME, "expiry": UTC_TIME, "strike": _F, "option_type": _S, "mark_price": _F, "mark_iv": _F,
     "delta": _F, "gamma": _F, "vega": _F, "theta": _F, "oi_base": _F, "underlying_price": _F},
    "mark_price mark_iv delta gamma vega theta oi_base underlying_price",
)  # fmt: skip
"""One option at ts: option_type call|put, mark_price in coins, mark_iv as an annual share."""
ONCHAIN = _table(
    "onchain", "source asset metric ts",
    {"source": _S, "asset": _S, "metric": _S, "ts": UTC_TIME, "value": _F, "unit": _S}, "unit",
)  # fmt: skip
SENTIMENT = _table(
    "sentiment", "source asset metric ts",
    {"source": _S, "asset": _S, "metric": _S, "ts": UTC_TIME, "value": _F, "unit": _S}, "unit",
)  # fmt: skip
"""asset: '*' where it speaks of the whole market."""
EVENTS = _table(
    "events", "source name ts", {"source": _S, "name": _S, "ts": UTC_TIME, "importance": pl.Int64()},
)  # fmt: skip
"""A dated event; available_at is when its date was published, long before ts. importance: 1 low to 3 high,
0 withdrawn."""
MEASURES = ("accounts", "top_accounts", "top_positions", "taker_volume")
"""What long_short ratios compare."""
QUARANTINE = _table(
    "quarantine", "table source_key reason",
    {"table": _S, "source_key": _S, "reason": _S, "venue": _S, "symbol": _S, "ts": UTC_TIME, "payload": _S,
     "payload_hash": _S, "released_at": UTC_TIME, "release_reason": _S},
    "venue symbol ts payload_hash", optional="released_at release_reason",
)  # fmt: skip
"""Rows kept out of validated tables, whole (payload is the row as JSON, payload_hash its sha256), with the reason; a
release is a revision that says when and why. venue and symbol are source and asset or name where a table has those.
"""
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
BACKFILLED = _table(
    "backfilled", "settings venue kind table ts", {"settings": _S, "venue": _S, "kind": _S, "table": _S, "ts": UTC_TIME}
)
"""The UTC days (ts is their midnight) that a backfill has finished for a venue's table, where settings is a digest of
what decides their rows; and those on which a source beside the venues was read in full, where settings is "source"."""
IMPORTED_FILES = _table(
    "imported_files", "sha256 file table", {"sha256": _S, "file": _S, "table": _S, "rows": pl.Int64(), "ts": UTC_TIME},
    "rows ts",
)  # fmt: skip
"""The files that imports read: their content's sha256, their path below the folder that was named, and how many rows of
the table lay in what each covers, the first at ts (null where the reader tells no row's file)."""

MARKET_TABLES: tuple[Table, ...] = (OHLCV, OPEN_INTEREST, FUNDING)
"""What features and decisions are made from."""
VENUE_TABLES: tuple[Table, ...] = (
    *MARKET_TABLES, FUNDING_NOW, DEPTH, LONG_SHORT, LIQUIDATIONS, IMPLIED_VOL, OPTION_CHAIN
)  # fmt: skip
"""Everything that venues are asked for."""
INPUT_TABLES: tuple[Table, ...] = (ONCHAIN, SENTIMENT, EVENTS)
"""What other sources are asked for."""
RAW_TABLES: tuple[Table, ...] = (*VENUE_TABLES, *INPUT_TABLES)
_DERIVED = (QUARANTINE, FEATURES, FORECASTS, DECISION_INPUTS, DECISIONS, BACKFILLED, IMPORTED_FILES)
TABLES: Mapping[str, Table] = MappingProxyType({t.name: t for t in (*RAW_TABLES, *_DERIVED)})


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
    absent = [name for name in wanted if name in spec.optional and name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, dtype=wanted[name]).alias(name) for name in absent)
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
