"""The embedded market through its two doors, REST and archive files: what comes in is what the market says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from oihedge.config import load
from oihedge.core.clock import FixedClock
from oihedge.core.tables import table
from oihedge.core.types import Instrument
from oihedge.market.archive import read_archives
from oihedge.market.limits import Limiter
from oihedge.market.read import fetch
from oihedge.market.series import Series
from oihedge.market.series_now import read_interest_now
from oihedge.simulator.archive import write_archives
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

NOW = datetime(2025, 3, 1, 0, 5, tzinfo=UTC)
MIDNIGHT = NOW.replace(minute=0)
START = MIDNIGHT - timedelta(days=29)


@pytest.fixture(scope="module")
def config():
    return load()


@pytest.fixture(scope="module")
def embedded(config) -> EmbeddedMarket:
    return EmbeddedMarket(config.simulator)


@pytest.fixture(scope="module")
def fetched(config, embedded):
    with LoopbackServer(embedded, FixedClock(NOW)) as server:
        tables = (*config.market.tables, "long_short")
        return fetch(config.market, start=START, end=NOW, now=NOW, base_url=server.url, tables=tables)


def test_unmodified_clients_bring_every_series_of_the_embedded_market(config, embedded, fetched):
    assert fetched.failures == []
    for venue in config.market.venues:
        for asset, symbol in venue.symbols.items():
            got = fetched.rows["ohlcv"].filter(pl.col("venue") == venue.id, pl.col("symbol") == symbol)
            said = embedded.bars(asset, venue.id, venue.kind, START, MIDNIGHT)
            assert got["ts"].to_list() == said["ts"].to_list()
            assert got["close"].to_list() == pytest.approx(said["close"].to_list(), rel=1e-6)


def test_open_interest_and_funding_are_the_markets_own(embedded, fetched):
    for venue in ("binanceusdm", "bybit"):
        chosen = pl.col("venue") == venue, pl.col("asset") == "ETH"
        got = fetched.rows["open_interest"].filter(*chosen)
        said = embedded.open_interest("ETH", venue, START, MIDNIGHT).filter(pl.col("ts") >= got["ts"].min())
        assert got["ts"].to_list() == said["ts"].to_list()
        assert got["oi_base"].to_list() == pytest.approx(said["oi_base"].to_list(), rel=1e-6)
        assert got["oi_usd"].to_list() == pytest.approx(said["oi_usd"].to_list(), rel=0.01)
        paid = fetched.rows["funding"].filter(*chosen)
        owed = embedded.funding("ETH", venue, START, NOW).join(paid, on="ts", how="inner", suffix="_got")
        assert paid.height == owed.height > 80
        assert owed["interval_h"].cast(pl.Float64).to_list() == owed["interval_h_got"].to_list()


def test_archive_files_and_rest_bring_the_same_rows(config, embedded, fetched, tmp_path):
    write_archives(embedded, tmp_path, start=START, end=MIDNIGHT)
    archived = read_archives(tmp_path, config.market, start=START, end=MIDNIGHT)
    for name, rows in archived.items():
        both = rows.join(fetched.rows[name], on=list(table(name).key), how="inner", suffix="_rest")
        assert both.height > 0.9 * rows.height, name
        for column in (*table(name).values, "available_at"):
            if column == "ratio":  # the venue writes four decimals over REST and more into its files
                assert both[column].to_list() == pytest.approx(both[f"{column}_rest"].to_list(), abs=5e-5)
            else:
                assert both[column].equals(both[f"{column}_rest"]), (name, column)


@pytest.mark.parametrize(
    ("minutes", "recorded"),
    [(2, True), (-3, True), (600, False), (None, False)],
    ids=["just after", "just before", "hours later", "unsaid"],
)
def test_a_real_venues_present_is_recorded_only_when_its_clock_agrees_with_ours(minutes, recorded):
    async def present(asked):
        context = {"openInterest": "5.0", "markPx": "20"}
        return [{"universe": [{"name": "BTC"}]}, [context]]

    async def calls(ask):
        return await ask()

    served = None if minutes is None else NOW + timedelta(minutes=minutes)
    client = SimpleNamespace(publicPostInfo=present, served_at=served)
    instrument = Instrument("hyperliquid", "BTC/USDC:USDC", "BTC", "perp")
    listed = {"id": "0", "base": "BTC", "baseName": "BTC", "contractSize": 1.0}
    series = Series(client, instrument, listed, timedelta(seconds=5), calls, Limiter([]), NOW, NOW, True)
    rows, gaps = asyncio.run(read_interest_now(series, START))
    assert rows["oi_usd"].to_list() == ([100.0] if recorded else [])
    assert len(gaps) == 1
