"""What is known ahead: the calendar, the funding clock and macro events, functions of the instant and the settings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oihedge.features.settings import Features

CALENDAR = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
FUNDING_CLOCK = "hours_to_funding"
EVENT_REACH_H = 72.0
"""An event farther away than this is as far as this: models tell its hours apart, not its weeks."""


def known_columns(settings: Features) -> tuple[str, ...]:
    """Name the known-future columns; the funding clock is there only where funding is, events where any is named."""
    clock = (FUNDING_CLOCK,) if settings.funding_venues else ()
    return (*CALENDAR, *clock, *(name for event in settings.events for name in event_columns(event)))


def event_columns(event: str) -> tuple[str, str]:
    """Name an event's columns after it: a model that knows one calendar is not asked with another's."""
    return f"hours_to_{event}", f"hours_since_{event}"


def with_calendar(rows: pl.LazyFrame, settings: Features) -> pl.LazyFrame:
    """Add the position in the day and in the week as sine and cosine, and the hours to the next funding and events.

    `rows` need `ts`; `hours_to_funding` is 1 .. funding_clock_h: at a payment the next one counts. `hours_to_` and
    `hours_since_` an event are 0 at its instant and EVENT_REACH_H where none is so near.
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
    seconds = pl.col("ts").dt.epoch("s")
    for event in settings.events:
        times = np.sort(np.array([at.timestamp() for at in settings.event_times.get(event, ())]))
        for name, ahead in zip(event_columns(event), (True, False), strict=True):
            columns.append(seconds.map_batches(_hours(times, ahead=ahead), return_dtype=pl.Float64).alias(name))
    return rows.with_columns(columns)


def _hours(times: NDArray[np.float64], *, ahead: bool) -> Callable[[pl.Series], pl.Series]:
    """Return what gives, per instant (seconds since 1970), the hours to the next of `times`, or since the last."""
    fenced = np.concatenate([[-np.inf], times, [np.inf]])

    def distance(seconds: pl.Series) -> pl.Series:
        at = seconds.to_numpy().astype(np.float64)
        next_ = np.searchsorted(fenced, at, side="left" if ahead else "right")
        apart = fenced[next_] - at if ahead else at - fenced[next_ - 1]
        return pl.Series(np.minimum(apart / 3600, EVENT_REACH_H))

    return distance
