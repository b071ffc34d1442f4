from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from oihedge.core.errors import DataError
from oihedge.core.types import MarketSpec, Position
from oihedge.hedge.split import VenueFacts, shares
from oihedge.hedge.targets import Targets, build_targets, decimal_text

A, B, C = ("binanceusdm", "BTC/USDT:USDT"), ("bybit", "BTC/USDT:USDT"), ("hyperliquid", "BTC/USDC:USDC")
MARKETS = [
    MarketSpec(*A, "BTC", 0.001, 100.0, 0.1),
    MarketSpec(*B, "BTC", 0.001, 5.0, 0.1),
    MarketSpec(*C, "BTC", 0.00001, 10.0, 1.0),
]
PRICES = {"BTC": 64250.0}


def positions(*shorts: float) -> list[Position]:
    return [Position(market.venue, market.symbol, -short) for market, short in zip(MARKETS, shorts, strict=True)]


def one_asset(make_settings: Any, qty: float = 10.0, **changes: Any) -> Any:
    return make_settings(portfolio__holdings=[{"asset": "BTC", "qty": qty}], **changes)


def build(ratio: float, held: list[Position], settings: Any, **kwargs: Any) -> Targets:
    return build_targets({"BTC": ratio}, PRICES, held, MARKETS, settings, **kwargs)


def quantities(targets: Targets, field: str = "target_qty") -> list[str]:
    return [row[field] for row in targets.rows]


def test_targets_are_absolute_and_add_up_to_the_hedge(make_settings: Any) -> None:
    targets = build(0.25, positions(0, 0, 0), one_asset(make_settings))
    assert quantities(targets) == ["-0.833", "-0.833", "-0.83400"]
    assert sum(Decimal(qty) for qty in quantities(targets)) == Decimal("-2.5")
    assert targets.rows[0] == {
        "venue": "binanceusdm", "symbol": "BTC/USDT:USDT", "target_qty": "-0.833", "current_qty": "0.000",
        "delta_qty": "-0.833", "reference_price": "64250.0", "reduce_only": False, "tag": "hedge",
    }  # fmt: skip


def test_what_is_there_stays_and_only_the_difference_is_placed(make_settings: Any) -> None:
    settings = one_asset(make_settings)
    targets = build(0.5, positions(1.2, 1.5, 1.8), settings)
    assert quantities(targets, "delta_qty") == ["-0.466", "-0.033", "-0.00100"]
    again = build(0.5, [Position(r["venue"], r["symbol"], float(r["target_qty"])) for r in targets.rows], settings)
    assert set(map(Decimal, quantities(again, "delta_qty"))) == {Decimal(0)}


def test_another_split_alone_moves_nothing(make_settings: Any) -> None:
    held = positions(2.0, 1.5, 1.5)
    facts = [VenueFacts("BTC", "bybit", funding_h=5e-5), VenueFacts("BTC", "binanceusdm", leads=True)]
    targets = build(0.5, held, one_asset(make_settings), facts=facts)
    assert set(map(Decimal, quantities(targets, "delta_qty"))) == {Decimal(0)}


def test_new_hedge_goes_where_funding_pays_and_away_from_the_leader(make_settings: Any) -> None:
    facts = [VenueFacts("BTC", "bybit", funding_h=5e-5, taker_fee=5e-4), VenueFacts("BTC", "binanceusdm", leads=True)]
    binance, bybit, hyperliquid = map(
        float, quantities(build(0.25, positions(0, 0, 0), one_asset(make_settings), facts=facts))
    )
    assert bybit < hyperliquid < binance < 0


def test_shrinking_orders_are_reduce_only_and_growing_ones_are_not(make_settings: Any) -> None:
    targets = build(0.3, positions(2.0, 2.0, 1.0), one_asset(make_settings))
    assert [row["reduce_only"] for row in targets.rows] == [Decimal(row["delta_qty"]) > 0 for row in targets.rows]
    assert sum(map(Decimal, quantities(targets))) == Decimal("-3")


@pytest.mark.parametrize(
    ("ratio", "now", "aimed"), [(1.0, 0.0, 0.25), (1.0, 5.0, 0.75), (0.3, 10.0, 0.75), (0.3, 3.0, 0.3)]
)
def test_the_aim_is_a_bounded_step_from_the_positions(
    ratio: float, now: float, aimed: float, make_settings: Any
) -> None:
    targets = build(ratio, positions(now / 2, now / 2, 0), one_asset(make_settings))
    assert targets.current["BTC"] == pytest.approx(now / 10)
    assert targets.aimed["BTC"] == pytest.approx(aimed)
    assert ("max_change:BTC" in targets.reasons) is (abs(ratio - now / 10) > 0.25)


def test_portfolio_share_hedges_a_part(make_settings: Any) -> None:
    targets = build(0.25, positions(0, 0, 0), one_asset(make_settings, portfolio_share=0.1))
    assert targets.hedged["BTC"] == Decimal(1)
    assert sum(map(Decimal, quantities(targets))) == Decimal("-0.25")


