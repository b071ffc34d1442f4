"""Rows of the market tables from what venues and archives sent: prices, intervals, availability."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from oihedge.core.tables import UTC_TIME, conform, table
from oihedge.core.types import Instrument
from oihedge.market.venues import STEPS

HOUR = timedelta(hours=1)
COINS_AND_USD = "coins and USD value as sent"
COINS_AT_CLOSE = "coins as sent; USD = coins x close of the perp bar before ts"
COINS_AT_OPEN = "coins as sent; USD = coins x open of the perp bar at ts"
COINS_ONLY = "coins as sent; no price for USD"
JITTER_MS = 60_000
"""Payments are stamped up to some milliseconds beside their hour; anything further is another instant."""
INTERVALS_H = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 24.0)
BEFORE = timedelta(hours=48)
"""Payments read before a span, to know the interval of its first one."""
AFTER = timedelta(hours=INTERVALS_H[-1])
"""Payments read after a span, since the interval of its last one shows only with the one that follows."""


def from_ms(column: str) -> pl.Expr:
    """Return the ms since the epoch in `column` as UTC time."""
    return (pl.col(column) * 1000).cast(UTC_TIME)


def bars_table(
    frame: pl.DataFrame, instrument: Instrument, delay: timedelta, timeframe: str = "1h", kind: str | None = None
) -> pl.DataFrame:
    """Return rows of `ohlcv` from a frame (ts, open, high, low, close, volume); known `delay` after the close.

    `kind` is the instrument's own unless given (mark or index, whose volume may be absent).
    """
    if "volume" not in frame.columns:
        frame = frame.with_columns(volume=pl.lit(None, pl.Float64))
    known = pl.col("ts") + STEPS[timeframe] + delay
    return finished(frame, "ohlcv", instrument, known, kind=kind or instrument.kind, timeframe=timeframe)


def interest_table(frame: pl.DataFrame, instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    """Return rows of `open_interest` from a frame (ts, oi_base, oi_usd, unit_source); known `delay` after ts."""
    return finished(frame, "open_interest", instrument, pl.col("ts") + delay)


def funding_table(frame: pl.DataFrame, instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    """Return rows of `funding` from a frame (ts, paid_at, rate, interval_h).

    `ts` is the hour beside which the payment is stamped, `paid_at` its own stamp; known `delay` after the later one.
    """
    return finished(frame, "funding", instrument, pl.max_horizontal("ts", "paid_at") + delay)


def ratio_table(frame: pl.DataFrame, instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    """Return rows of `long_short` from a frame (ts, one column per measure); known `delay` after ts."""
    long = frame.unpivot(index="ts", variable_name="measure", value_name="ratio").drop_nulls("ratio")
    return finished(long, "long_short", instrument, pl.col("ts") + delay)


def depth_table(levels: pl.DataFrame, instrument: Instrument, now: datetime) -> pl.DataFrame:
    """Return the row of `depth` from a book (price, size; sizes in coins, negative for bids), best prices first.

    What rests within 10 and 50 basis points of the middle is null on a side whose book ends before that.
    """
    bids, asks = levels.filter(pl.col("size") < 0), levels.filter(pl.col("size") > 0)
    bid, ask = float(bids["price"][0]), float(asks["price"][0])
    middle = (bid + ask) / 2
    row: dict[str, float | None] = {"bid": bid, "ask": ask}
    for side, rows, sign in (("bid", bids, -1), ("ask", asks, 1)):
        for points in (10, 50):
            edge = middle * (1 + sign * points / 10_000)
            inside = (pl.col("price") - edge) * sign <= 0
            money = rows.filter(inside).select((pl.col("price") * pl.col("size").abs()).sum()).item()
            row[f"{side}_usd_{points}"] = float(money) if (rows["price"][-1] - edge) * sign > 0 else None
    frame = pl.DataFrame([row], schema=dict.fromkeys(row, pl.Float64)).with_columns(ts=pl.lit(now, UTC_TIME))
    return finished(frame, "depth", instrument, pl.col("ts"), kind=instrument.kind)


def priced(interest: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Give coins a USD value at the price of their own instant.

    That is the close of the bar before ts, which is known at ts; where that bar is missing, the open of the bar at ts.
    Never the close of the bar at ts, which is an hour of future.

    Args:
        interest: (ts, oi_base).
        bars: (ts, open, close), hourly.

    Returns:
        (ts, oi_base, oi_usd, unit_source), oi_usd null where there is neither bar.
    """
    before = bars.select(ts=pl.col("ts") + HOUR, before="close")
    at = bars.select("ts", at="open")
    joined = interest.join(before, on="ts", how="left").join(at, on="ts", how="left").sort("ts")
    at_open = pl.when(pl.col("at").is_not_null()).then(pl.lit(COINS_AT_OPEN)).otherwise(pl.lit(COINS_ONLY))
    source = pl.when(pl.col("before").is_not_null()).then(pl.lit(COINS_AT_CLOSE)).otherwise(at_open)
    usd = pl.col("oi_base") * pl.coalesce("before", "at")
    return joined.select("ts", "oi_base", oi_usd=usd, unit_source=source)


def with_intervals(payments: pl.DataFrame, usual_h: float, by: Sequence[str] = ()) -> pl.DataFrame:
    """Add `interval_h` to payments (ts, rate): the hours since the payment before.

    A single longer step between equal shorter ones is a lost payment, not a longer interval, and so is a last one of
    some whole steps, until a further payment confirms it; the first payment takes the step after it, and a lone one
    `usual_h`.

    Args:
        payments: sorted by ts within each group.
        usual_h: the venue's usual interval, hours.
        by: the columns that tell one series from another.
    """

    def over(expression: pl.Expr) -> pl.Expr:
        return expression.over(list(by)) if by else expression

    step = over(pl.col("ts").diff().dt.total_minutes() / 60.0)
    framed = payments.with_columns(step=pl.when(step.is_in(INTERVALS_H)).then(step))
    before, after = over(pl.col("step").forward_fill().shift(1)), over(pl.col("step").shift(-1))
    unconfirmed = after.is_null() & (pl.col("step") % before == 0)
    lost = ((before == after) | unconfirmed) & (pl.col("step") > before)
    mended = framed.with_columns(step=pl.when(lost).then(before).otherwise(pl.col("step")))
    filled = over(pl.col("step").forward_fill().backward_fill())
    return mended.with_columns(interval_h=filled.fill_null(usual_h)).drop("step")


def finished(frame: pl.DataFrame, name: str, of: Instrument, available_at: pl.Expr, **more: str) -> pl.DataFrame:
    """Return a frame as rows of the table `name` of that instrument, `more` being further constant columns."""
    named = {"venue": of.venue, "symbol": of.symbol, "asset": of.asset, **more}
    rows = frame.with_columns(available_at=available_at, **{column: pl.lit(value) for column, value in named.items()})
    return conform(rows, table(name), stamps=False)
