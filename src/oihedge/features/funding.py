"""Funding features: the rate per hour across venues and how unusual it is."""

from __future__ import annotations

from functools import reduce
from operator import add

import polars as pl

from oihedge.features import rolling
from oihedge.features.panel import funding_column
from oihedge.features.settings import Features


def with_funding(rows: pl.LazyFrame, settings: Features) -> pl.LazyFrame:
    """Add funding_h and funding_z.

    funding_h is the mean of the last payments' rates per hour over the venues that have a recent one (> 0: longs pay),
    null where none has; funding_z is its z-score over the z window.
    """
    columns = [pl.col(funding_column(venue)) for venue in settings.funding_venues]
    count = reduce(add, (column.is_not_null().cast(pl.Int64) for column in columns))
    rates = reduce(add, (column.fill_null(0.0) for column in columns))
    rows = rows.with_columns(pl.when(count > 0).then(rates / count).alias("funding_h"))
    return rows.with_columns(rolling.z_score(pl.col("funding_h"), settings.z_window_h).alias("funding_z"))
