"""Rows per second from a loopback venue to validated Delta rows, beside the bare ccxt calls that only fetch them.

Run by `make bench-ingest`. A server process of its own answers from memory what it was asked before, so that what is
measured is the client's work; every contestant asks once before the clock starts, then they take turns. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import features
import polars as pl

from oihedge.config import Config, load

END, DAY, HOUR = datetime(2026, 6, 30, tzinfo=UTC), timedelta(days=1), timedelta(hours=1)
BARS_D, INTEREST_D, RUNS, AT_ONCE = 100, 1900, 5, 8
SHORT_D = 90
PERPS = {asset: f"{asset}/USDT:USDT" for asset in ("BTC", "ETH", "NEAR")}
FAST = ("market.backoff_s=0.1",)


@cache
def settings(table: str) -> Config:
    """Return settings that read one table of Bybit's three perps: minute bars, or hourly open interest."""
    perps = ",".join(f'{asset}:"{symbol}"' for asset, symbol in PERPS.items())
    bybit = f"{{id:bybit,kind:perp,delay_s:5,taker_fee:0.0005,symbols:{{{perps}}}}}"
    venues = ("features.perp_venue=bybit", "features.oi_venues=[bybit]", "features.funding_venues=[bybit]",
              "features.price_kind=perp", "features.spot_venue=bybit", "evaluation.hedge_venue=bybit")  # fmt: skip
    frame = "1m" if table == "ohlcv" else "1h"
    return load(
        [*FAST, *venues, f"market.venues=[{bybit}]", f"market.tables=[{table}]", f"market.timeframes=[{frame}]"],
    )


def serve() -> None:
    """Serve the embedded market, standing at END, from memory once an address was asked."""
    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from oihedge.core.clock import FixedClock
    from oihedge.servers.server import free_port
    from oihedge.simulator.market import EmbeddedMarket
    from oihedge.simulator.server import create_app

    class Remembering:
        def __init__(self, app: ASGIApp) -> None:
            self._app, self._kept = app, dict[tuple[str, bytes], list[Message]]()

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            key = (scope["path"], scope["query_string"])
            if key not in self._kept:
                sent: list[Message] = []

                async def keep(message: Message) -> None:
                    sent.append(message)

                await self._app(scope, receive, keep)
                self._kept[key] = sent
            for message in self._kept[key]:
                await send(message)

    port = free_port()
    market = EmbeddedMarket(load(("simulator.origin=2021-01-01T00:00:00Z",)).simulator)
    market.extend(END)
    print(f"http://127.0.0.1:{port}", flush=True)
    app = Remembering(create_app(market, FixedClock(END)))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, lifespan="off")


@contextmanager
def served() -> Iterator[str]:
    """Yield the address of the server process."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        time.sleep(1.0)
        try:
            yield url
        finally:
            process.kill()  # it would wait for the connections that clients keep open


async def bare(
    url: str, ask: Callable[[Any, str, int, int], Awaitable[list[Any]]], start: datetime, width: timedelta
) -> int:
    """Page through [start, END) with an unmodified ccxt client and return the rows."""
    import ccxt.async_support as ccxt

    client = ccxt.bybit({"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["linear"]}}})
    client.urls["api"] = dict.fromkeys(client.urls["api"], url)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(symbol: str, since: int, until: int) -> int:
        async with at_once:
            return len(await ask(client, symbol, since, until))

    try:
        await client.load_markets()
        step, last = int(width / timedelta(milliseconds=1)), int(END.timestamp() * 1000)
        spans = [(at, min(at + step, last)) for at in range(int(start.timestamp() * 1000), last, step)]
        return sum(await asyncio.gather(*(one(symbol, *span) for symbol in PERPS.values() for span in spans)))
    finally:
        await client.close()


async def bars_unified(client: Any, symbol: str, since: int, until: int) -> list[Any]:
    """Ask as most people do."""
    return list(await client.fetch_ohlcv(symbol, "1m", since, 1000, {"until": until - 1}))


async def bars_raw(client: Any, symbol: str, since: int, until: int) -> list[Any]:
    """Ask without ccxt's parsing of rows."""
    asked = {
        "category": "linear",
        "symbol": client.market(symbol)["id"],
        "interval": "1",
        "start": since,
        "end": until - 1,
        "limit": 1000,
    }
    return list((await client.public_get_v5_market_kline(asked))["result"]["list"])


async def interest_unified(client: Any, symbol: str, since: int, until: int) -> list[Any]:
    """Ask as most people do."""
    return list(await client.fetch_open_interest_history(symbol, "1h", since, 200, {"until": until - 1}))


