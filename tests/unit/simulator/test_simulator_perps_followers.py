"""Following perp venues derive from the market and change nothing in it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from oihedge.core.errors import ConfigError
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.settings import Simulator

HOUR = timedelta(hours=1)
FOLLOWERS = ("okx", "bitget", "gate", "dydx")
RECORDED = {
    "binanceusdm": "c1a1f72d05bec1525dd99bde", "bybit": "854bfa2e2f99603fed9247de",
    "hyperliquid": "431c21eebdc190db73d18298", "binance": "c9e90b0e395ebf896e584a92",
    "*": "e892ff5eddc572a9ea51d24e",
}  # fmt: skip
"""Digests of 40 days of rows, taken before there was any following venue."""


def digest(rows: pl.DataFrame) -> str:
    total = hashlib.sha256()
    for column in rows.iter_columns():
        total.update(column.name.encode())
        total.update((column.dt.epoch("us") if column.name == "ts" else column).to_numpy().tobytes())
    return total.hexdigest()[:16]


def leaders_digests(market: EmbeddedMarket) -> dict[str, str]:
    start, day = market.origin, timedelta(days=1)
    whole, few = (start, start + 40 * day), (start + 20 * day, start + 23 * day)
    found: dict[str, list[str]] = {}

    def note(venue: str, name: str, rows: pl.DataFrame) -> None:
        found.setdefault(venue, []).append(f"{name} {digest(rows)}")

    for asset in market.assets:
        kinds = [(venue, kind) for venue in market.settings.perps for kind in ("perp", "mark")]
        kinds += [(venue, "spot") for venue in market.settings.spots] + [("*", "index")]
        for venue, kind in kinds:
            note(venue, f"bars {asset} {venue} {kind} 1h", market.bars(asset, venue, kind, *whole))  # type: ignore[arg-type]
            note(venue, f"bars {asset} {venue} {kind} 5m", market.bars(asset, venue, kind, *few, "5m"))  # type: ignore[arg-type]
        for venue in market.settings.perps:
            note(venue, f"oi {asset} {venue} 1h", market.open_interest(asset, venue, *whole))
            note(venue, f"oi {asset} {venue} 5m", market.open_interest(asset, venue, *few, "5m"))
            note(venue, f"funding {asset} {venue}", market.funding(asset, venue, *whole))
    return {v: hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:24] for v, rows in found.items()}


def read(market: EmbeddedMarket, what: str, venue: str, start: datetime, end: datetime) -> pl.DataFrame:
    rows: dict[str, Any] = {
        "perp": lambda: market.bars("ETH", venue, "perp", start, end),
        "mark": lambda: market.bars("ETH", venue, "mark", start, end, "5m"),
        "interest": lambda: market.open_interest("ETH", venue, start, end, "5m"),
        "funding": lambda: market.funding("ETH", venue, start, end),
        "liquidations": lambda: market.liquidations("ETH", venue, start, end),
    }
    return rows[what]()  # type: ignore[no-any-return]


TABLES = ("perp", "mark", "interest", "funding", "liquidations")


def test_the_rows_of_the_leading_venues_are_what_they_were_before_there_were_followers(simulator: Simulator) -> None:
    market = EmbeddedMarket(simulator)
    for venue in FOLLOWERS:
        market.open_interest("BTC", venue, market.origin, market.origin + 5 * HOUR)
    assert leaders_digests(market) == RECORDED


@pytest.mark.parametrize("what", TABLES)
def test_a_follower_s_rows_do_not_depend_on_the_window_or_on_what_was_read_before(
    simulator: Simulator, market: EmbeddedMarket, what: str
) -> None:
    end = market.origin + timedelta(days=9)
    whole = read(market, what, "gate", market.origin, end)
    fresh = EmbeddedMarket(simulator)
    for first, last in ((150, 171), (3, 30), (47, 49)):
        start, stop = fresh.origin + first * HOUR, fresh.origin + last * HOUR
        part = read(fresh, what, "gate", start, stop)
        closed: Any = "both" if what in ("interest", "funding") else "left"
        assert part.height
        assert_frame_equal(part, whole.filter(pl.col("ts").is_between(start, stop, closed=closed)), check_exact=True)


@pytest.mark.parametrize("what", TABLES)
def test_another_follower_leaves_a_follower_s_rows(simulator: Simulator, market: EmbeddedMarket, what: str) -> None:
    alone = EmbeddedMarket(simulator.model_copy(update={"followers": {"okx": simulator.followers["okx"]}}))
    window = (market.origin, market.origin + timedelta(days=4))
    assert_frame_equal(read(alone, what, "okx", *window), read(market, what, "okx", *window), check_exact=True)


@pytest.mark.parametrize("venue", FOLLOWERS)
def test_a_follower_s_bars_are_bars(market: EmbeddedMarket, venue: str) -> None:
    window = (market.origin, market.origin + timedelta(days=20))
    for kind in ("perp", "mark"):
        bars, small = (market.bars("NEAR", venue, kind, *window, step) for step in ("1h", "5m"))
        assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
        assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()
        assert (small["open"][1:] == small["close"][:-1]).all()
        hours = small.group_by_dynamic("ts", every="1h").agg(
            pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close"), pl.sum("volume").round(6)
        )
        assert_frame_equal(hours, bars, check_exact=True)
        assert (bars["volume"].sum() > 0) == (kind == "perp")


@pytest.mark.parametrize("venue", FOLLOWERS)
def test_a_follower_follows(market: EmbeddedMarket, venue: str) -> None:
    window = (market.origin, market.origin + timedelta(days=60))
    ours, index = (market.bars("BTC", venue, kind, *window)["close"] for kind in ("perp", "index"))
    premium = np.log(ours.to_numpy() / index.to_numpy())
    assert abs(premium.mean()) < 0.0005
    assert 0.0001 < premium.std() < 0.0015
    held = {v: market.open_interest("BTC", v, *window)["oi_base"].to_numpy() for v in (*market.settings.perps, venue)}
    leaders = sum(held[v] for v in market.settings.perps)
    share = held[venue] / leaders
    assert np.exp(np.log(share).mean()) == pytest.approx(market.settings.followers[venue].oi_share, rel=0.15)
    assert np.corrcoef(np.log(held[venue]), np.log(leaders))[0, 1] > 0.7
    assert np.diff(np.log(held[venue])).std() < 0.025


@pytest.mark.parametrize("venue", FOLLOWERS)
def test_a_follower_values_its_open_interest_at_its_own_mark(market: EmbeddedMarket, venue: str) -> None:
    window = (market.origin, market.origin + timedelta(days=3))
    held, marks = market.open_interest("ETH", venue, *window, "5m"), market.bars("ETH", venue, "mark", *window, "5m")
    both = held.join(marks, on="ts")
    assert both.height == 3 * 288
    assert np.allclose(both["oi_usd"], both["oi_base"] * both["open"], rtol=1e-12, atol=1e-3)


def test_longs_are_liquidated_where_the_market_falls(market: EmbeddedMarket) -> None:
    window = (market.origin, market.origin + timedelta(days=60))
    forced = market.liquidations("BTC", "gate", *window)
    hours = forced.group_by_dynamic("ts", every="1h").agg(pl.sum("long_usd"), pl.sum("short_usd"))
    held = market.open_interest("BTC", "gate", *window)
    rows = hours.join(held, on="ts").with_columns(pl.col("oi_base").log().diff().shift(-1).alias("change"))
    worst = rows.sort("long_usd", descending=True).head(15)
    assert worst["change"].mean() < -0.01  # type: ignore[operator]
    assert float(rows["change"].mean() or 0.0) > -0.001  # type: ignore[arg-type]
    assert (forced["long_usd"] >= 0).all()
    assert (forced["short_usd"] >= 0).all()


def test_what_the_running_interval_would_pay_uses_only_hours_that_are_over(market: EmbeddedMarket) -> None:
    paid = market.origin + timedelta(days=3)
    now = paid + timedelta(hours=7, minutes=59)
    expected = market.funding("BTC", "okx", paid, paid + 8 * HOUR)["rate"].to_list()[-1]
    assert market.funding_so_far("BTC", "okx", now) == pytest.approx(expected, abs=2e-4)
    assert market.funding_so_far("BTC", "dydx", now) == market.funding(
        "BTC", "dydx", paid + 7 * HOUR, paid + 7 * HOUR
    )["rate"].item()  # fmt: skip


def test_an_empty_window_far_ahead_computes_nothing(simulator: Simulator) -> None:
    market = EmbeddedMarket(simulator)
    start, end = datetime(2199, 5, 5, 5, 30, tzinfo=UTC), market.origin + 3 * HOUR
    for venue in ("bybit", "gate"):
        assert market.bars("BTC", venue, "perp", start, end).is_empty()
        assert market.open_interest("BTC", venue, start, end).is_empty()
        assert market.funding("BTC", venue, start, end).is_empty()
    assert market.liquidations("BTC", "gate", start, end).is_empty()
    assert market._paths == []


def test_liquidations_of_a_leading_venue_are_refused_by_name(market: EmbeddedMarket) -> None:
    with pytest.raises(ConfigError, match="no liquidations of BTC on bybit"):
        market.liquidations("BTC", "bybit", market.origin, market.origin + HOUR)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["followers"].update(bybit=s["followers"]["okx"]), "both perps and followers"),
        (lambda s: s["followers"]["okx"]["instruments"].pop("NEAR"), "no instrument for asset 'NEAR'"),
        (lambda s: s["followers"]["okx"].update(funding_interval_h=7), "does not divide a day"),
        (lambda s: s["followers"]["okx"].update(oi_share=0.0), "oi_share"),
    ],
)
def test_settings_of_followers_that_make_no_sense_are_refused(simulator: Simulator, change: Any, says: str) -> None:
    settings = simulator.model_dump(mode="json")
    change(settings)
    with pytest.raises(ValidationError, match=says):
        Simulator.model_validate(settings, strict=False)
