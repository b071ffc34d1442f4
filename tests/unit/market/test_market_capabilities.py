"""The capability table is true to ccxt, to the dialects and to its page in docs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import ccxt
import pytest
from fakes.venue_payloads import MARKETS, T0, T1

from oihedge.config import load
from oihedge.core.tables import VENUE_TABLES
from oihedge.market.capabilities import page
from oihedge.market.dialects import dialect
from oihedge.market.dialects.answers import Query
from oihedge.market.limits import Limiter
from oihedge.market.settings import Limit
from oihedge.market.venues import REACH, offered, table_of

ROOT = Path(__file__).parents[3]
VENUES = [pytest.param(*of, id=" ".join(of)) for of in REACH]


def test_the_committed_page_is_the_table():
    written = (ROOT / "docs" / "capabilities.md").read_text()
    assert written == page(), "run: python -m oihedge.market.capabilities > docs/capabilities.md"


@pytest.mark.parametrize(("venue", "kind"), VENUES)
def test_every_raw_method_of_the_table_is_ccxts_and_paced_as_ccxt_paces_it(venue, kind):
    client = getattr(ccxt, venue)()
    reach = REACH[venue, kind]
    assert client.rateLimit == pytest.approx(reach.pace_ms, rel=0.02)
    costs = dict(_costs(client.api))
    for name, offer in reach.offers.items():
        for method in filter(None, (offer.method, offer.older, offer.also)):
            assert callable(getattr(client, method)), (name, method)
        assert offer.cost == _cost(costs[offer.method.lower()], venue, kind, name, offer.cap), name


def _costs(node, path=()):
    for key, inner in node.items():
        if key not in ("get", "post"):
            if isinstance(inner, dict):
                yield from _costs(inner, (*path, key))
            continue
        for route, cost in inner.items() if isinstance(inner, dict) else ((route, 1) for route in inner):
            parts = [*path, key, *(part for part in re.split("[^a-zA-Z0-9]", route) if part)]
            yield "".join(parts).lower(), cost


def _cost(told, venue, kind, name, cap):
    if not isinstance(told, dict):
        return told
    if "byType" in told:
        asked = dialect(venue, kind, name).ask(Query(MARKETS[venue, kind], T0, T1, cap, "1h", T0))
        return told["byType"].get(asked["type"], told["cost"])
    return next((cost for limit, cost in told.get("byLimit", ()) if cap <= limit), told["cost"])


@pytest.mark.parametrize(("venue", "kind"), VENUES)
def test_every_offer_can_be_asked_for_and_belongs_to_a_table(venue, kind):
    names = {spec.name for spec in VENUE_TABLES}
    for name, offer in REACH[venue, kind].offers.items():
        assert table_of(name) in names
        assert offer.cap >= 1
        assert (offer.unit is None) == (table_of(name) != "open_interest")
        if name != "option_chain":
            assert dialect(venue, kind, name).names
    assert set(REACH[venue, kind].tables) <= names


@pytest.mark.parametrize(
    ("venue", "kind", "has", "lacks"),
    [
        ("gate", "perp", {"liquidations", "long_short"}, {"implied_vol"}),
        ("hyperliquid", "perp", {"open_interest", "depth"}, {"long_short", "liquidations"}),
        ("coinbase", "spot", {"ohlcv", "depth"}, {"funding", "open_interest"}),
        ("deribit", "option", {"implied_vol", "option_chain"}, {"ohlcv", "funding"}),
    ],
)
def test_a_venue_is_asked_only_for_tables_it_has(venue, kind, has, lacks):
    assert has <= set(offered(venue, kind, tuple(has | lacks)))
    assert not lacks & set(offered(venue, kind, tuple(has | lacks)))


def test_the_shipped_settings_ask_every_venue_of_the_table_and_pace_what_ccxt_does_not():
    market = load(["market=all_venues"]).market
    assert {(venue.id, venue.kind) for venue in market.venues} == set(REACH)
    assert set(market.tables) == {spec.name for spec in VENUE_TABLES}
    capped = {(limit.venue, limit.methods) for limit in market.limits}
    assert capped == {("binanceusdm", "fapiData"), ("okx", "publicGetRubik")}
    for limit in market.limits:
        methods = [
            o.method for (venue, _), reach in REACH.items() if venue == limit.venue for o in reach.offers.values()
        ]
        assert any(method.startswith(limit.methods) for method in methods)


@pytest.mark.parametrize("market", ["embedded", "ccxt"])
def test_the_venues_and_tables_of_the_demo_stay_as_they_are(market):
    settings = load([f"market={market}"]).market
    assert settings.tables == ("ohlcv", "open_interest", "funding")
    assert settings.timeframes == ("1h",)
    assert [(v.id, v.kind) for v in settings.venues] == [
        ("binanceusdm", "perp"), ("bybit", "perp"), ("hyperliquid", "perp"), ("binance", "spot"), ("bybit", "spot"),
    ]  # fmt: skip


def called_at(calls: int, per_s: float, methods: list[str]) -> list[float]:
    """Return when each method was let through by a limiter whose clock only its own waits move."""
    clock, at = [0.0], []

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    async def run() -> None:
        limit = Limit(venue="v", methods="capped", calls=calls, per_s=per_s)
        limiter = Limiter([limit], time=lambda: clock[0], sleep=sleep)
        for method in methods:
            await limiter.wait(method)
            at.append(clock[0])

    asyncio.run(run())
    return at


@pytest.mark.parametrize(("calls", "per_s"), [(1, 2.0), (3, 2.0), (10, 300.0)])
def test_no_window_of_the_limit_ever_holds_more_calls_than_it_may(calls, per_s):
    at = called_at(calls, per_s, ["cappedHistory"] * (4 * calls + 1))
    assert all(later - earlier >= per_s for earlier, later in zip(at, at[calls:], strict=False))
    assert at[-1] == 4 * per_s


def test_methods_beyond_the_limit_do_not_wait():
    assert called_at(1, 60.0, ["other"] * 5) == [0.0] * 5
