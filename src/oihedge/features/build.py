"""The feature table: the same function for training, backtest and the live decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from oihedge.core.tables import UTC_TIME
from oihedge.features.calendar import known_columns, with_calendar
from oihedge.features.funding import with_funding
from oihedge.features.open_interest import REGIMES, with_open_interest
from oihedge.features.panel import SEEN, inputs, panel
from oihedge.features.prices import WEEK, with_basis, with_prices
from oihedge.features.realised import with_hedge_ratio, with_realised_downside
from oihedge.features.settings import Features


@dataclass(frozen=True)
class FeatureColumns:
    """The feature columns by role.

    Attributes:
        known: known ahead for any instant (calendar, funding clock).
        unknown: known up to the row's instant; what a forecaster may take besides.
        other: in the table for sizing, signals and accounting; no model input (levels, names, long warm-ups).
    """

    known: tuple[str, ...]
    unknown: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every column but asset, ts and available_at, in the table's order."""
        return (*self.unknown, *self.known, *self.other)


def columns(settings: Features) -> FeatureColumns:
    """Name the columns that can exist under `settings`.

    One OI venue has no venue_divergence, no funding venues no funding columns, and a perp that is its own spot proxy no
    basis and no hedge_ratio.
    """
    unknown = [
        *("log_return", "log_oi", "log_return_4h", "log_return_24h", "volatility", "volatility_168h", "drawdown"),
        *("oi_growth_24h", "oi_divergence", "oi_divergence_168h", "oi_price_gap", "oi_price_gap_z"),
    ]
    other = ["spot_price", "perp_price", "oi_base", "n_oi_venues", "n_oi_tracked", "oi_divergence_rank"]
    other.append("realised_downside")
    if len(settings.oi_venues) > 1:
        unknown.append("venue_divergence")
        other.append("oi_leader")
    if settings.funding_venues:
        unknown += ["funding_h", "funding_z"]
    if not settings.perp_is_spot:
        unknown.append("basis")
        other.append("hedge_ratio")
    other += [f"oi_price_regime_{hours}h" for hours in REGIMES]
    return FeatureColumns(known_columns(settings), tuple(unknown), tuple(other))


def history_h(settings: Features) -> int:
    """Return how many hours of input before a row make that row exact."""
    return _reach(settings) + 1 + max(settings.max_oi_age_h, settings.max_funding_age_h)


def _reach(settings: Features) -> int:
    """How many rows back the farthest-looking feature sees."""
    return max(
        settings.rank_window_h + settings.divergence_window_h,
        settings.z_window_h + settings.gap_window_h,
        settings.z_window_h,
        WEEK,
        settings.realised_h,
        max(REGIMES),
    )


def build(tables: Mapping[str, pl.LazyFrame], settings: Features) -> pl.LazyFrame:
    """Build the features of every asset.

    A row at ts uses bars that opened at ts - 1 h or before and snapshots and payments at ts or before. Its values
    depend on the `history_h` hours before it and on nothing else: not on where the input starts, ends or how it is
    ordered.

    Args:
        tables: `ohlcv`, `open_interest` and `funding` as read as of some instant, in any order; an absent one is empty.
        settings: venues and windows.

    Returns:
        Rows sorted by asset and ts, hourly without holes between an asset's first and last spot bar: asset, ts,
        available_at (the latest of every input the row could see) and `columns(settings).all`. What is not known is
        null.

    Raises:
        SchemaError: naming a column that a table lacks.
    """
    sources = inputs(tables)
    return pl.concat([_of_asset(sources, asset, settings) for asset in sorted(settings.assets)])


def _of_asset(sources: Mapping[str, pl.LazyFrame], asset: str, settings: Features) -> pl.LazyFrame:
    rows = with_prices(panel(sources, asset, settings))
    rows = with_basis(with_open_interest(rows, settings))
    rows = with_hedge_ratio(with_realised_downside(rows, settings.realised_h), settings.realised_h)
    if settings.funding_venues:
        rows = with_funding(rows, settings)
    rows = with_calendar(rows, settings)
    seen = pl.col(SEEN).cast(pl.Int64).rolling_max(_reach(settings) + 1, min_samples=1).cast(UTC_TIME)
    return rows.select(
        pl.lit(asset).alias("asset"),
        "ts",
        seen.alias("available_at"),
        *(pl.col(name) for name in columns(settings).all),
    )