def test_a_single_venue_takes_its_share_and_the_rest_stays_open(make_settings: Any) -> None:
    only = MARKETS[1:2]
    held = [Position(*B, 0.0)]
    targets = build_targets({"BTC": 0.25}, PRICES, held, only, one_asset(make_settings))
    assert quantities(targets) == ["-1.500"]
    assert targets.reasons == ("open_exposure:BTC",)
    whole = one_asset(make_settings, limits__max_venue_share=1.0)
    assert quantities(build_targets({"BTC": 0.25}, PRICES, held, only, whole)) == ["-2.500"]


def test_an_order_is_cut_to_its_notional_and_the_rest_follows_later(make_settings: Any) -> None:
    settings = one_asset(make_settings, limits__max_order_notional=20_000.0)
    targets = build(0.25, positions(0, 0, 0), settings)
    assert "limit_order_notional:BTC" in targets.reasons
    assert "open_exposure:BTC" in targets.reasons
    assert all(abs(float(delta)) * 64250 <= 20_000 for delta in quantities(targets, "delta_qty"))


def test_leverage_scales_the_shorts_down(make_settings: Any) -> None:
    settings = one_asset(make_settings, limits__max_leverage=0.1, portfolio__cash=0.0)
    targets = build(0.25, positions(0, 0, 0), settings)
    assert "limit_leverage:BTC" in targets.reasons
    assert sum(map(Decimal, quantities(targets))) == Decimal("-1")


def test_a_change_too_small_to_order_is_left(make_settings: Any) -> None:
    held = positions(1.0, 1.0, 0.99995)
    targets = build(0.3, held, one_asset(make_settings))
    assert set(map(Decimal, quantities(targets, "delta_qty"))) == {Decimal(0)}


def test_a_small_portfolio_keeps_the_baseline(make_settings: Any) -> None:
    targets = build(1.0, positions(0.02, 0.02, 0), one_asset(make_settings, qty=0.1))
    assert targets.aimed["BTC"] == pytest.approx(0.3)


def test_a_coin_no_longer_held_is_bought_back(make_settings: Any) -> None:
    settings = make_settings(portfolio__holdings=[{"asset": "ETH", "qty": 100.0}])
    markets = [*MARKETS, MarketSpec("bybit", "ETH/USDT:USDT", "ETH", 0.01, 5.0, 0.01)]
    held = [*positions(0.5, 0.0, 0.0), Position("bybit", "ETH/USDT:USDT", 0.0)]
    targets = build_targets({"ETH": 0.25}, {**PRICES, "ETH": 3000.0}, held, markets, settings)
    closing = targets.rows[0]
    assert (closing["target_qty"], closing["delta_qty"], closing["reduce_only"]) == ("0.000", "0.500", True)
    assert set(targets.aimed) == {"ETH"}


def test_a_long_in_the_hedge_account_is_turned_into_the_hedge(make_settings: Any) -> None:
    targets = build(0.25, positions(-1.0, 1.0, 0.0), one_asset(make_settings))
    assert all(Decimal(qty) <= 0 for qty in quantities(targets))
    assert sum(map(Decimal, quantities(targets))) == Decimal("-2.5")


@pytest.mark.parametrize("prices", [{}, {"BTC": float("nan")}, {"BTC": 0.0}])
@pytest.mark.parametrize("ratio", [0.5, float("nan")])
def test_without_a_price_or_a_ratio_what_is_there_stays(
    ratio: float, prices: dict[str, float], make_settings: Any
) -> None:
    held = positions(1.23456, 0.5, 0.0)
    targets = build_targets({"BTC": ratio}, prices, held, MARKETS, one_asset(make_settings))
    assert quantities(targets) == quantities(targets, "current_qty") == ["-1.23456", "-0.500", "0.00000"]
    assert targets.aimed == targets.current


@pytest.mark.parametrize(
    ("ratio", "shorts", "total"),
    [(0.0, (4.0, 4.0, 0.0), "-5.5"), (0.9, (4.0, 4.0, 0.0), "-8"), (0.0, (1.0, 1.0, 0.0), "-2")],
)
def test_reducing_only_shrinks_and_not_below_the_baseline(
    ratio: float, shorts: tuple[float, ...], total: str, make_settings: Any
) -> None:
    targets = build(ratio, positions(*shorts), one_asset(make_settings), mode="toward_baseline")
    assert sum(map(Decimal, quantities(targets))) == Decimal(total)
    assert all(row["reduce_only"] or Decimal(row["delta_qty"]) == 0 for row in targets.rows)


