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

from oihedge.core.errors import ConfigError, OihedgeError, VenueError
from oihedge.core.protocols import Progress
from oihedge.core.tables import conform, table
from oihedge.core.types import Instrument
from oihedge.market.clients import open_client
from oihedge.market.read import Fetched, Gap
from oihedge.market.retry import Gate, call
from oihedge.market.series import Series, read_bars, read_funding, read_interest
from oihedge.market.settings import Market, Venue

FAILURES = (ccxt.BaseError, VenueError)


class Reading:
    """The state of one fetch; `run` is called once."""

    def __init__(
        self,
        settings: Market,
        venues: Sequence[Venue],
        tables: Sequence[str],
        start: datetime | Mapping[tuple[str, str], datetime],
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
            series = [self._series(venue, client, asset) for venue, client in open_ for asset in venue.symbols]
            self._total = sum(len(_tables_of(one, self._tables)) for one in series)
            await asyncio.gather(*(self._read(one) for one in series))
        finally:
            await asyncio.gather(*(client.close() for client in clients))
        return self._fetched()

    async def _load_markets(self, clients: Sequence[Any]) -> list[tuple[Venue, Any]]:
        async def load(venue: Venue, client: Any) -> tuple[Venue, Any] | None:
            try:
                await call(client.gate, self._settings, lambda: _markets(client))
            except FAILURES as error:
                self._failures.append(f"{venue.id} {venue.kind} markets: {_line(error)}")
                return None
            return venue, client

        loaded = await asyncio.gather(
            *(load(venue, client) for venue, client in zip(self._venues, clients, strict=True))
        )
        return [pair for pair in loaded if pair is not None]

    def _series(self, venue: Venue, client: Any, asset: str) -> Series:
        instrument = Instrument(venue.id, venue.symbols[asset], asset, venue.kind)

        async def calls(ask: Callable[[], Awaitable[Any]]) -> Any:
            return await call(client.gate, self._settings, ask)

        return Series(
            client, instrument, timedelta(seconds=venue.delay_s), calls, self._now, self._end, self._base_url is None
        )

    async def _read(self, series: Series) -> None:
        """Read the tables of one instrument; bars first where open interest takes its price from them."""
        venue, tables = series.instrument.venue, _tables_of(series, self._tables)
        bars = None
        if "ohlcv" in tables or ("open_interest" in tables and series.needs_price):
            since = self._since(venue, "ohlcv") if "ohlcv" in tables else self._end
            if "open_interest" in tables and series.needs_price:
                since = min(since, self._since(venue, "open_interest") - timedelta(hours=1))
            bars = await self._guarded("ohlcv", series, lambda: read_bars(series, since))
        if bars is not None and "ohlcv" in tables:
            begin = self._since(venue, "ohlcv")
            self._keep("ohlcv", bars[0].filter(pl.col("ts") >= begin), [g for g in bars[1] if g.end > begin])
        frame = bars[0] if bars is not None else None
        jobs: dict[str, Callable[[], Awaitable[tuple[pl.DataFrame, list[Gap]]]]] = {
            "open_interest": lambda: read_interest(series, self._since(venue, "open_interest"), frame),
            "funding": lambda: read_funding(series, self._since(venue, "funding")),
        }
        await asyncio.gather(*(self._read_table(name, series, jobs[name]) for name in tables if name in jobs))

    async def _read_table(
        self, name: str, series: Series, job: Callable[[], Awaitable[tuple[pl.DataFrame, list[Gap]]]]
    ) -> None:
        if (read := await self._guarded(name, series, job)) is not None:
            self._keep(name, *read)

    async def _guarded(
        self, name: str, series: Series, job: Callable[[], Awaitable[tuple[pl.DataFrame, list[Gap]]]]
    ) -> tuple[pl.DataFrame, list[Gap]] | None:
        where = f"{series.instrument.venue} {name} {series.instrument.symbol}"
        try:
            return await job()
        except FAILURES as error:
            self._failures.append(f"{where}: {_line(error)}")
            return None
        finally:
            if name in self._tables:
                self._done += 1
                self._progress(self._done, self._total, where)

    def _keep(self, name: str, rows: pl.DataFrame, gaps: list[Gap]) -> None:
        self._rows[name].append(rows)
        self._gaps.extend(gaps)

    def _since(self, venue: str, name: str) -> datetime:
        if isinstance(self._start, datetime):
            return self._start
        return self._start[venue, name]

    def _fetched(self) -> Fetched:
        if self._failures and not self._rows:
            raise VenueError(
                f"no venue could be read ({len(self._failures)} failures)", got=self._failures[0], do="try again later"
            )
        rows = {name: pl.concat([_empty(name), *self._rows[name]]).sort(table(name).key) for name in self._tables}
        order = sorted(self._gaps, key=lambda gap: (gap.venue, gap.table, gap.symbol, gap.start))
        return Fetched(rows, order, sorted(self._failures))


def _tables_of(series: Series, tables: Sequence[str]) -> list[str]:
    return [name for name in tables if name == "ohlcv" or series.instrument.kind == "perp"]


async def _markets(client: Any) -> None:
    if not await client.load_markets(True):  # again from the venue: an empty list would be kept otherwise
        raise ccxt.BadResponse(f"{client.id} sent an empty list of markets")


def _check_symbols(clients: Sequence[tuple[Venue, Any]]) -> None:
    wrong: list[tuple[str, list[str]]] = []
    for venue, client in clients:
        for asset, symbol in venue.symbols.items():
            market = client.markets.get(symbol)
            if market is None or not market["swap" if venue.kind == "perp" else "spot"] or market["base"] != asset:
                near = get_close_matches(symbol, client.markets, n=3, cutoff=0.4)
                wrong.append((f"market.venues {venue.id} ({venue.kind}): {asset} has no market {symbol!r}", near))
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        expected = ", ".join(wrong[0][1]) or "one of the venue's symbols"
        raise ConfigError(wrong[0][0] + more, expected=expected, do="correct the symbol in conf/market")


def _line(error: Exception) -> str:
    """Return one short line; ccxt's messages may hold a whole HTML page."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 240 else text[:237] + "..."
    return text if isinstance(error, OihedgeError) else f"{type(error).__name__}: {text}"


def _empty(name: str) -> pl.DataFrame:
    spec = table(name)
    columns = {**spec.columns, "available_at": spec.schema["available_at"]}
    return conform(pl.DataFrame(schema=columns), spec, stamps=False)
