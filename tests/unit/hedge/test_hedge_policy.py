from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oihedge.core.types import TierState
from oihedge.hedge.limits import altcoin_cap, bounded
from oihedge.hedge.policy import decide, newest
from oihedge.hedge.sizing import wanted_ratio
from oihedge.hedge.tiers import next_tier

EXTREME: dict[str, Any] = {"oi_divergence": 0.35, "venue_divergence": 0.1, "funding_z": 3.0}
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
START = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tier", "depth", "confirmations", "calm", "after"),
    [
        (0, 0, 4, False, 0),
        (0, 1, 1, False, 1),
        (0, 1, 2, False, 2),
        (0, 2, 1, False, 2),
        (0, 3, 2, False, 2),
        (0, 3, 3, False, 3),
        (2, 2, 5, False, 2),
        (3, 0, 0, False, 3),
        (3, 1, 1, False, 3),
        (3, 0, 0, True, 2),
        (1, 0, 0, True, 0),
        (0, 0, 0, True, 0),
    ],
)
def test_tiers_climb_on_signals_and_step_back_only_when_calm(
    tier: int, depth: int, confirmations: int, calm: bool, after: int
) -> None:
    assert next_tier(tier, depth=depth, confirmations=confirmations, calm=calm) == after


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5), st.booleans())
def test_tier_three_needs_an_extreme_and_three_confirmations(tier: int, depth: int, count: int, calm: bool) -> None:
    after = next_tier(tier, depth=depth, confirmations=count, calm=calm)
    assert 0 <= after <= 3
    if after == 3 and tier < 3:
        assert depth == 3
        assert count >= 3
    assert after >= tier - 1
    assert after >= tier or calm


@pytest.mark.parametrize(
    ("tier", "volatility", "altcoin", "ratio"),
    [
        (0, 0.6, False, 0.3),
        (0, 9.9, True, 0.3),
        (1, 0.6, False, 0.475),
        (1, 0.06, False, 0.3875),
        (1, 6.0, False, 0.5625),
        (2, 0.6, False, 0.65),
        (3, 0.1, False, 1.0),
        (3, 0.6, True, 0.65),
        (1, 0.6, True, 0.3875),
    ],
)
def test_the_wanted_ratio_is_the_tiers_share_of_the_room_scaled_by_volatility(
    tier: int, volatility: float, altcoin: bool, ratio: float, settings: Any
) -> None:
    assert wanted_ratio(tier, volatility, settings, altcoin=altcoin) == pytest.approx(ratio)


@given(wanted=NUMBERS, previous=NUMBERS, altcoin=st.booleans(), band=st.booleans())
def test_a_bounded_ratio_is_always_within_its_limits(
    wanted: float, previous: float, altcoin: bool, band: bool, make_settings: Any
) -> None:
    settings = make_settings(limits__min_ratio=0.1, limits__max_ratio=0.9)
    ratio, reasons = bounded(wanted, previous, settings, altcoin=altcoin, band=band)
    assert 0.1 <= ratio <= 0.9
    start = previous if math.isfinite(previous) else settings.baseline
    if not {"limit_ratio", "altcoin_cap"} & set(reasons):
        assert abs(ratio - start) <= settings.limits.max_change + 1e-12
    if altcoin:
        assert ratio <= max(altcoin_cap(settings), 0.1)


@pytest.mark.parametrize(
    ("wanted", "previous", "altcoin", "ratio", "reasons"),
    [
        (0.34, 0.3, False, 0.3, ["no_trade_band"]),
        (0.3, 0.3, False, 0.3, []),
        (1.0, 0.3, False, 0.55, ["max_change"]),
        (0.0, 0.9, False, 0.65, ["max_change"]),
        (0.9, 0.9, True, 0.65, ["altcoin_cap"]),
        (1.0, 2.0, False, 1.0, ["max_change", "limit_ratio"]),
        (math.nan, 0.4, False, 0.4, []),
    ],
)
def test_what_wins_is_told(
    wanted: float, previous: float, altcoin: bool, ratio: float, reasons: list[str], settings: Any
) -> None:
    got, told = bounded(wanted, previous, settings, altcoin=altcoin)
    assert got == pytest.approx(ratio)
    assert told == reasons


def test_the_kill_switch_freezes_even_above_a_limit(make_settings: Any) -> None:
    assert bounded(0.3, 1.4, make_settings(kill_switch=True), altcoin=True) == (1.4, ["kill_switch"])


def test_a_build_up_climbs_by_max_change_and_comes_down_to_the_baseline_when_calm(
    settings: Any, make_rows: Any
) -> None:
    still_stressed = {"oi_divergence": 0.06, "funding_z": 0.5}
    hours = [{}, *[EXTREME] * 4, *[still_stressed] * 3, *[{}] * 4]
    rows = decide(make_rows(*hours), None, settings, {}).rows
    assert rows["tier"].to_list() == [0, 3, 3, 3, 3, 3, 3, 3, 2, 1, 0, 0]
    assert rows["ratio"].to_list() == pytest.approx([0.3, 0.55, 0.8, 1, 1, 1, 1, 1, 0.75, 0.5, 0.3, 0.3])
    assert rows["reasons"][1].to_list() == ["max_change", "missing_signal:p_unwind"]


