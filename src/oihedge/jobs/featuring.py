"""Validated rows to the feature table, and the market frames that a backtest needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from oihedge.config import Config
from oihedge.core.errors import DataError
from oihedge.core.hashing import digest
from oihedge.core.tables import MARKET_TABLES
from oihedge.features.build import build, history_h
from oihedge.features.resample import hourly
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake

HOUR = timedelta(hours=1)
BLOCK = timedelta(days=30)
"""Minute bars are read this much at a time, so that memory does not grow with the history."""


@dataclass(frozen=True)
class FeatureSet:
    """Feature rows known at `as_of`; `content` is the digest of the rows, `spec` that of the feature settings."""

    past: pl.DataFrame
    spec: str
    newest: datetime
    content: str


def spec_of(config: Config) -> str:
    """Return the digest of the feature settings, the key under which their rows are kept."""
    return digest(config.features.model_dump(mode="json"), 12)


def features(config: Config, *, as_of: datetime, start: datetime) -> FeatureSet:
    """Build the feature rows with start <= ts known at `as_of`; nothing is written.

    Args:
        config: settings; the window reads `history_h` hours further back than `start`.
        as_of: only rows with available_at <= as_of go in.
        start: first feature row.

    Raises:
        DataError: if no row can be built, naming the table that has none.
    """
    lake = open_lake(config)
    past = compute(lake, config, as_of=as_of, start=start)
    if past.is_empty():
        raise DataError(_why_empty(lake, config, as_of), do="ingest and validate first, or widen the window")
    newest = past["ts"].max()
    assert isinstance(newest, datetime)
    content = hashlib.sha256(past.write_ipc(None).getvalue()).hexdigest()[:16]
    return FeatureSet(past, spec_of(config), newest, content)


def keep(config: Config, feature_set: FeatureSet, as_of: datetime) -> int:
    """Keep the rows in the lake and return a Delta version that holds them."""
    lake = open_lake(config)
    lake.append("derived", "features", feature_set.past.with_columns(spec=pl.lit(feature_set.spec)), now=as_of)
    version = lake.version("derived", "features")
    assert version is not None
    return version


def compute(
    lake: Lake, config: Config, *, as_of: datetime, start: datetime, versions: dict[str, int] | None = None
) -> pl.DataFrame:
    """Build the rows without keeping them; `versions` pins the validated tables to Delta versions."""
    settings = config.features
    begin, pinned = start - history_h(settings) * HOUR, versions or {}
    tables = {
        spec.name: lake.read(
            "validated", spec.name, as_of=as_of, start=begin, end=as_of + HOUR, version=pinned.get(spec.name)
        )
        for spec in MARKET_TABLES
        if spec.name != "ohlcv"
    }
    tables["ohlcv"] = hourly_bars(lake, config, as_of=as_of, start=begin, version=pinned.get("ohlcv"))
    return build(tables, settings).filter(pl.col("ts") >= start, pl.col("available_at") <= as_of).collect()


def hourly_bars(
    lake: Lake, config: Config, *, as_of: datetime, start: datetime, version: int | None = None
) -> pl.LazyFrame:
    """Return the hourly bars with start <= ts <= as_of known at `as_of`, made of minutes where the settings say so."""
    chosen = config.features
    venues = [chosen.spot_venue, chosen.perp_venue, config.evaluation.hedge_venue]
    wanted = (pl.col("timeframe") == chosen.timeframe) & pl.col("venue").is_in(venues)

    def read(begin: datetime, end: datetime) -> pl.LazyFrame:
        rows = lake.read("validated", "ohlcv", as_of=as_of, start=begin, end=end, version=version, where=wanted)
        return rows.filter(pl.col("asset").is_in(list(chosen.assets)))

    until = as_of + HOUR
    if chosen.timeframe == "1h":
        return read(start, until)
    at, blocks = start.replace(minute=0, second=0, microsecond=0), []
    while at < until:
        blocks.append(hourly(read(at, min(at + BLOCK, until))).collect(engine="streaming"))
        at += BLOCK
    return pl.concat(blocks).lazy()


def market_frames(config: Config, *, as_of: datetime, start: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (prices, funding) for the backtest as known at `as_of`.

    Returns:
        prices: asset, ts, spot_open, perp_open (quote per coin, perp of the hedge venue); only hours that have both.
        funding: asset, ts, rate at the hedge venue.
    """
    lake, chosen = open_lake(config), config.features
    bars = hourly_bars(lake, config, as_of=as_of, start=start)
    spot = bars.filter((pl.col("venue") == chosen.spot_venue) & (pl.col("kind") == chosen.price_kind))
    perp = bars.filter((pl.col("venue") == config.evaluation.hedge_venue) & (pl.col("kind") == "perp"))
    prices = spot.select("asset", "ts", spot_open="open").join(
        perp.select("asset", "ts", "symbol", perp_open="open"), on=["asset", "ts"], how="inner"
    )
    funding = lake.read("validated", "funding", as_of=as_of, start=start).filter(
        pl.col("venue") == config.evaluation.hedge_venue, pl.col("asset").is_in(list(chosen.assets))
    )
    legs = prices.sort("asset", "ts").collect()
    payments = funding.select("asset", "ts", "symbol", "rate").sort("asset", "ts").collect()
    _require_one_leg(config, legs, payments)
    return legs.drop("symbol"), payments.drop("symbol")


def _require_one_leg(config: Config, legs: pl.DataFrame, payments: pl.DataFrame) -> None:
    """Refuse to add up two symbols as one hedge leg, and to take funding that is missing for funding of 0."""
    venue = config.evaluation.hedge_venue
    for asset in config.hedge.portfolio.quantities:
        mine = [frame.filter(pl.col("asset") == asset) for frame in (legs, payments)]
        symbols = sorted({name for frame in mine for name in frame["symbol"].unique()})
        if len(symbols) > 1:
            raise DataError(f"{venue} has several symbols of {asset}", expected="one hedge leg", got=", ".join(symbols))
        if mine[0].height and mine[1].is_empty() and config.features.funding_venues:
            raise DataError(
                f"{venue} has no funding of {asset}, the hedge leg's own",
                do="import it, or leave funding out on purpose with features.funding_venues=[]",
            )


def _why_empty(lake: Lake, config: Config, as_of: datetime) -> str:
    for spec in MARKET_TABLES:
        if lake.read("validated", spec.name, as_of=as_of).select(pl.len()).collect().item() == 0:
            return f"no features: validated {spec.name} has no row known at {as_of:%F %H:%M}Z in {config.lake.root}"
    return f"no features for {', '.join(config.features.assets)} at {as_of:%F %H:%M}Z: the window is too short"