def test_tier_three_tells_what_stays_open(make_settings: Any) -> None:
    settings = one_asset(make_settings)
    assert "open_exposure:BTC" in build(1.0, positions(3, 3, 0), settings, tiers={"BTC": 3}).reasons
    assert "open_exposure:BTC" not in build(1.0, positions(5, 4, 0), settings, tiers={"BTC": 3}).reasons


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (positions(0, 0, 0)[:2], "positions lack hyperliquid BTC/USDC:USDC"),
        ([*positions(0, 0, 0), Position("okx", "BTC/USDT:USDT", 0.0)], "a position names okx BTC/USDT:USDT"),
    ],
)
def test_positions_and_markets_must_match(held: list[Position], message: str, make_settings: Any) -> None:
    with pytest.raises(DataError, match=message):
        build(0.3, held, one_asset(make_settings))


SIZES = st.floats(0, 15).map(lambda size: round(size, 3))


@budget(max_examples=150)
@given(
    ratio=st.floats(-2, 4),
    shorts=st.tuples(SIZES, SIZES, SIZES),
    share=st.floats(0.34, 1),
    leverage=st.floats(0.05, 3),
    order=st.floats(1_000, 1_000_000),
    price=st.floats(0.5, 200_000),
    funding=st.floats(-1e-3, 1e-3),
)
def test_no_limit_is_crossed_after_rounding(
    ratio: float, shorts: tuple[float, ...], share: float, leverage: float, order: float, price: float, funding: float,
    make_settings: Any,
) -> None:  # fmt: skip
    settings = one_asset(
        make_settings, limits__max_venue_share=share, limits__max_leverage=leverage, limits__max_order_notional=order
    )
    facts = [VenueFacts("BTC", "bybit", funding)]
    built = build_targets({"BTC": ratio}, {"BTC": price}, positions(*shorts), MARKETS, settings, facts=facts)
    targets = [-Decimal(qty) for qty in quantities(built)]
    deltas = [Decimal(delta) for delta in quantities(built, "delta_qty")]
    exact = Decimal(str(price))
    assert all(target >= 0 for target in targets)
    assert all(abs(delta) * exact <= Decimal(str(order)) for delta in deltas)
    for delta, market, short in zip(deltas, MARKETS, shorts, strict=True):
        closes = delta == Decimal(str(short))
        assert closes or delta % Decimal(str(market.lot)) == 0
        assert delta == 0 or closes or abs(delta) * exact >= Decimal(str(market.min_notional))
    if any(reason.startswith("limit_order_notional") for reason in built.reasons):
        return
    hedge = Decimal(str(built.aimed["BTC"])) * 10 if built.aimed["BTC"] else Decimal(0)
    assert all(target <= hedge * Decimal(str(share)) + Decimal("1e-9") for target in targets)
    assert sum(targets) <= Decimal(10) + Decimal("1e-9")
    value = 10 * exact + 50_000
    gross = sum(targets) * exact
    assert gross <= Decimal(str(leverage)) * value + Decimal("1e-6") or "limit_leverage:BTC" not in built.reasons


@budget(max_examples=100)
@given(ratio=st.floats(0, 1), shorts=st.tuples(SIZES, SIZES, SIZES))
def test_targets_add_up_to_the_hedge_within_the_finest_lot_that_has_room(
    ratio: float, shorts: tuple[float, ...], make_settings: Any
) -> None:
    settings = one_asset(make_settings, limits__max_order_notional=1e9)
    markets = [MarketSpec(m.venue, m.symbol, m.asset, m.lot, 0.0, m.tick) for m in MARKETS]
    built = build_targets({"BTC": ratio}, PRICES, positions(*shorts), markets, settings)
    hedge = Decimal(str(round(built.aimed["BTC"] or 0, 12))) * 10
    finest = -Decimal(quantities(built)[2])
    lot = "0.00001" if finest + Decimal("0.001") < hedge * Decimal("0.6") else "0.001"
    assert 0 <= hedge + sum(map(Decimal, quantities(built))) < Decimal(lot)


@pytest.mark.parametrize(
    ("weighed", "most", "expected"),
    [
        ({"a": 1.0, "b": 1.0}, 0.6, {"a": 0.5, "b": 0.5}),
        ({"a": 9.0, "b": 1.0}, 0.6, {"a": 0.6, "b": 0.4}),
        ({"a": 8.0, "b": 1.0, "c": 1.0}, 0.6, {"a": 0.6, "b": 0.2, "c": 0.2}),
        ({"a": 1.0}, 0.6, {"a": 0.6}),
        ({"a": 1.0, "b": 0.0}, 1.0, {"a": 1.0, "b": 0.0}),
    ],
)
def test_shares_respect_the_cap_and_hand_on_the_rest(
    weighed: dict[Any, float], most: float, expected: dict[Any, float]
) -> None:
    assert shares(weighed, most) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        ("-4.1", 0.001, "-4.100"),
        ("-0", 0.001, "0.000"),
        ("12.5", 1e-05, "12.50000"),
        ("7", 1, "7"),
        ("0.12345", 0.1, "0.12345"),
        ("100", 100, "100"),
    ],
)
def test_quantities_carry_the_decimals_of_their_lot(value: str, step: float, text: str) -> None:
    assert decimal_text(Decimal(value), step) == text
