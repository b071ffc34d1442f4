"""Every venue's answers as it documents them: instants, units and symbols come out right, or nothing does."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from itertools import product

import ccxt
import numpy as np
import polars as pl
import pytest
from fakes.venue_payloads import MARKETS, PAYLOADS, T0, T1

from oihedge.core.tables import UTC_TIME
from oihedge.core.types import Instrument
from oihedge.market.dialects import dialect
from oihedge.market.dialects.answers import Query
from oihedge.market.dialects.deribit import greeks_of, read_chain
from oihedge.market.retry import MALFORMED
from oihedge.market.rows import depth_table, ratio_table
from oihedge.market.series import Series, framed, instant
from oihedge.market.units import CONVERSIONS, converted
from oihedge.market.venues import REACH, Unit

REFUSED = (ccxt.BaseError, *MALFORMED)
OFFERS = sorted((*of, name) for of, reach in REACH.items() for name in reach.offers if name != "option_chain")
BY_OFFER = [pytest.param(*of, id=" ".join(of)) for of in OFFERS]


def query(venue: str, kind: str) -> Query:
    return Query(MARKETS[venue, kind], T0, T1, 100, "1h", T0)


@pytest.mark.parametrize(("venue", "kind", "name"), BY_OFFER)
def test_each_offer_of_the_table_is_read_as_its_venue_documents_it(venue, kind, name):
    body, rows = PAYLOADS[venue, kind, name]
    speaks = dialect(venue, kind, name)
    found = speaks.read(json.loads(json.dumps(body)), query(venue, kind))
    assert found.at.tolist() == [row[0] for row in rows]
    wanted = np.array([[np.nan if value is None else value for value in row[1:]] for row in rows])
    np.testing.assert_allclose(found.values, wanted, rtol=1e-12)
    assert found.values.shape[1] == len(speaks.names)


@pytest.mark.parametrize(("venue", "kind", "name"), BY_OFFER)
def test_each_offer_asks_for_its_window_and_market(venue, kind, name):
    asked = json.dumps(dialect(venue, kind, name).ask(query(venue, kind)))
    market = MARKETS[venue, kind]
    assert "metaAndAssetCtxs" in asked or any(part in asked for part in (market["id"], "BTC-USDT", '"BTC"'))
    if REACH[venue, kind].offers[name].when == "history":
        written = (T0, T0 - 1, T0 // 1000, "2025-01-01T00:00:00.000Z", "2025-01-01T01:00:00.000Z")
        assert any(str(at) in asked for at in written)


def swapped(value, old: str, new: str):
    """Return the payload with every text `old` replaced, as a venue would that mixes up its symbols."""
    return json.loads(json.dumps(value).replace(f'"{old}"', f'"{new}"'))


NAMELESS = {
    # the venue's rows do not say which market they are of
    *((venue, kind, name) for venue, kind, name in PAYLOADS if name in ("ohlcv", "mark", "index") and venue in (
        "binanceusdm", "binance", "okx", "bitget", "gate", "coinbase", "bitfinex")),
    *((venue, kind, name) for venue, kind, name in PAYLOADS if venue == "gate" and name != "funding_now"),
    *(("okx", "perp", f"long_short:{measure}") for measure in ("accounts", "top_accounts", "top_positions")),
    ("okx", "perp", "open_interest"), ("okx", "perp", "depth"), ("okx", "spot", "depth"), ("bitget", "perp", "depth"),
    ("bitget", "perp", "long_short:accounts"), ("binanceusdm", "perp", "long_short:taker_volume"),
    ("binanceusdm", "perp", "depth"), ("binance", "spot", "depth"), ("dydx", "perp", "depth"),
    ("bitfinex", "spot", "depth"), ("deribit", "option", "implied_vol"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("venue", "kind", "name"), [pytest.param(*of, id=" ".join(of)) for of in sorted(set(PAYLOADS) - NAMELESS)]
)
def test_rows_that_name_another_market_are_refused(venue, kind, name):
    body, market = PAYLOADS[venue, kind, name][0], MARKETS[venue, kind]
    for own in (market["id"], "BTC"):
        other = swapped(body, own, "XRP")
        if other != body:
            with pytest.raises(REFUSED):
                dialect(venue, kind, name).read(other, query(venue, kind))
            return
    pytest.fail("the payload names no market")


ODD = ["NaN", None, "", "abc", True, [], {"a": 1}, "Infinity"]


@pytest.mark.parametrize(("venue", "kind", "name"), BY_OFFER)
def test_a_number_that_is_none_never_becomes_a_row(venue, kind, name):
    body, rows = PAYLOADS[venue, kind, name]
    for path, odd in product(list(numeric_leaves(body)), ODD):
        try:
            found = dialect(venue, kind, name).read(replaced(body, path, odd), query(venue, kind))
        except REFUSED:
            continue
        # what may be missing is; the rest is as the venue said, and its own clock may be unsaid
        for got in found.values.tolist():
            assert any(all(map(missing_or_same, got, right[1:])) for right in rows), (path, odd, got)
        assert set(found.at.tolist()) <= {0, *(right[0] for right in rows)}


def missing_or_same(got: float, right: float | None) -> bool:
    return bool(np.isnan(got)) or (right is not None and got == pytest.approx(right))


def numeric_leaves(value, path=()):
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numeric_leaves(inner, (*path, key))
    elif not isinstance(value, bool) and is_number(value):
        yield path


def is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def replaced(body, path, value):
    body = copy.deepcopy(body)
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return body


INTEREST = [pytest.param(*of, id=" ".join(of)) for of in OFFERS if of[2].startswith("open_interest")]


@pytest.mark.parametrize(("venue", "kind", "name"), INTEREST)
def test_open_interest_of_every_venue_comes_out_in_coins_and_usd(venue, kind, name):
    unit = REACH[venue, kind].offers[name].unit
    assert set(CONVERSIONS[unit].columns) == set(dialect(venue, kind, name).names)
    found = dialect(venue, kind, name).read(PAYLOADS[venue, kind, name][0], query(venue, kind))
    bars = pl.DataFrame({"ts": [instant(T0)], "open": [93000.0], "close": [99999.0]}, schema_overrides={"ts": UTC_TIME})
    frame = framed(found, dialect(venue, kind, name).names).with_columns(ts=pl.lit(instant(T0), UTC_TIME))
    row = converted(frame, unit, MARKETS[venue, kind].get("contractSize", 1.0), bars).row(0, named=True)
    assert 500 < row["oi_base"] < 60_000
    assert row["oi_usd"] / row["oi_base"] == pytest.approx(93_000, rel=1e-3)
    assert row["unit_source"]


@pytest.mark.parametrize(
    ("unit", "columns", "size", "coins", "usd"),
    [
        (Unit.COINS, {"coins": 5.0}, 1.0, 5.0, 50.0),
        (Unit.COINS_USD, {"coins": 5.0, "usd": 51.0}, 1.0, 5.0, 51.0),
        (Unit.COINS_MARK, {"coins": 5.0, "mark": 11.0}, 1.0, 5.0, 55.0),
        (Unit.CONTRACTS_USD, {"contracts": 500.0, "usd": 51.0}, 0.01, 5.0, 51.0),
        (Unit.CONTRACTS_COINS_USD, {"contracts": 500.0, "coins": 5.0, "usd": 51.0}, 0.01, 5.0, 51.0),
    ],
)
def test_the_conversion_table(unit, columns, size, coins, usd):
    ts = instant(T0)
    frame = pl.DataFrame(
        {"ts": [ts], **{name: [value] for name, value in columns.items()}}, schema_overrides={"ts": UTC_TIME}
    )
    bars = pl.DataFrame({"ts": [ts], "open": [10.0], "close": [77.0]}, schema_overrides={"ts": UTC_TIME})
    row = converted(frame, unit, size, bars).row(0, named=True)
    assert (row["oi_base"], row["oi_usd"]) == (coins, usd)


def test_every_unit_that_a_venue_sends_has_a_conversion():
    units = {offer.unit for reach in REACH.values() for offer in reach.offers.values()} - {None}
    assert units <= set(CONVERSIONS)
    assert {offer.unit for reach in REACH.values() for offer in reach.of("open_interest").values()} == units


def test_contracts_that_contradict_the_coins_beside_them_are_refused():
    frame = pl.DataFrame({"ts": [instant(T0)], "contracts": [500.0], "coins": [500.0], "usd": [1.0]})
    with pytest.raises(ccxt.BadResponse, match=r"500\.0 contracts of 0\.01 coins are not 500\.0 coins"):
        converted(frame, Unit.CONTRACTS_COINS_USD, 0.01)


PERP = Instrument("okx", "BTC/USDT:USDT", "BTC", "perp")


@pytest.mark.parametrize("odd", [None, 0, 0.0, -1.0, float("nan"), float("inf"), True, "0.01"])
@pytest.mark.parametrize(("venue", "name"), [("okx", "depth"), ("gate", "ohlcv"), ("gate", "depth")])
def test_contracts_of_an_unknown_size_are_never_taken_for_coins(venue, name, odd):
    market = {**MARKETS[venue, "perp"], "contractSize": odd}
    body, asked = PAYLOADS[venue, "perp", name][0], replace(query(venue, "perp"), market=market)
    with pytest.raises(ccxt.BadResponse, match="contractSize > 0 of BTC"):
        dialect(venue, "perp", name).read(body, asked)
    with pytest.raises(ccxt.BadResponse, match="contractSize > 0 of BTC"):
        series_of(venue, market).contract_size(Unit.CONTRACTS_USD)


def series_of(venue: str, market) -> Series:
    hour = instant(T1) - instant(T0)
    return Series(None, PERP, market, hour, None, None, instant(T0), instant(T1), real=False)


@pytest.mark.parametrize("unit", Unit)
def test_the_contract_size_matters_only_where_contracts_are_counted(unit):
    assert series_of("okx", {"contractSize": 0.01}).contract_size(unit) == (0.01 if "contracts" in unit else 1.0)
    if "contracts" not in unit:
        assert series_of("okx", {}).contract_size(unit) == 1.0


def test_depth_is_the_money_near_the_middle_and_null_where_the_book_ends_before():
    levels = pl.DataFrame(
        {"price": [99.99, 99.95, 99.0, 100.01, 100.2], "size": [-1.0, -2.0, -4.0, 3.0, 5.0]}, orient="row"
    )
    row = depth_table(levels, PERP, instant(T0)).row(0, named=True)
    assert (row["bid"], row["ask"]) == (99.99, 100.01)
    assert row["bid_usd_10"] == pytest.approx(99.99 + 2 * 99.95)
    assert row["bid_usd_50"] == pytest.approx(99.99 + 2 * 99.95)
    assert row["ask_usd_10"] == pytest.approx(3 * 100.01)
    assert row["ask_usd_50"] is None
    assert row["available_at"] == row["ts"] == instant(T0)


@pytest.mark.parametrize(
    ("bids", "asks"),
    [([], [["2", "1"]]), ([["3", "1"]], [["2", "1"]]), ([["1", "1"], ["1.5", "1"]], [["2", "1"]]),
     ([["1", "0"]], [["2", "1"]])],
    ids=["one side empty", "crossed", "not sorted", "no size"],
)  # fmt: skip
def test_a_book_that_cannot_be_is_refused(bids, asks):
    body = {"lastUpdateId": 1, "bids": bids, "asks": asks}
    with pytest.raises(ccxt.BadResponse, match="order book"):
        dialect("binance", "spot", "depth").read(body, query("binance", "spot"))


def test_measures_of_one_answer_become_rows_of_their_own():
    found = dialect("gate", "perp", "long_short").read(PAYLOADS["gate", "perp", "long_short"][0], query("gate", "perp"))
    rows = ratio_table(framed(found, dialect("gate", "perp", "long_short").names), PERP, instant(T1) - instant(T0))
    assert dict(rows.select("measure", "ratio").rows()) == {
        "accounts": 1.8, "top_accounts": 1.2, "top_positions": 1.1, "taker_volume": 0.9,
    }  # fmt: skip


SUMMARY = {
    "instrument_name": "BTC-28MAR25-95000-C", "base_currency": "BTC", "quote_currency": "BTC", "mark_price": 0.0612,
    "mark_iv": 55.25, "open_interest": 364.1, "underlying_price": 94000.5, "bid_price": None, "volume": 0.1,
}  # fmt: skip


def test_an_option_chain_names_options_as_ccxt_does_and_volatility_as_a_share():
    small = SUMMARY | {"instrument_name": "BTC-3JAN25-95000d5-P", "mark_iv": None}
    foreign = SUMMARY | {"instrument_name": "BTC_USDC-28MAR25-95000-C"}
    chain, said = read_chain({"result": [SUMMARY, small, foreign], "usOut": T0 * 1000}, "BTC")
    assert said == T0
    assert chain["symbol"].to_list() == ["BTC/USD:BTC-250328-95000-C", "BTC/USD:BTC-250103-95000.5-P"]
    assert chain["option_type"].to_list() == ["call", "put"]
    assert chain["expiry"].dt.strftime("%F %H:%M").to_list() == ["2025-03-28 08:00", "2025-01-03 08:00"]
    assert chain["mark_iv"].to_list() == [0.5525, None]
    assert chain["oi_base"].to_list() == [364.1, 364.1]


@pytest.mark.parametrize(
    "rows",
    [[], [SUMMARY | {"base_currency": "ETH"}],
     [SUMMARY, {k: v for k, v in SUMMARY.items() if k != "base_currency"} | {"instrument_name": "ETH-28MAR25-3000-C"}],
     [SUMMARY | {"mark_price": "NaN"}],
     [SUMMARY | {"instrument_name": "BTC-99XXX25-1-C"}], [SUMMARY | {"instrument_name": "BTC-28MAR99-1-C"}],
     [SUMMARY | {"instrument_name": f"BTC-28MAR25-{'9' * 400}-C"}], [7], {},
     [SUMMARY, SUMMARY | {"open_interest": 99999}]],
    ids=["none", "another currency", "another currency by its name",
         "no number", "no date", "another century", "endless strike", "no object",
         "no list", "one option twice"],
)  # fmt: skip
def test_a_chain_that_cannot_be_right_is_refused(rows):
    with pytest.raises(REFUSED):
        read_chain({"result": rows, "usOut": T0 * 1000}, "BTC")


def test_greeks_come_from_the_ticker_of_that_very_option():
    greeks = {"rho": 1.0, "theta": -13.5, "vega": 141.9, "gamma": 0.00002, "delta": 0.596}
    body = {"result": {"instrument_name": "BTC-28MAR25-95000-C", "greeks": greeks}}
    assert greeks_of(body, "BTC-28MAR25-95000-C")["vega"] == 141.9
    with pytest.raises(ccxt.BadResponse, match="asked for BTC-28MAR25-96000-C"):
        greeks_of(body, "BTC-28MAR25-96000-C")


@pytest.mark.parametrize(("name", "width"), [("ohlcv", 9), ("mark", 6), ("index", 6)])
def test_a_bar_of_okx_that_is_not_confirmed_is_no_row(name, width):
    body, rows = PAYLOADS["okx", "perp", name]
    (bar,) = body["data"]
    open_ = [str(T1), *bar[1 : width - 1], "0"]
    found = dialect("okx", "perp", name).read(body | {"data": [open_, bar]}, query("okx", "perp"))
    assert found.at.tolist() == [row[0] for row in rows]