async def interest_raw(client: Any, symbol: str, since: int, until: int) -> list[Any]:
    """Ask without ccxt's parsing of rows."""
    asked = {
        "category": "linear",
        "symbol": client.market(symbol)["id"],
        "intervalTime": "1h",
        "startTime": since,
        "endTime": until - 1,
        "limit": 200,
    }
    return list((await client.public_get_v5_market_open_interest(asked))["result"]["list"])


def fetched(url: str, table: str, days: int) -> int:
    """Fetch and parse the days into frames, write nothing, and return the rows."""
    from oihedge.market.read import fetch

    market = settings(table).market
    return int(
        fetch(market, start=END - days * DAY, end=END, now=END, base_url=url, tables=(table,)).rows[table].height
    )


def through(url: str, table: str, days: int, layer: Literal["raw", "validated"] = "validated") -> int:
    """Backfill the days into a new lake, judge them unless `layer` is raw, and return the rows of that layer."""
    from oihedge.jobs import backfill, validate
    from oihedge.jobs.opening import open_lake

    with tempfile.TemporaryDirectory() as home:
        config = settings(table).model_copy(update={"home": Path(home)})
        backfill.run(config, start=END - days * DAY, end=END, as_of=END, market_url=url)
        if layer == "validated":
            validate.run(config, as_of=END)
        return int(open_lake(config).rows(layer, table).select(pl.len()).collect().item())


def race(url: str, table: str, days: int, contestants: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Let them take turns; print and return the median rows per second of each.

    Beside the seconds, the processor time of this process: what more cores could not shorten below its share of them.
    """
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    worked: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(RUNS + 1):
        for name, run in contestants.items():
            began, busy = time.perf_counter(), time.process_time()
            rows = run()
            if turn:  # the first turn fills the server's memory
                speeds[name].append(rows / (time.perf_counter() - began))
                worked[name].append(time.process_time() - busy)
    print(f"\n{table}: {rows:,} rows of {days} days, median of {RUNS} (min to max)")
    middle = {name: statistics.median(found) for name, found in speeds.items()}
    unified = next(iter(middle.values()))
    for name, found in speeds.items():
        span = f"({min(found):,.0f} to {max(found):,.0f})"
        took = f"{rows / middle[name]:5.2f} s, {statistics.median(worked[name]):5.2f} s of a core"
        print(
            f"  {name:34} {middle[name]:10,.0f} rows/s {middle[name] / unified:5.2f} of the unified call {took} {span}"
        )
    return middle


def contestants(url: str, table: str, days: int) -> dict[str, Callable[[], int]]:
    """Name who takes part."""
    start = END - days * DAY
    asks = {
        "ohlcv": (bars_unified, bars_raw, timedelta(minutes=1000)),
        "open_interest": (interest_unified, interest_raw, 200 * HOUR),
    }
    unified, raw, width = asks[table]
    return {
        "ccxt unified call, rows dropped": lambda: asyncio.run(bare(url, unified, start, width)),
        "ccxt raw method, rows dropped": lambda: asyncio.run(bare(url, raw, start, width)),
        "oihedge, parsed, written nowhere": lambda: fetched(url, table, days),
        "oihedge, to raw Delta rows": lambda: through(url, table, days, "raw"),
        "oihedge, to validated Delta rows": lambda: through(url, table, days),
    }


def peak(url: str, days: int) -> float:
    """Return the peak memory in MB of a process that backfills and judges so many days of minute bars."""
    command = [sys.executable, __file__, "--through", str(days), "--url", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--through", type=int)
    parser.add_argument("--url")
    parser.add_argument("--million", type=float, default=40.0, help="minute rows of the feature build")
    told = parser.parse_args()
    if told.serve:
        return serve()
    if told.through:
        through(told.url, "ohlcv", told.through)
        print(features.peak_mb())
        return None
    with served() as url:
        ratios = {}
        for table, days in (("ohlcv", BARS_D), ("open_interest", INTEREST_D)):
            unified, *_, ours = race(url, table, days, contestants(url, table, days)).values()
            ratios[table] = ours / unified
        short, long = peak(url, SHORT_D), peak(url, 10 * SHORT_D)
    print(f"\npeak memory of a backfill of {SHORT_D} days {short:.0f} MB, of {10 * SHORT_D} days {long:.0f} MB\n")
    built = features.measured(told.million)
    line = {
        "ohlcv_ratio_vs_ccxt": round(ratios["ohlcv"], 2), "oi_ratio_vs_ccxt": round(ratios["open_interest"], 2),
        "peak_rss_mb_short": round(short), "peak_rss_mb_long": round(long), **built,
    }  # fmt: skip
    print(json.dumps(line))
    return None


if __name__ == "__main__":
    main()
