"""The shipped specs on the recorded market data, where it is there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from oihedge.config import ROOT
from oihedge.core.tables import conform, table
from oihedge.market.importing import load_spec, read_import

REALDATA = ROOT.parent / "shared" / "realdata"
SPECS = sorted((ROOT / "conf" / "import").glob("*.yaml"))
needs_data = pytest.mark.skipif(not REALDATA.is_dir(), reason=f"recorded market data is not at {REALDATA}")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_shipped_spec_is_valid(path: Path):
    assert load_spec(path).venue


def imported(name: str, prices: pl.DataFrame | None = None) -> pl.DataFrame:
    def opens(venue: str, symbol: str) -> pl.DataFrame:
        assert prices is not None
        return prices.filter(pl.col("venue") == venue, pl.col("symbol") == symbol).select("ts", "open")

    spec = load_spec(ROOT / "conf" / "import" / f"{name}.yaml")
    told: list[str] = []
    name, rows = read_import(spec, REALDATA, opens, told.append)
    assert told == []
    assert conform(rows, table(name), stamps=False).equals(rows)
    assert rows.select(table(name).key).is_unique().all()
    return rows


@needs_data
def test_a_year_of_perp_bars_funding_and_a_quarter_of_open_interest_come_in():
    bars, funding = imported("perps_2025_candles"), imported("perps_2025_funding")
    interest = imported("perps_2025_open_interest", bars)
    assert set(bars["venue"]) == {"binanceusdm", "bybit", "hyperliquid"}
    btc = bars.filter(pl.col("venue") == "binanceusdm", pl.col("asset") == "BTC")
    assert btc.height == 8736
    assert btc["ts"].diff().drop_nulls().n_unique() == 1
    hours = funding.group_by("venue", "asset").agg(pl.col("interval_h").unique()).sort("venue", "asset")
    assert {tuple(row) for row in hours["interval_h"].to_list()} == {(8.0,), (4.0,), (1.0,)}
    assert set(interest["venue"]) == {"hyperliquid"}
    assert interest["oi_base"].null_count() == 0
    assert "approximation" in interest["unit_source"][0]


@needs_data
@pytest.mark.parametrize("asset", ["ETH", "SOL", "HYPE"])
def test_open_interest_of_an_hour_does_not_know_the_price_after_it(asset):
    bars = imported("perps_2025_candles")
    interest = imported("perps_2025_open_interest", bars).filter(pl.col("asset") == asset)
    perp = bars.filter(pl.col("venue") == "binanceusdm", pl.col("asset") == asset)
    later = perp.select("ts", after=pl.col("open").log().shift(-1) - pl.col("open").log())
    joined = interest.sort("ts").join(later, on="ts")
    usd = joined.select(pl.corr(pl.col("oi_usd").log().diff(), pl.col("after"))).item()
    coins = joined.select(pl.corr(pl.col("oi_base").log().diff(), pl.col("after"))).item()
    assert abs(usd) < 0.12
    assert abs(coins) < 0.12


@needs_data
def test_the_crash_of_august_2024_is_where_it_was():
    bars = imported("coinalyze_2024_ohlcv")
    interest = imported("coinalyze_2024_open_interest", bars).filter(pl.col("asset") == "BTC")
    day = bars.filter(pl.col("asset") == "BTC", pl.col("ts") == datetime(2024, 8, 5, tzinfo=UTC))
    assert day["open"].to_list() == [58144.5]  # the daily open that every price page shows, give or take the basis
    assert set(bars["asset"]) == {"BTC", "ETH", "SOL"}
    assert interest["ts"].min() == datetime(2024, 6, 19, 22, tzinfo=UTC)
    before = interest.filter(pl.col("ts") == datetime(2024, 8, 5, tzinfo=UTC))["oi_base"].item()
    after = interest.filter(pl.col("ts") == datetime(2024, 8, 5, 16, tzinfo=UTC))["oi_base"].item()
    assert after < 0.9 * before
