"""One instrument as it is read: its client, its offers, and one request under the retry policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import polars as pl

from oihedge.core.types import Instrument
from oihedge.market.dialects import dialect
from oihedge.market.dialects.answers import Answer, Query, contract_size
from oihedge.market.limits import Limiter
from oihedge.market.pager import Page
from oihedge.market.read import SENT_NOTHING, UNREADABLE, Gap
from oihedge.market.rows import from_ms
from oihedge.market.units import CONVERSIONS
from oihedge.market.venues import STEPS, Offer, Reach, Unit, reach

HOUR = timedelta(hours=1)
FRESH = timedelta(minutes=10)
"""A venue clock further than this from our `now` means its present is not ours."""
Read = tuple[pl.DataFrame, list[Gap]]


@dataclass(frozen=True)
class Series:
    """One instrument, its client, and the span's end: `end` is excluded, nothing after `now` is known."""

    client: Any
    instrument: Instrument
    market: Mapping[str, Any]
    """ccxt's structure of the market, or id and base where the venue lists none."""
    delay: timedelta
    calls: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    limiter: Limiter
    now: datetime
    end: datetime
    real: bool
    """Whether the venue itself answers, whose clock runs on its own; a loopback server stands at `now`."""

    @property
    def reach(self) -> Reach:
        """Return what the venue gives for such an instrument."""
        return reach(self.instrument.venue, self.instrument.kind)

    def contract_size(self, unit: Unit) -> float:
        """Return the coins in one contract where `unit` counts contracts, else 1."""
        return contract_size(self.market) if "contracts" in CONVERSIONS[unit].columns else 1.0

    def names(self, name: str) -> tuple[str, ...]:
        """Return the columns that the series `name` brings."""
        return dialect(self.instrument.venue, self.instrument.kind, name).names

    async def ask(self, name: str, query: Query) -> Answer:
        """Ask the venue once for series `name`, without retry."""
        offer, speaks = self.reach.offers[name], dialect(self.instrument.venue, self.instrument.kind, name)
        method = offer.older if offer.older and query.is_old else offer.method
        body = await self.raw(method, speaks.ask(query))
        if offer.also and self.instrument.kind == "perp":
            body = [body, await self.raw(offer.also, speaks.ask(query))]
        return speaks.read(body, query)

    async def raw(self, method: str, parameters: dict[str, Any]) -> Any:
        """Call one of ccxt's raw methods, no faster than the limits that ccxt does not know."""
        await self.limiter.wait(method)
        return await getattr(self.client, method)(parameters)

    def query(self, offer: Offer, since: int, until: int, timeframe: str = "1h", page: int = 1) -> Query:
        """Return a request for [since, until), ms."""
        return Query(self.market, since, until, offer.cap, timeframe, ms(self.now), page)

    def gap(self, name: str, start: datetime, end: datetime, why: str) -> Gap:
        """Return a gap of this instrument."""
        return Gap(self.instrument.venue, name, self.instrument.symbol, start, end, why)

    def gaps(self, name: str, page: Page) -> list[Gap]:
        """Return the spans in which the venue sent nothing, and those in which it sent what is no number."""
        told = [(span, SENT_NOTHING) for span in page.missing] + [(span, UNREADABLE) for span in page.unread]
        return [self.gap(name, instant(span.since), instant(span.until), why) for span, why in told]

    def until(self, known_after: timedelta, beyond: timedelta = timedelta(0)) -> datetime:
        """Return the end, excluded, of instants whose rows are known by now, `known_after` them.

        It is at most `beyond` the span's end. By the venue's own clock the instants must be over too, be it without the
        delay: ours may be fast, and a bar that is still open would pass for a complete one.

        Raises:
            ccxt.BadResponse: where that would cut off more than two clocks may differ by, since rows would be lost.
        """
        end = min(self.end + beyond, self.now - known_after + timedelta(microseconds=1))
        if not self.real or self.client.served_at is None:
            return end
        over: datetime = self.client.served_at - (known_after - self.delay) + timedelta(microseconds=1)
        if over < end and (why := self.skew(0)):
            raise ccxt.BadResponse(why)
        return min(end, over)

    def within(self, name: str, table: str, since: datetime, timeframe: str = "1h") -> tuple[datetime, list[Gap]]:
        """Return where the venue's history begins if that is after `since`, and the gap that this leaves."""
        offer, step = self.reach.offers[name], STEPS[timeframe]
        back = offer.oldest(step)
        if back is None or since >= (oldest := ceiling(self.now - back, step)):
            return since, []
        if offer.rows is None:
            why = f"the venue keeps {offer.days} days; only an archive can give it"
        else:
            what = "bars" if table == "ohlcv" else "rows"
            why = f"the venue keeps its latest {offer.rows} {what}; only an archive can give more"
        return oldest, [self.gap(table, since, min(oldest, self.end), why)]

    def heard(self, said: int) -> datetime | None:
        """Return the instant of an answer about the present; `said` is what it says itself, in ms, 0 for nothing.

        Where it says nothing, the venue's HTTP date speaks, except on a loopback, which has no own clock.
        """
        return instant(said) if said else self.client.served_at if self.real else self.now

    def known(self, said: int) -> datetime:
        """Return when such an answer could be known: a run that stands at `now` may hear it only minutes later."""
        return max(self.now, self.heard(said) or self.now)

    def skew(self, said: int) -> str | None:
        """Return why the venue's present is not ours, None where it is; `said` as in `heard`."""
        served = self.heard(said)
        if served is not None and abs(served - self.now) <= FRESH:
            return None
        return f"the venue's clock says {served}, this run stands at {self.now:%F %H:%M}Z"


def framed(rows: Answer, names: Sequence[str]) -> pl.DataFrame:
    """Return rows as a frame: ts, then `names`; NaN becomes null."""
    columns: dict[str, Any] = {name: rows.values[:, n] if rows.size else [] for n, name in enumerate(names)}
    frame = pl.DataFrame({"at": rows.at, **columns}, schema={"at": pl.Int64, **dict.fromkeys(names, pl.Float64)})
    return frame.with_columns(pl.col(*names).fill_nan(None), ts=from_ms("at")).drop("at")


def ms(at: datetime) -> int:
    """Return whole ms since the epoch, rounded up, so that a half-open span keeps its meaning."""
    return -(-int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) // 1000)


def instant(at: int) -> datetime:
    """Return the UTC instant of `at` ms, at most 2200."""
    return datetime.fromtimestamp(min(max(at, 0), 7_258_118_400_000) / 1000, UTC)


def ceiling(at: datetime, step: timedelta = HOUR) -> datetime:
    """Return the first point of the grid at or after `at`."""
    past = (at - datetime(1970, 1, 1, tzinfo=UTC)) % step
    return at + step - past if past else at
