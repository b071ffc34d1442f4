"""What venues keep: bars, open interest, funding, long/short ratios, liquidations and volatility indices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import ccxt
import polars as pl

from oihedge.market.dialects.answers import Answer, readable
from oihedge.market.pager import (
    HOUR_MS,
    Page,
    Span,
    at_last,
    checked,
    grid_page,
    read_events,
    read_grid,
    read_numbered,
)
from oihedge.market.read import UNREADABLE, Gap
from oihedge.market.rows import (
    AFTER,
    BEFORE,
    bars_table,
    finished,
    from_ms,
    funding_table,
    interest_table,
    ratio_table,
    with_intervals,
)
from oihedge.market.series import HOUR, Read, Series, ceiling, framed, ms
from oihedge.market.units import converted
from oihedge.market.venues import STEPS, Unit, table_of

KINDS = {"ohlcv": "trade", "mark": "mark", "index": "index"}


def _asker(series: Series, name: str, timeframe: str) -> Callable[[int, int], Awaitable[Answer]]:
    offer = series.reach.offers[name]

    async def ask(since: int, until: int) -> Answer:
        return await series.ask(name, series.query(offer, since, until, timeframe))

    return ask


async def _grid(series: Series, name: str, since: datetime, known_after: timedelta, timeframe: str = "1h") -> Read:
    """Read series `name` on its grid: ts and the dialect's columns, of rows known by now, `known_after` their ts."""
    offer, table, step = series.reach.offers[name], table_of(name), STEPS[timeframe]
    since, gaps = series.within(name, table, since, timeframe)
    until = series.until(known_after)
    if offer.when == "latest":
        page = await _latest(series, name, since, until)
    else:
        ask = _asker(series, name, timeframe)
        page = await read_grid(ask, series.calls, ms(since), ms(until), offer.cap, step // timedelta(milliseconds=1))
    return framed(page.rows, series.names(name)), gaps + series.gaps(table, page)


async def _latest(series: Series, name: str, since: datetime, until: datetime) -> Page:
    """Read the only rows that a venue gives, in one request; what is missing of the span is a gap."""
    step, ask = STEPS["1h"] // timedelta(milliseconds=1), _asker(series, name, "1h")
    span = Span(-(-ms(since) // step) * step, ms(until))

    async def once() -> Answer:
        return readable(checked(await ask(span.since, span.until), span, step))

    return grid_page(await at_last(series.calls, once), span, step)


async def read_bars(series: Series, name: str, timeframe: str, since: datetime) -> Read:
    """Read complete bars that open in [since, end): of trades (`ohlcv`), `mark` or `index`."""
    frame, gaps = await _grid(series, name, since, STEPS[timeframe] + series.delay, timeframe)
    kind = None if name == "ohlcv" else KINDS[name]
    return bars_table(frame, series.instrument, series.delay, timeframe, kind), gaps


async def read_interest(series: Series, since: datetime, bars: pl.DataFrame | None) -> Read:
    """Read hourly open-interest snapshots with since <= ts < end; `bars` price those that come without a value."""
    offer, delay = series.reach.offers["open_interest"], _known_after(series, "open_interest")
    frame, gaps = await _grid(series, "open_interest", since, delay)
    assert offer.unit is not None, "every open_interest offer has a unit"
    made = converted(frame, offer.unit, series.contract_size(offer.unit), bars)
    return interest_table(made, series.instrument, delay), gaps


async def read_ratio(series: Series, name: str, since: datetime) -> Read:
    """Read long/short ratios with since <= ts < end, one row per measure."""
    delay = _known_after(series, name)
    frame, gaps = await _grid(series, name, since, delay)
    return ratio_table(frame, series.instrument, delay), gaps


async def read_liquidations(series: Series, since: datetime) -> Read:
    """Read what was liquidated in each whole hour that begins in [since, end)."""
    delay = HOUR + series.delay
    frame, gaps = await _grid(series, "liquidations", since, delay)
    return finished(frame, "liquidations", series.instrument, pl.col("ts") + delay, timeframe="1h"), gaps


async def read_volatility(series: Series, since: datetime) -> Read:
    """Read complete hourly bars of a volatility index that open in [since, end)."""
    delay = HOUR + series.delay
    frame, gaps = await _grid(series, "implied_vol", since, delay)
    return finished(frame, "implied_vol", series.instrument, pl.col("ts") + delay, timeframe="1h"), gaps


async def read_funding(series: Series, since: datetime) -> Read:
    """Read funding payments with since <= ts < end, each with the interval that it pays for."""
    begin, gaps = series.within("funding", "funding", ceiling(since - BEFORE))
    try:
        page = await _payments(series, ms(begin), ms(series.until(series.delay, AFTER)))
    except ccxt.BadResponse:  # what is wrong after the span must not cost it; its last day is asked for again
        page = await _payments(series, ms(begin), ms(series.until(series.delay)))
        gaps = [*gaps, series.gap("funding", max(since, series.end - 24 * HOUR), series.end, UNREADABLE)]
    frame, limits = framed(page.rows, ("rate", "paid_at")), series.reach
    frame = frame.with_columns(paid_at=from_ms("paid_at"))
    if limits.funding_fixed:
        frame = frame.with_columns(interval_h=pl.lit(float(limits.funding_h)))
    else:
        frame = with_intervals(frame, _declared_hours(series))
    rows = funding_table(frame, series.instrument, series.delay)
    rows = rows.filter(pl.col("ts") >= since, pl.col("ts") < series.end, pl.col("available_at") <= series.now)
    return rows, _within(gaps + series.gaps("funding", page), since, series.end)


def _within(gaps: list[Gap], since: datetime, end: datetime) -> list[Gap]:
    return [
        replace(gap, start=max(gap.start, since), end=min(gap.end, end))
        for gap in gaps
        if gap.end > since and gap.start < end
    ]


async def _payments(series: Series, since: int, until: int) -> Page:
    offer = series.reach.offers["funding"]
    if offer.when != "pages":
        ask = _asker(series, "funding", "1h")
        return await read_events(ask, series.calls, since, until, offer.cap, series.reach.funding_h * HOUR_MS)

    async def ask_page(number: int) -> Answer:
        return await series.ask("funding", series.query(offer, since, until, page=number))

    return await read_numbered(ask_page, series.calls, since, until)


def _declared_hours(series: Series) -> float:
    """Return the interval that the venue's market list declares, else its usual one."""
    info = series.market.get("info") or {}
    for name, unit in (("fundingInterval", 60.0), ("fundInterval", 1.0), ("funding_interval", 3600.0)):
        if info.get(name):
            return float(info[name]) / unit
    return float(series.reach.funding_h)


def _known_after(series: Series, name: str) -> timedelta:
    return series.delay + (HOUR if series.reach.offers[name].lags else timedelta(0))


def needs_price(series: Series) -> bool:
    """Return whether open interest needs our bars for its USD value."""
    offer = series.reach.offers.get("open_interest")
    return offer is not None and offer.unit is Unit.COINS
