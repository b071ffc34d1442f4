"""Open-interest features: growth of a fixed basket, divergences, the gap to the price.

Venues count open interest differently and come and go, so levels are never compared or chained: every change is taken
over the venues that are there at both of its ends, in coins.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

import polars as pl

from oihedge.features import rolling
from oihedge.features.panel import oi_column
from oihedge.features.settings import Features

REGIMES = (1, 4, 24)
WEEK = 168


def with_open_interest(rows: pl.LazyFrame, settings: Features) -> pl.LazyFrame:
    """Add what open interest says; needs spot_price.

    Returns:
        `rows` with log_oi (1 h log growth of the venues present at both ends), oi_growth_24h (the same over 24 h),
        oi_base, n_oi_venues, oi_divergence, oi_divergence_rank, venue_divergence, oi_leader (see `_with_divergences`),
        oi_divergence_168h (oi_divergence from the mean of a week: the leverage that a week has built up),
        oi_price_gap (OI growth less price growth over the gap window) and its z-score, and
        oi_price_regime_{1,4,24}h (1 both up, 2 OI up and price down, 3 OI down and price up, 4 both down).
    """
    growth, gap_h = _basket_growth(settings.oi_venues), settings.gap_window_h
    rows = rows.with_columns(growth.alias("log_oi"))
    rows = _with_divergences(rows, settings)
    price = pl.col("spot_price").log()
    gap = rolling.total(pl.col("log_oi"), gap_h) - (price - price.shift(gap_h))
    rows = rows.with_columns(rolling.total(pl.col("log_oi"), 24).alias("oi_growth_24h"), gap.alias("oi_price_gap"))
    return rows.with_columns(
        rolling.z_score(pl.col("oi_price_gap"), settings.z_window_h).alias("oi_price_gap_z"),
        rolling.rank(pl.col("oi_divergence"), settings.rank_window_h).alias("oi_divergence_rank"),
        *(_regime(hours).alias(f"oi_price_regime_{hours}h") for hours in REGIMES),
    )


def _sum(parts: Iterable[pl.Expr]) -> pl.Expr:
    return reduce(add, parts)


def _basket_growth(venues: tuple[str, ...]) -> pl.Expr:
    """The basket's growth factor is the mean of its venues' factors, weighted by where each began."""
    columns = [pl.col(oi_column(venue)) for venue in venues]
    both = [column.is_not_null() & column.shift(1).is_not_null() for column in columns]
    after = _sum(pl.when(there).then(column).otherwise(0.0) for column, there in zip(columns, both, strict=True))
    before = _sum(
        pl.when(there).then(column.shift(1)).otherwise(0.0) for column, there in zip(columns, both, strict=True)
    )
    return pl.when(pl.any_horizontal(both)).then((after / before).log())


def _with_divergences(rows: pl.LazyFrame, settings: Features) -> pl.LazyFrame:
    """Add what the venues that were present through the whole window (t - window .. t) say together.

    oi_divergence is the mean over them of ln(oi / its mean over the window), weighted by that mean; oi_base their coins
    together; n_oi_venues their number, n_oi_tracked how many there could be; venue_divergence the spread of their
    growth over the window; oi_leader the venue that grew most.
    """
    hours, venues = settings.divergence_window_h, settings.oi_venues
    rows = rows.with_columns(column for venue in venues for column in _venue_columns(venue, hours))
    rows = rows.with_columns(
        *(
            pl.when(pl.col(f"_growth_{venue}").is_not_null()).then(pl.col(f"_mean_{venue}")).alias(f"_mean_{venue}")
            for venue in venues
        ),
        *(
            pl.when(pl.col(oi_column(v)).is_not_null())
            .then(rolling.mean(pl.col(oi_column(v)), WEEK))
            .alias(f"_week_mean_{v}")
            for v in venues
        ),
    )
    level = _sum(pl.when(pl.col(f"_mean_{v}").is_not_null()).then(pl.col(oi_column(v))).otherwise(0.0) for v in venues)
    growths = [pl.col(f"_growth_{venue}") for venue in venues]
    count = _sum(growth.is_not_null().cast(pl.Int64) for growth in growths)
    most, least = pl.max_horizontal(growths), pl.min_horizontal(growths)
    leads = [pl.when(growth == most).then(pl.lit(venue)) for growth, venue in zip(growths, venues, strict=True)]
    return rows.with_columns(
        count.alias("n_oi_venues"),
        pl.lit(len(venues), pl.Int64).alias("n_oi_tracked"),
        pl.when(count > 0).then(level).alias("oi_base"),
        _divergence(venues, "_mean_").alias("oi_divergence"),
        _divergence(venues, "_week_mean_").alias("oi_divergence_168h"),
        pl.when(count > 1).then(most - least).alias("venue_divergence"),
        pl.when(count > 1).then(pl.coalesce(leads)).alias("oi_leader"),
    )


def _venue_columns(venue: str, hours: int) -> list[pl.Expr]:
    oi = pl.col(oi_column(venue))
    whole = rolling.total(oi, hours + 1).is_not_null()
    return [
        (rolling.total(oi, hours) * (1 / hours)).alias(f"_mean_{venue}"),
        pl.when(whole).then((oi / oi.shift(hours)).log()).alias(f"_growth_{venue}"),
    ]


def _divergence(venues: tuple[str, ...], mean: str) -> pl.Expr:
    """Log of open interest over its mean, weighted by that mean, over the venues that have one; null without any."""
    parts = [(pl.col(f"{mean}{v}"), pl.col(oi_column(v))) for v in venues]
    apart = _sum((usual * (oi / usual).log()).fill_null(0.0) for usual, oi in parts)
    weights = _sum(usual.fill_null(0.0) for usual, _ in parts)
    return pl.when(weights > 0).then(apart / weights)


def _regime(hours: int) -> pl.Expr:
    oi = rolling.total(pl.col("log_oi"), hours)
    price = pl.col("spot_price").log() - pl.col("spot_price").log().shift(hours)
    code = (
        pl.when(oi > 0).then(pl.when(price > 0).then(1).otherwise(2)).otherwise(pl.when(price > 0).then(3).otherwise(4))
    )
    return pl.when(oi.is_not_null() & price.is_not_null()).then(code).cast(pl.Int64)
