"""Who is long and who is short: the ratios that venues publish, drawn around the crowding of the moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from oihedge.simulator.market import DAY, STEP, EmbeddedMarket, Step
from oihedge.simulator.noise import generator
from oihedge.simulator.parameters import Floats
from oihedge.simulator.view import View

Measure = Literal["top_accounts", "top_positions", "accounts", "taker_volume"]
MEASURES: tuple[Measure, ...] = ("top_accounts", "top_positions", "accounts", "taker_volume")
_LEVEL: dict[Measure, tuple[float, float]] = {
    "top_accounts": (0.5, 0.20), "top_positions": (0.3, 0.15), "accounts": (0.6, 0.20)
}  # fmt: skip
"""Log ratio at neutral crowding, and its gain."""
_ARCHIVED = "binanceusdm"


def day_ratios(market: EmbeddedMarket, asset: str, venue: str, day: datetime) -> dict[Measure, Floats]:
    """Return the 288 ratios of longs over shorts of each measure in the day that starts at `day`.

    Row n of the account and position ratios is the snapshot n + 1 steps of 5 minutes after `day`; of `taker_volume` it
    is what was traded in those 5 minutes.
    """
    bars = market.bars(asset, venue, "perp", day, day + DAY, timeframe="5m")
    stream = f"{asset} ratios" if venue == _ARCHIVED else f"{asset} {venue} ratios"
    crowd = market.crowding(asset, venue, day)[1:]
    noise = generator(market.settings.seed, stream, (day - market.origin) // DAY, "grid")
    draws = noise.standard_normal((4, len(crowd)))
    flow = np.clip(np.log(bars["close"].to_numpy() / bars["open"].to_numpy()) * 120.0, -1.5, 1.5)
    out = {name: np.exp(_LEVEL[name][0] + _LEVEL[name][1] * crowd + 0.1 * draws[n])
           for n, name in enumerate(MEASURES) if name in _LEVEL}  # fmt: skip
    out["taker_volume"] = np.exp(flow + 0.15 * draws[3])
    return {name: values.round(8) for name, values in out.items()}


def ratios(
    view: View, asset: str, venue: str, measure: Measure, start: datetime, end: datetime, step: Step
) -> pl.DataFrame:
    """Return the ratios in [start, end] that are known now.

    Args:
        view: the market at its present.
        asset: base.
        venue: ccxt id of a perp venue.
        measure: which ratio.
        start: first instant wanted.
        end: last instant wanted.
        step: `5m` or `1h`.

    Returns:
        ms, ratio, and for `taker_volume` also buy and sell (coins). A row of accounts or positions is the snapshot at
        ms; one of taker volume is what was traded in the step that OPENS at ms, and is there once that step is over.
    """
    end = min(end, view.now)
    start = max(start, view.market.origin)
    parts = [_day(view.market, asset, venue, measure, day) for day in _days(view.market, start - DAY, end)]
    schema = {"ts": pl.Datetime("us", "UTC"), "ratio": pl.Float64(), "buy": pl.Float64(), "sell": pl.Float64()}
    rows = pl.concat(parts) if parts else pl.DataFrame(schema=schema)
    if measure == "taker_volume":
        rows = _traded(rows, step).filter(pl.col("ts") + STEP[step] <= view.now)
    elif step == "1h":
        rows = rows.filter(pl.col("ts").dt.minute() == 0)
    rows = rows.filter(pl.col("ts").is_between(start, end))
    return rows.with_columns(pl.col("ts").dt.epoch("ms").alias("ms"))


def _days(market: EmbeddedMarket, start: datetime, end: datetime) -> Iterator[datetime]:
    """Every day of the market with an instant in [start, end]."""
    day = market.origin + max(0, (start - market.origin) // DAY) * DAY
    while day <= end:
        yield day
        day += DAY


def _day(market: EmbeddedMarket, asset: str, venue: str, measure: Measure, day: datetime) -> pl.DataFrame:
    """One day's rows: ts, ratio, buy, sell."""
    ratio = day_ratios(market, asset, venue, day)[measure]
    bars = market.bars(asset, venue, "perp", day, day + DAY, timeframe="5m")
    later = timedelta(0) if measure == "taker_volume" else STEP["5m"]
    buy = bars["volume"].to_numpy() * ratio / (1.0 + ratio)
    return pl.DataFrame({"ts": bars["ts"] + later, "ratio": ratio, "buy": buy, "sell": bars["volume"].to_numpy() - buy})


def _traded(rows: pl.DataFrame, step: Step) -> pl.DataFrame:
    if step == "5m":
        return rows
    sums = rows.group_by_dynamic("ts", every="1h").agg(pl.col("buy").sum(), pl.col("sell").sum())
    return sums.select("ts", (pl.col("buy") / pl.col("sell")).alias("ratio"), "buy", "sell")