@pytest.mark.parametrize("missing", ["spot_price", "volatility", "oi_divergence"])
def test_a_missing_required_input_holds_tier_and_ratio(missing: str, settings: Any, make_rows: Any) -> None:
    rows = decide(make_rows(EXTREME, {missing: None}, {missing: float("nan")}, {}), None, settings, {}).rows
    assert rows["hold"].to_list() == [False, True, True, False]
    assert rows["tier"].to_list() == [3, 3, 3, 2]
    assert rows["ratio"].to_list()[:3] == pytest.approx([0.55] * 3)
    assert rows["reasons"][1].to_list()[0] == f"nan_required:{missing}"


def test_the_rule_and_the_policy_differ_by_the_forecast_alone(settings: Any, make_rows: Any) -> None:
    rows = make_rows({}, {}, {})
    forecasts = rows.select("asset", "ts", p_unwind=pl.Series([0.1, 0.4, 0.4]), p_unwind_base=0.1)
    assert decide(rows, forecasts, settings, {}).rows["tier"].to_list() == [0, 2, 2]
    assert decide(rows, None, settings, {}).rows["tier"].to_list() == [0, 0, 0]


def test_stepping_in_pieces_gives_the_same_as_at_once(settings: Any, make_rows: Any) -> None:
    hours = [{}, EXTREME, {"volatility": None}, {"oi_divergence": 0.16}, {}, {"funding_z": 1.5}, {}, {}]
    rows = pl.concat([make_rows(*hours), make_rows(*reversed(hours), asset="NEAR")])
    whole = decide(rows, None, settings, {})
    state: dict[str, TierState] = {}
    parts = []
    for ts in rows["ts"].unique().sort():
        step = decide(rows.filter(pl.col("ts") <= ts), None, settings, state)
        parts.append(step.rows)
        state = step.state
    assert pl.concat(parts).sort("asset", "ts").equals(whole.rows)
    assert state == whole.state
    assert decide(rows, None, settings, state).rows.height == 0


def test_the_future_does_not_change_a_decision(settings: Any, make_rows: Any) -> None:
    rows = make_rows({}, EXTREME, {}, {})
    other = make_rows({}, EXTREME, EXTREME, {"spot_price": None})
    shuffled = decide(rows.sample(fraction=1, shuffle=True, seed=1), None, settings, {}).rows
    assert decide(other, None, settings, {}).rows[:2].equals(shuffled[:2])


def test_assets_step_apart_and_altcoins_stay_under_their_cap(settings: Any, make_rows: Any) -> None:
    extreme = {**EXTREME, "oi_divergence": 0.6, "venue_divergence": 0.2, "funding_z": 4.0}
    rows = pl.concat([make_rows(*[extreme] * 4, asset="NEAR"), make_rows(*[{}] * 4)])
    decided = decide(rows, None, settings, {})
    assert decided.state["BTC"].ratio == pytest.approx(0.3)
    assert (decided.state["NEAR"].tier, decided.state["NEAR"].ratio) == (3, pytest.approx(0.65))


def test_between_two_feature_rows_the_newest_one_stands(settings: Any, make_rows: Any) -> None:
    rows = make_rows({}, EXTREME)
    first = newest(rows, None, settings, {})
    again = newest(rows, None, settings, first.state)
    assert again.state == first.state
    assert again.rows.drop("reasons").equals(first.rows.drop("reasons"))
    broken = newest(make_rows({}, {**EXTREME, "spot_price": None}), None, settings, first.state)
    assert broken.rows["hold"].to_list() == [True]
    assert broken.rows["reasons"][0].to_list()[0] == "nan_required:spot_price"
    assert broken.rows["ratio"].to_list() == first.rows["ratio"].to_list()


def test_newest_gives_one_row_per_asset(settings: Any, make_rows: Any) -> None:
    rows = pl.concat([make_rows({}, EXTREME, asset=asset) for asset in ("NEAR", "BTC")])
    assert newest(rows, None, settings, {}).rows["asset"].to_list() == ["BTC", "NEAR"]
    assert newest(rows.clear(), None, settings, {}).rows.height == 0


@given(
    hours=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=12),
    ratio=NUMBERS,
    altcoin=st.booleans(),
)
def test_no_input_drives_the_ratio_out_of_bounds_or_faster_than_max_change(
    hours: list[tuple[float, ...]], ratio: float, altcoin: bool, settings: Any, make_rows: Any
) -> None:
    names = ("volatility", "oi_divergence", "oi_divergence_rank", "funding_z", "venue_divergence")
    asset = "NEAR" if altcoin else "BTC"
    rows = make_rows(*[dict(zip(names, values, strict=True)) for values in hours], asset=asset)
    forecasts = rows.select("asset", "ts", p_unwind="funding_z", p_unwind_base=0.1)
    state = {asset: TierState(START.replace(year=2024), 2, ratio)}
    decided = decide(rows, forecasts, settings, state).rows
    before = ratio if math.isfinite(ratio) else settings.baseline
    for now, reasons in zip(decided["ratio"], decided["reasons"].to_list(), strict=True):
        assert settings.limits.min_ratio <= now <= settings.limits.max_ratio
        if not {"limit_ratio", "altcoin_cap"} & set(reasons):
            assert abs(now - before) <= settings.limits.max_change + 1e-12
        before = now


def test_entering_is_dated(settings: Any, make_rows: Any) -> None:
    rows = make_rows({}, EXTREME, EXTREME)
    assert decide(rows, None, settings, {}).state["BTC"].entered_at == rows["ts"][1]
    calm = make_rows({}, {"oi_divergence": 0.16}, {})
    assert decide(calm, None, settings, {}).state["BTC"].entered_at is None
