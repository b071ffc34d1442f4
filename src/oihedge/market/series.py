"""Reads one series of one instrument: bars, open interest or funding, as rows of the lake's tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import polars as pl

from oihedge.core.tables import conform, table
from oihedge.core.types import Instrument
from oihedge.market.pager import HOUR_MS, Page, Row, Span, read_events, read_grid
from oihedge.market.read import Gap
from oihedge.market.rows import (
    COINS_AND_USD,
    COINS_AT_MARK,
    bars_table,
    from_ms,
    funding_table,
    interest_table,
    priced,
    with_intervals,
)
from oihedge.market.venues import Reach, reach

HOUR = timedelta(hours=1)
FRESH = timedelta(minutes=10)
"""A venue clock further than this from our `now` means its present is not ours."""
CONTEXT = timedelta(hours=48)
"""Payments read before the span, to know the interval of its first one."""
Read = tuple[pl.DataFrame, list[Gap]]


@dataclass(frozen=True)
class Series:
    """One instrument, its client, and the span's end: `end` is excluded, nothing after `now` is known."""

    client: Any
    instrument: Instrument
    delay: timedelta
    calls: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    now: datetime
    end: datetime
    real: bool
    """Whether the venue itself answers, whose clock runs on its own; a loopback server stands at `now`."""

    @property
    def reach(self) -> Reach:
        """Return what the venue gives for such an instrument."""
        return reach(self.instrument.venue, self.instrument.kind)

    @property
    def needs_price(self) -> bool:
        """Return whether open interest needs our bars for its USD value."""
        return self.reach.oi == "history" and not self.reach.sends_usd

    def gap(self, name: str, start: datetime, end: datetime, why: str) -> Gap:
        """Return a gap of this instrument."""
        return Gap(self.instrument.venue, name, self.instrument.symbol, start, end, why)

    def gaps(self, name: str, missing: list[Span]) -> list[Gap]:
        """Return the spans in which the venue sent nothing."""
        return [self.gap(name, instant(s.since), instant(s.until), "the venue sent no rows") for s in missing]


async def read_bars(series: Series, since: datetime) -> Read:
    """Read complete hourly bars that open in [since, end)."""
    symbol, cap = series.instrument.symbol, series.reach.ohlcv_cap
    until = min(series.end, series.now - HOUR - series.delay + timedelta(microseconds=1))
    since, gaps = _within_bars(series, since)

    async def ask(a: int, b: int) -> list[Row]:
        found = await series.client.fetch_ohlcv(symbol, "1h", a, cap, {"until": b - 1})
        if any(value is None for row in found for value in row[:5]):
            raise ccxt.BadResponse(f"{series.instrument.venue} sent a bar without a price")
        return [tuple(row) for row in found]

    page = await read_grid(ask, series.calls, ms(since), ms(until), cap)
    frame = _frame(page, ("open", "high", "low", "close", "volume"))
    return bars_table(frame, series.instrument, series.delay), gaps + series.gaps("ohlcv", page.missing)


def _within_bars(series: Series, since: datetime) -> tuple[datetime, list[Gap]]:
    if series.reach.bars is None:
        return since, []
    oldest = _hour(series.now) - series.reach.bars * HOUR + HOUR
    if since >= oldest:
        return since, []
    why = f"the venue keeps its latest {series.reach.bars} bars; only an archive can give more"
    return oldest, [series.gap("ohlcv", since, min(oldest, series.end), why)]


async def read_interest(series: Series, since: datetime, bars: pl.DataFrame | None) -> Read:
    """Read hourly open-interest snapshots with since <= ts < end, or the present one where a venue has no history."""
    if series.reach.oi == "snapshot":
        return await _snapshot(series, since)
    until = min(series.end, series.now - series.delay + timedelta(microseconds=1))
    gaps = []
    if series.reach.oi_reach is not None and since < (oldest := _hour(series.now - series.reach.oi_reach)):
        why = f"the venue keeps {series.reach.oi_days} days; only an archive can give it"
        gaps, since = [series.gap("open_interest", since, min(oldest, series.end), why)], oldest
    page = await read_grid(_ask_interest(series), series.calls, ms(since), ms(until), series.reach.oi_cap)
    frame = _frame(page, ("oi_base", "oi_usd"))
    if series.needs_price:
        frame = priced(frame.select("ts", "oi_base"), _prices(bars))
    else:
        frame = frame.with_columns(unit_source=pl.lit(COINS_AND_USD))
    return interest_table(frame, series.instrument, series.delay), gaps + series.gaps("open_interest", page.missing)


