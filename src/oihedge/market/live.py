"""One fetch: clients opened together, symbols checked before any row, then every series at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

import ccxt
import polars as pl
from polars.exceptions import PolarsError

from oihedge.core.errors import ConfigError, OihedgeError, VenueError, printable
from oihedge.core.protocols import Progress
from oihedge.core.tables import table
from oihedge.core.types import Instrument
from oihedge.market.clients import open_client
from oihedge.market.limits import Limiter
from oihedge.market.read import Fetched, Gap
from oihedge.market.retry import MALFORMED, Gate, call
from oihedge.market.series import Read, Series
from oihedge.market.series_jobs import Job, Wanted
from oihedge.market.series_now import nothing
from oihedge.market.settings import Market, Venue

FAILURES = (ccxt.BaseError, VenueError, *MALFORMED, PolarsError)
"""What ends one series and never the whole fetch, be it that a reader did not foresee what a venue sent."""


class Reading:
    """The state of one fetch; `run` is called once."""

    def __init__(
        self,
        settings: Market,
        venues: Sequence[Venue],
        tables: Sequence[str],
        start: datetime | Mapping[tuple[str, ...], datetime],
        end: datetime,
        now: datetime,
        base_url: str | None,
        progress: Progress,
    ) -> None:
        self._settings, self._venues, self._tables = settings, venues, tables
        self._start, self._end, self._now, self._base_url = start, end, now, base_url
        self._progress, self._done = progress, 0
        self._rows: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._gaps: list[Gap] = []
        self._failures: list[str] = []

    async def run(self) -> Fetched:
        """Read everything.

        Raises:
            ConfigError: for symbols the venues do not have.
            VenueError: if nothing could be read.
        """
        gates = {
            venue.id: Gate(venue.id, self._settings.concurrency, self._settings.max_pause_s) for venue in self._venues
        }
        clients = [open_client(venue, self._settings, gates[venue.id], self._base_url) for venue in self._venues]
        try:
            open_ = await self._load_markets(clients)
            _check_symbols(open_)
            limiters = {
                venue.id: Limiter([] if self._base_url else [x for x in self._settings.limits if x.venue == venue.id])
                for venue in self._venues
            }  # a loopback needs no pacing
            wanted = [
                self._wanted(venue, client, limiters[venue.id], asset)
                for venue, client in open_
                for asset in venue.symbols
            ]
            self._total = sum(len(one.jobs(_no_bars)) + one.keeps_bars for one in wanted)
            await asyncio.gather(*(self._read(one) for one in wanted))
        finally:
            await asyncio.gather(*(client.close() for client in clients))
        return self._fetched(sum(gate.answers for gate in gates.values()))

    async def _load_markets(self, clients: Sequence[Any]) -> list[tuple[Venue, Any]]:
        async def load(venue: Venue, client: Any) -> tuple[Venue, Any] | None:
            try:
                if venue.kind != "option":  # options are asked for by currency
                    await call(client.gate, self._settings, lambda: _markets(client))
                client.raw = True
            except FAILURES as error:
                self._failures.append(f"{venue.id} {venue.kind} markets: {_line(error)}")
                return None
            return venue, client

        loaded = await asyncio.gather(
            *(load(venue, client) for venue, client in zip(self._venues, clients, strict=True))
        )
        return [pair for pair in loaded if pair is not None]

    def _wanted(self, venue: Venue, client: Any, limiter: Limiter, asset: str) -> Wanted:
        symbol = venue.symbols[asset]
        instrument = Instrument(venue.id, symbol, asset, venue.kind)
        market = {"id": symbol, "base": asset} if venue.kind == "option" else client.markets[symbol]

        async def calls(ask: Callable[[], Awaitable[Any]]) -> Any:
            return await call(client.gate, self._settings, ask)

        delay, real = timedelta(seconds=venue.delay_s), self._base_url is None
        series = Series(client, instrument, market, delay, calls, limiter, self._now, self._end, real)
        return Wanted.of(series, self._settings, self._tables, lambda name: self._since(instrument, name))

    async def _read(self, wanted: Wanted) -> None:
        """Read the series of one instrument; bars first where open interest takes its price from them."""
        held: list[pl.DataFrame] = []

        async def bars() -> None:
            job = wanted.price_bars()
            if job is None or (read := await self._guarded(job, wanted, counts=wanted.keeps_bars)) is None:
                return
            held.append(read[0])
            if wanted.keeps_bars:
                begin = wanted.since("ohlcv")
                kept = [gap for gap in read[1] if gap.end > begin]
                self._keep("ohlcv", read[0].filter(pl.col("ts") >= begin), kept)

        if wanted.prices_interest:
            await bars()
        jobs = wanted.jobs(lambda: held[0] if held else None)
        rest = [self._read_job(job, wanted) for job in jobs]
        await asyncio.gather(*rest, *([] if wanted.prices_interest else [bars()]))

    async def _read_job(self, job: Job, wanted: Wanted) -> None:
        if (read := await self._guarded(job, wanted)) is not None:
            self._keep(job.table, *read)

    async def _guarded(self, job: Job, wanted: Wanted, counts: bool = True) -> Read | None:
        of = wanted.series.instrument
        where = " ".join(part for part in (of.venue, job.table, job.what, of.symbol) if part)
        try:
            return await job.run()
        except FAILURES as error:
            self._failures.append(f"{where}: {_line(error)}")
            return None
        finally:
            if counts:
                self._done += 1
                self._progress(self._done, self._total, where)

    def _keep(self, name: str, rows: pl.DataFrame, gaps: list[Gap]) -> None:
        self._rows[name].append(rows)
        self._gaps.extend(gaps)

    def _since(self, of: Instrument, name: str) -> datetime:
        if isinstance(self._start, datetime):
            return self._start
        return self._start.get((of.venue, name, of.symbol)) or self._start[of.venue, name]

    def _fetched(self, calls: int) -> Fetched:
        if self._failures and not self._rows:
            raise VenueError(
                f"no venue could be read ({len(self._failures)} failures)", got=self._failures[0], do="try again later"
            )
        rows = {name: pl.concat([nothing(name), *self._rows[name]]).sort(table(name).key) for name in self._tables}
        order = sorted(self._gaps, key=lambda gap: (gap.venue, gap.table, gap.symbol, gap.start))
        return Fetched(rows, order, sorted(self._failures), calls)


def _no_bars() -> None:
    return None


async def _markets(client: Any) -> None:
    if not await client.load_markets(True):  # again from the venue: an empty list would be kept otherwise
        raise ccxt.BadResponse(f"{client.id} sent an empty list of markets")


def _check_symbols(clients: Sequence[tuple[Venue, Any]]) -> None:
    wrong: list[tuple[str, list[str]]] = []
    for venue, client in clients:
        for asset, symbol in venue.symbols.items() if venue.kind != "option" else ():
            market = client.markets.get(symbol)
            if market and market.get("inverse"):
                raise ConfigError(
                    f"market.venues {venue.id} ({venue.kind}): {symbol!r} is an inverse contract",
                    expected="one that settles in the currency of its price: contracts here count coins",
                    do="correct the symbol in conf/market",
                )
            if market is None or not market["swap" if venue.kind == "perp" else "spot"] or market["base"] != asset:
                near = get_close_matches(symbol, client.markets, n=3, cutoff=0.4)
                wrong.append((f"market.venues {venue.id} ({venue.kind}): {asset} has no market {symbol!r}", near))
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        expected = ", ".join(wrong[0][1]) or "one of the venue's symbols"
        raise ConfigError(wrong[0][0] + more, expected=expected, do="correct the symbol in conf/market")


def _line(error: Exception) -> str:
    """Return one short line; ccxt's messages may hold a whole HTML page, or what steers a terminal."""
    text = " ".join(str(error).split())
    text = printable(text)
    text = text if len(text) <= 240 else text[:237] + "..."
    return text if isinstance(error, OihedgeError) else f"{type(error).__name__}: {text}"
