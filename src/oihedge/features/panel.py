"""One asset's inputs side by side on a complete hourly grid, each only as it stood at the row's instant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from oihedge.core.clock import HOUR
from oihedge.core.errors import SchemaError
from oihedge.core.tables import MARKET_TABLES, UTC_TIME, Table
from oihedge.features.settings import Features

SEEN = "_seen"
_INSTANT_BEFORE = timedelta(microseconds=1)


def oi_column(venue: str) -> str:
    """Name the panel's column of a venue's open interest in coins."""
    return f"_oi_{venue}"


def funding_column(venue: str) -> str:
    """Name the panel's column of a venue's funding rate per hour."""
    return f"_funding_{venue}"


def inputs(tables: Mapping[str, pl.LazyFrame]) -> dict[str, pl.LazyFrame]:
    """Return the three market tables, an absent one as an empty frame.

    Raises:
        SchemaError: naming a column that a table lacks.
    """
    return {spec.name: _input(tables, spec) for spec in MARKET_TABLES}


def _input(tables: Mapping[str, pl.LazyFrame], spec: Table) -> pl.LazyFrame:
    wanted = {name: dtype for name, dtype in spec.columns.items() if name not in spec.optional}
    wanted["available_at"] = UTC_TIME
    if spec.name not in tables:
        return pl.LazyFrame(schema=wanted)
    have = tables[spec.name].collect_schema().names()
    missing = [name for name in wanted if name not in have]
    if missing:
        raise SchemaError(
            f"{spec.name} rows lack column {missing[0]!r}", expected=", ".join(wanted), got=", ".join(have)
        )
    return tables[spec.name].select(pl.col(name).cast(dtype) for name, dtype in wanted.items())


def panel(tables: Mapping[str, pl.LazyFrame], asset: str, settings: Features) -> pl.LazyFrame:
    """Line up one asset's inputs by the hour.

    Args:
        tables: what `inputs` returned.
        asset: the base, e.g. `BTC`.
        settings: which venues and prices are read.

    Returns:
        Hourly rows from the first spot bar's close to the last one's, gaps included as null: ts, spot_price,
        perp_price, one column per OI venue (coins) and funding venue (rate per hour), and `_seen`, the latest
        available_at among the row's inputs.
    """
    of_asset = {name: frame.filter(pl.col("asset") == asset) for name, frame in tables.items()}
    spot = _closes(of_asset["ohlcv"], settings.spot_venue, settings.price_kind, "spot_price")
    perp = _closes(of_asset["ohlcv"], settings.perp_venue, "perp", "perp_price")
    rows = _grid(spot).join(spot, on="ts", how="left").join(perp, on="ts", how="left").sort("ts")
    seen = ["_seen_spot_price", "_seen_perp_price"]
    for venue in settings.oi_venues:
        oi = _facts(of_asset["open_interest"], venue, _positive("oi_base"), oi_column(venue))
        rows = rows.join_asof(oi, on="ts", tolerance=_younger_than(settings.max_oi_age_h))
        seen.append(f"_seen{oi_column(venue)}")
    for venue in settings.funding_venues:
        per_hour = _finite("rate") / _positive("interval_h")
        paid = _facts(of_asset["funding"], venue, per_hour, funding_column(venue))
        rows = rows.join_asof(paid, on="ts", tolerance=_younger_than(settings.max_funding_age_h))
        seen.append(f"_seen{funding_column(venue)}")
    return rows.with_columns(pl.max_horizontal("ts", *seen).alias(SEEN)).drop(seen)


def _younger_than(hours: int) -> timedelta:
    return hours * HOUR - _INSTANT_BEFORE


def _finite(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_finite()).then(pl.col(name))


def _positive(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_finite() & (pl.col(name) > 0)).then(pl.col(name))


def _grid(spot: pl.LazyFrame) -> pl.LazyFrame:
    ends = spot.select(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last")).drop_nulls()
    return ends.select(
        pl.datetime_ranges("first", "last", "1h").explode(empty_as_null=False).alias("ts").cast(UTC_TIME)
    )


def _closes(bars: pl.LazyFrame, venue: str, kind: str, name: str) -> pl.LazyFrame:
    """A bar that opens at T tells the price at T + 1 h."""
    chosen = bars.filter((pl.col("venue") == venue) & (pl.col("kind") == kind) & (pl.col("timeframe") == "1h"))
    return _facts(chosen.with_columns(pl.col("ts") + HOUR), venue, _positive("close"), name)


def _facts(rows: pl.LazyFrame, venue: str, value: pl.Expr, name: str) -> pl.LazyFrame:
    """One value per instant; should a venue list an asset under two symbols, the first by name counts."""
    return (
        rows.filter(pl.col("venue") == venue)
        .select(
            "ts",
            "symbol",
            value.alias(name),
            pl.col("available_at").alias(f"_seen{name if name[0] == '_' else '_' + name}"),
        )
        .filter(pl.col(name).is_not_null())
        .sort("ts", "symbol")
        .unique("ts", keep="first", maintain_order=True)
        .drop("symbol")
    )