def _ask_interest(series: Series) -> Callable[[int, int], Awaitable[list[Row]]]:
    client, symbol, cap = series.client, series.instrument.symbol, series.reach.oi_cap

    async def ask(a: int, b: int) -> list[Row]:
        # one ms early: not every venue counts a row at `since` in; the pager drops what is outside
        found = await client.fetch_open_interest_history(symbol, "1h", a - 1, cap, {"until": b - 1})
        _require_symbol(found, symbol)
        return [(row["timestamp"], row["openInterestAmount"], row["openInterestValue"]) for row in found]

    return ask


async def _snapshot(series: Series, since: datetime) -> Read:
    """Read the present open interest; its instant is ours, which the venue's clock must confirm."""
    why = "the venue gives only the present: recorded from now on; only an archive can give the past"
    past = series.gap("open_interest", since, min(series.end, series.now), why)
    nothing = conform(interest_table(_frame(Page(), ("oi_base", "oi_usd", "unit_source")), series.instrument,
                                     series.delay), table("open_interest"), stamps=False)  # fmt: skip
    if series.end < series.now:
        return nothing, [past]
    coins, mark, served = await series.calls(lambda: _present(series))
    if series.real and (served is None or abs(served - series.now) > FRESH):
        late = f"the venue's clock says {served}, this run stands at {series.now:%F %H:%M}Z: {why}"
        return nothing, [series.gap("open_interest", since, series.now, late)]
    row = {"ts": [series.now], "oi_base": [coins], "oi_usd": [coins * mark]}
    frame = pl.DataFrame(row).with_columns(unit_source=pl.lit(COINS_AT_MARK))
    return interest_table(frame, series.instrument, timedelta(0)), [past]


async def _present(series: Series) -> tuple[float, float, datetime | None]:
    found = await series.client.fetch_open_interest(series.instrument.symbol)
    coins, mark = found["openInterestAmount"], series.client.safe_number(found["info"], "markPx")
    if coins is None or mark is None:
        raise ccxt.BadResponse(f"{series.instrument.venue} sent no open interest or mark price")
    return float(coins), float(mark), series.client.served_at


async def read_funding(series: Series, since: datetime) -> Read:
    """Read funding payments with since <= ts < end, each with the interval that it pays for."""
    client, symbol, limits = series.client, series.instrument.symbol, series.reach
    until = min(series.end, series.now - series.delay + timedelta(microseconds=1))

    async def ask(a: int, b: int) -> list[Row]:
        found = await client.fetch_funding_rate_history(symbol, a, limits.funding_cap, {"until": b - 1})
        _require_symbol(found, symbol)
        return [(row["timestamp"], row["fundingRate"]) for row in found]

    usual_ms = limits.funding_h * HOUR_MS
    begin = _hour(since - CONTEXT)
    page = await read_events(ask, series.calls, ms(begin), ms(until), limits.funding_cap, usual_ms)
    frame = _frame(page, ("rate",))
    if limits.funding_fixed:
        frame = frame.with_columns(interval_h=pl.lit(float(limits.funding_h)))
    else:
        frame = with_intervals(frame, _declared_hours(series))
    rows = funding_table(frame, series.instrument, series.delay).filter(pl.col("ts") >= since)
    return rows, [gap for gap in series.gaps("funding", page.missing) if gap.end > since]


def _declared_hours(series: Series) -> float:
    minutes = series.client.safe_number(series.client.market(series.instrument.symbol)["info"], "fundingInterval")
    return float(minutes) / 60 if minutes else float(series.reach.funding_h)


def _require_symbol(found: list[dict[str, Any]], symbol: str) -> None:
    for row in found:
        if row["symbol"] != symbol:
            raise ccxt.BadResponse(f"asked for {symbol}, answered with {row['symbol']}")


def _prices(bars: pl.DataFrame | None) -> pl.DataFrame:
    return _frame(Page(), ("open", "close")) if bars is None else bars.select("ts", "open", "close")


def _frame(page: Page, names: tuple[str, ...]) -> pl.DataFrame:
    types = {"at": pl.Int64(), **{name: pl.String() if name == "unit_source" else pl.Float64() for name in names}}
    frame = pl.DataFrame([row[: len(types)] for row in page.rows], schema=types, orient="row", strict=False)
    return frame.with_columns(ts=from_ms("at")).drop("at")


def ms(at: datetime) -> int:
    """Return whole ms since the epoch, rounded up, so that a half-open span keeps its meaning."""
    return -(-int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) // 1000)


def instant(at: int) -> datetime:
    """Return the UTC instant of `at` ms."""
    return datetime.fromtimestamp(at / 1000, UTC)


def _hour(at: datetime) -> datetime:
    """Return the first whole hour at or after `at`."""
    floor = at.replace(minute=0, second=0, microsecond=0)
    return floor if floor == at else floor + HOUR
