"""Which series of an instrument are read for the tables wanted, each a job that can fail on its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import polars as pl

from oihedge.market.series import HOUR, Read, Series
from oihedge.market.series_history import (
    KINDS,
    needs_price,
    read_bars,
    read_funding,
    read_interest,
    read_liquidations,
    read_ratio,
    read_volatility,
)
from oihedge.market.series_now import read_depth, read_funding_now, read_interest_now, read_options
from oihedge.market.settings import Market, Timeframe
from oihedge.market.venues import offered

Since = Callable[[str], datetime]


@dataclass(frozen=True)
class Job:
    """One series to read into `table`; `what` tells it from the table's other series."""

    table: str
    what: str
    run: Callable[[], Awaitable[Read]]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one instrument: its tables, and from when each."""

    series: Series
    settings: Market
    tables: tuple[str, ...]
    since: Since

    @classmethod
    def of(cls, series: Series, settings: Market, tables: Sequence[str], since: Since) -> Wanted:
        """Return what is wanted, without the tables that the venue does not have."""
        mine = offered(series.instrument.venue, series.instrument.kind, tables)
        return cls(series, settings, mine, since)

    @property
    def keeps_bars(self) -> bool:
        """Return whether hourly bars of trades are wanted for themselves."""
        return "ohlcv" in self.tables and ("ohlcv", "1h") in self._bars()

    @property
    def prices_interest(self) -> bool:
        """Return whether open interest waits for hourly bars to be priced with."""
        return "open_interest" in self.tables and needs_price(self.series)

    def price_bars(self) -> Job | None:
        """Return the job that reads hourly bars of trades, if they are wanted or open interest needs them."""
        if not self.keeps_bars and not self.prices_interest:
            return None
        since = [self.since("ohlcv")] if self.keeps_bars else []
        since += [self.since("open_interest") - HOUR] if self.prices_interest else []
        return Job("ohlcv", "", partial(read_bars, self.series, "ohlcv", "1h", min(since)))

    def jobs(self, bars: Callable[[], pl.DataFrame | None]) -> list[Job]:
        """Return all further jobs; `bars` gives the hourly bars once they are there."""
        series, since, found = self.series, self.since, list[Job]()
        for name in self.tables:
            if name == "ohlcv":
                found += [self._bar_job(*one) for one in self._bars() if one != ("ohlcv", "1h")]
            elif name == "open_interest":
                found += self._interest(bars)
            elif name == "long_short":
                for of in series.reach.of(name):
                    found.append(Job(name, of.partition(":")[2], partial(read_ratio, series, of, since(name))))
            elif name == "option_chain":
                run = partial(read_options, series, since(name), self.settings.greeks)
                found.append(Job(name, "", run))
            else:
                found.append(Job(name, "", partial(_READERS[name], series, since(name))))
        return found

    def _bars(self) -> list[tuple[str, Timeframe]]:
        offers, kinds = self.series.reach.offers, self.settings.price_kinds
        wanted = [name for name, kind in KINDS.items() if name in offers and kind in kinds]
        if self.series.instrument.kind == "spot":
            wanted = ["ohlcv"]
        return [(name, timeframe) for name in wanted for timeframe in self.settings.timeframes]

    def _bar_job(self, name: str, timeframe: Timeframe) -> Job:
        what = f"{KINDS[name]} {timeframe}"
        return Job("ohlcv", what, partial(read_bars, self.series, name, timeframe, self.since("ohlcv")))

    def _interest(self, bars: Callable[[], pl.DataFrame | None]) -> list[Job]:
        series, since, offers = self.series, self.since("open_interest"), self.series.reach.offers
        found = []
        if "open_interest" in offers:
            found.append(Job("open_interest", "", lambda: read_interest(series, since, bars())))
        if "open_interest_now" in offers and ("open_interest" not in offers or self.settings.interest_now):
            what = "now" if found else ""
            found.append(Job("open_interest", what, partial(read_interest_now, series, since)))
        return found


_READERS: dict[str, Callable[[Series, datetime], Awaitable[Read]]] = {
    "funding": read_funding,
    "funding_now": read_funding_now,
    "depth": read_depth,
    "liquidations": read_liquidations,
    "implied_vol": read_volatility,
}
