"""Every venue of the capability table, asked over loopback through real clients: the rows are the embedded market's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from oihedge.config import load
from oihedge.core.clock import FixedClock
from oihedge.core.tables import conform, table
from oihedge.market.read import Fetched, fetch
from oihedge.market.settings import Market
from oihedge.market.venues import REACH
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

NOW = datetime(2024, 3, 12, 0, 5, tzinfo=UTC)
MIDNIGHT = NOW.replace(minute=0)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PERPS = sorted(venue for venue, kind in REACH if kind == "perp")
SPOTS = sorted(venue for venue, kind in REACH if kind == "spot")


@pytest.fixture(scope="module")
def settings() -> Market:
    given = load(["market=all_venues"]).market
    venues = tuple(venue.model_copy(update={"symbols": {"BTC": venue.symbols["BTC"]}}) for venue in given.venues)
    return given.model_copy(update={"venues": venues, "interest_now": False, "greeks": 6})


@pytest.fixture(scope="module")
def embedded() -> EmbeddedMarket:
    return EmbeddedMarket(load().simulator)


@pytest.fixture(scope="module")
def server(embedded):
    with LoopbackServer(embedded, FixedClock(NOW)) as served:
        yield served


@pytest.fixture(scope="module", params=[2, pytest.param(65, marks=pytest.mark.long)], ids="{} days".format)
def start(request) -> datetime:
    """Two days, or as many as take every venue beyond its recent rows and its reach."""
    return MIDNIGHT - timedelta(days=request.param)


@pytest.fixture(scope="module")
def fetched(settings, server, start) -> Fetched:
    return fetch(settings, start=start, end=NOW, now=NOW, base_url=server.url)


def of(rows: pl.DataFrame, venue: str, **more: str) -> pl.DataFrame:
    return rows.filter(pl.col("venue") == venue, *(pl.col(name) == value for name, value in more.items()))


def test_every_table_is_there_complete_and_known_by_now(fetched):
    assert fetched.failures == []
    for name, rows in fetched.rows.items():
        assert conform(rows, table(name), stamps=False).equals(rows)
        assert rows.select(table(name).key).is_unique().all()
        assert rows["available_at"].max() <= NOW
        assert (rows["available_at"] >= rows["ts"]).all()
        assert {venue for venue, kind in REACH if name in REACH[venue, kind].tables} == set(rows["venue"])


def test_what_a_late_answer_says_of_the_present_is_known_when_it_was_said(settings, embedded):
    later = NOW + 4 * MINUTE
    with LoopbackServer(embedded, FixedClock(later)) as late:
        tables = ("funding_now", "depth", "option_chain", "open_interest")
        now = settings.model_copy(update={"interest_now": True})
        told = fetch(now, start=MIDNIGHT, end=NOW, now=NOW, base_url=late.url, tables=tables)
    assert told.failures == []
    for name in tables:
        rows = told.rows[name].filter(pl.col("ts") == NOW)
        known = set(rows["available_at"])
        assert {NOW, later} >= {at.replace(second=0, microsecond=0) for at in known}, name
        assert max(known) >= later, name
        assert (rows["available_at"] >= NOW).all()


@pytest.mark.parametrize(("venue", "kind"), [*((v, "perp") for v in PERPS), *((v, "spot") for v in SPOTS)])
def test_bars_are_the_markets_own_without_a_hole(venue, kind, fetched, embedded, start):
    got = of(fetched.rows["ohlcv"], venue, kind=kind)
    said = embedded.bars("BTC", venue, kind, start, MIDNIGHT)
    assert got["ts"].to_list() == said["ts"].to_list()
    for column in ("open", "high", "low", "close", "volume"):
        assert got[column].to_list() == pytest.approx(said[column].to_list(), rel=2e-3), column


@pytest.mark.parametrize("venue", [v for v in PERPS if "mark" in REACH[v, "perp"].offers])
def test_mark_and_index_bars_have_no_volume_and_stand_beside_the_trades(venue, fetched):
    rows = fetched.rows["ohlcv"]
    perp, mark, index = (of(rows, venue, kind=kind) for kind in ("perp", "mark", "index"))
    assert mark["ts"].to_list() == index["ts"].to_list() == perp["ts"].to_list()
    assert mark["volume"].null_count() == mark.height
    assert ((mark["close"] / perp["close"] - 1).abs() < 0.02).all()


@pytest.mark.parametrize("venue", [v for v in PERPS if "open_interest" in REACH[v, "perp"].offers])
def test_open_interest_is_the_markets_own_in_coins_and_in_usd_of_its_instant(venue, fetched, embedded, start):
    got = of(fetched.rows["open_interest"], venue)
    said = embedded.open_interest("BTC", venue, start, MIDNIGHT).rename({"oi_base": "coins", "oi_usd": "usd"})
    both = said.join(got, on="ts", how="inner")
    reached = REACH[venue, "perp"].offers["open_interest"].oldest(HOUR)
    hours = (MIDNIGHT - start) // HOUR
    assert both.height >= (hours if reached is None else min(hours, reached // HOUR)) - 2
    assert both["oi_base"].to_list() == pytest.approx(both["coins"].to_list(), rel=1e-4)
    assert both["oi_usd"].to_list() == pytest.approx(both["usd"].to_list(), rel=0.01)
    lost = [gap for gap in fetched.gaps if gap.venue == venue and gap.table == "open_interest"]
    assert bool(lost) == (reached is not None and reached < MIDNIGHT - start)


@pytest.mark.parametrize("venue", PERPS)
def test_payments_are_the_markets_own_with_their_interval(venue, fetched, embedded, start):
    got = of(fetched.rows["funding"], venue)
    owed = embedded.funding("BTC", venue, start, NOW).filter(pl.col("ts") < NOW)
    assert got["ts"].to_list() == owed["ts"].to_list()
    assert got["rate"].to_list() == pytest.approx(owed["rate"].to_list(), abs=1e-8)
    assert got["interval_h"].to_list() == owed["interval_h"].cast(pl.Float64).to_list()


@pytest.mark.parametrize("venue", PERPS)
def test_the_present_is_one_row_a_venue_at_our_now(venue, fetched):
    for name in ("funding_now", "depth"):
        rows = fetched.rows[name].filter(pl.col("venue") == venue, pl.col("symbol").str.contains(":"))
        assert rows["ts"].to_list() == [NOW], name
    quoted = of(fetched.rows["funding_now"], venue).row(0, named=True)
    assert abs(quoted["rate"]) < 0.01
    assert NOW < quoted["pays_at"] <= NOW + 8 * HOUR
    book = of(fetched.rows["depth"], venue, kind="perp").row(0, named=True)
    assert 0 < book["ask"] - book["bid"] < 0.001 * book["ask"]


def test_liquidations_and_ratios_speak_of_whole_hours_once_those_are_over(fetched, embedded, start):
    rows = fetched.rows["liquidations"]
    assert (rows["available_at"] - rows["ts"]).min() >= HOUR
    said = embedded.liquidations("BTC", "gate", start, MIDNIGHT)
    assert rows.height == (MIDNIGHT - start) // HOUR
    assert rows["long_usd"].sum() == pytest.approx(said["long_usd"].sum(), rel=0.01)
    measures = dict(fetched.rows["long_short"].group_by("venue").agg(pl.col("measure").n_unique()).rows())
    assert measures == {"binanceusdm": 4, "bybit": 1, "okx": 3, "bitget": 1, "gate": 4}
    assert (fetched.rows["long_short"]["ratio"] > 0).all()


def test_options_come_with_volatility_as_a_share_and_greeks_for_those_nearest_to_the_money(fetched, start):
    index, chain = fetched.rows["implied_vol"], fetched.rows["option_chain"]
    assert index.height == (MIDNIGHT - start) // HOUR
    assert index["close"].is_between(0.1, 3.0).all()
    assert (chain["expiry"] > NOW).all()
    near = chain.drop_nulls("delta")
    assert near.height == 6
    assert ((near["strike"] / near["underlying_price"]).log().abs() < 0.1).all()
    calls, puts = (near.filter(pl.col("option_type") == side) for side in ("call", "put"))
    assert (calls["delta"] > 0).all()
    assert (puts["delta"] < 0).all()


@pytest.mark.parametrize("venue", sorted({venue for venue, kind in REACH if kind != "option"}))
def test_minute_bars_come_page_by_page_and_add_up_to_the_hours(venue, settings, server):
    minutes = settings.model_copy(update={"timeframes": ("1h", "1m"), "price_kinds": ("trade",)})
    begin = MIDNIGHT - timedelta(hours=26)
    rows = fetch(
        minutes, start=begin, end=MIDNIGHT, now=NOW, base_url=server.url, venues=[venue], tables=["ohlcv"]
    ).rows["ohlcv"]
    for kind in set(rows["kind"]):
        fine, hours = (of(rows, venue, kind=kind, timeframe=frame) for frame in ("1m", "1h"))
        assert fine["ts"].to_list() == [begin + n * MINUTE for n in range(26 * 60)]
        assert ((fine["available_at"] - fine["ts"]) <= MINUTE + timedelta(seconds=10)).all()
        built = fine.group_by_dynamic("ts", every="1h").agg(
            pl.col("high").max(), pl.col("low").min(), pl.col("close").last()
        )
        assert built["close"].to_list() == pytest.approx(hours["close"].to_list(), rel=1e-3)
        assert built["high"].to_list() == pytest.approx(hours["high"].to_list(), rel=1e-3)


def test_the_present_of_venues_with_a_history_is_recorded_only_on_request(settings, server):
    wanted = settings.model_copy(update={"interest_now": True})
    rows = fetch(
        wanted, start=MIDNIGHT - HOUR, end=NOW, now=NOW, base_url=server.url, venues=["okx", "bybit"],
        tables=["open_interest"],
    ).rows["open_interest"]  # fmt: skip
    assert set(rows.filter(pl.col("ts") == NOW)["venue"]) == {"okx", "bybit"}
