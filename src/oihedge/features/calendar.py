"""What is known ahead: the calendar and the funding clock, functions of the instant alone."""

from __future__ import annotations

import math

import polars as pl

from oihedge.features.settings import Features

CALENDAR = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
FUNDING_CLOCK = "hours_to_funding"


def known_columns(settings: Features) -> tuple[str, ...]:
    """Name the known-future columns; the funding clock is there only where funding is."""
    return (*CALENDAR, FUNDING_CLOCK) if settings.funding_venues else CALENDAR


def with_calendar(rows: pl.LazyFrame, settings: Features) -> pl.LazyFrame:
    """Add the position in the day and in the week as sine and cosine, and the hours to the next funding.

    `rows` need `ts`; `hours_to_funding` is 1 .. funding_clock_h: at a payment the next one counts.
    """
    hour = pl.col("ts").dt.hour().cast(pl.Float64)
    day = hour * (2 * math.pi / 24)
    week = (pl.col("ts").dt.weekday().cast(pl.Float64) - 1 + hour * (1 / 24)) * (2 * math.pi / 7)
    columns = [
        day.sin().alias("hour_sin"),
        day.cos().alias("hour_cos"),
        week.sin().alias("weekday_sin"),
        week.cos().alias("weekday_cos"),
    ]
    if settings.funding_venues:
        clock = settings.funding_clock_h
        since_epoch = pl.col("ts").dt.epoch("s") // 3600
        columns.append((clock - since_epoch % clock).cast(pl.Float64).alias(FUNDING_CLOCK))
    return rows.with_columns(columns)
