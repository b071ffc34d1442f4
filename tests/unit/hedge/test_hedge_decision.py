from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from oihedge.core.errors import DataError
from oihedge.core.types import ModelRef
from oihedge.hedge.decision import DecisionInputs, compose, schema, to_bytes, validate
from oihedge.hedge.outcomes import OUTCOMES, markdown_table, status_of
from oihedge.hedge.policy import newest
from oihedge.hedge.positions import read_markets, read_positions

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf" / "hedge"
AS_OF = datetime(2025, 6, 1, 2, 5, tzinfo=UTC)
PRICES = {"BTC": 64250.0, "ETH": 3400.0, "NEAR": 5.1}
ZERO = Decimal(0)


def features(make_rows: Any, **changes: dict[str, Any]) -> pl.DataFrame:
    """Three hours of each asset; `BTC={...}` changes its newest."""
    return pl.concat([make_rows({}, {}, changes.get(asset, {}), asset=asset) for asset in PRICES])


def inputs_of(rows: pl.DataFrame, settings: Any, **changes: Any) -> DecisionInputs:
    given = DecisionInputs(
        decision_id="d1", as_of=AS_OF, newest=newest(rows, None, settings, {}).rows, prices=PRICES,
        positions=read_positions(CONF / "positions.json"), markets=read_markets(CONF / "markets.json"),
        model=ModelRef.none("oihedge"), horizon_h=24, drop=0.1, data_version={"features": 12},
        config_hash="c", code_version="v",
        simulated=True, reasons=("no_champion",),
    )  # fmt: skip
    return dataclasses.replace(given, **changes)


def held(inputs: DecisionInputs, share: float, venue: str = "bybit") -> DecisionInputs:
    """Positions that short `share` of BTC's 12.5 coins on one venue."""
    assert inputs.positions is not None
    short = [
        dataclasses.replace(p, qty=-12.5 * share) if (p.venue, p.symbol) == (venue, "BTC/USDT:USDT") else p
        for p in inputs.positions
    ]
    return dataclasses.replace(inputs, positions=short)


def decided(inputs: DecisionInputs, settings: Any) -> dict[str, Any]:
    document = compose(inputs, settings)
    validate(json.loads(to_bytes(document)))
    return document


def deltas(document: dict[str, Any]) -> set[Decimal]:
    return {Decimal(row["delta_qty"]) for row in document["targets"]}


def test_an_ordinary_hour_gives_targets_that_fit_the_schema(settings: Any, make_rows: Any) -> None:
    document = decided(inputs_of(features(make_rows), settings), settings)
    assert document["status"] == "ok"
    assert document["valid_until"] == "2025-06-01T03:05:00Z"
    assert document["simulated"] is True
    assert [hedge["asset"] for hedge in document["hedges"]] == ["BTC", "ETH", "NEAR"]
    assert len(document["targets"]) == 9
    for hedge in document["hedges"]:
        symbols = [row for row in document["targets"] if row["symbol"].startswith(hedge["asset"] + "/")]
        total = -sum((Decimal(row["target_qty"]) for row in symbols), ZERO)
        assert float(total / Decimal(hedge["hedged_qty"])) == pytest.approx(hedge["hedge_ratio"], abs=1e-4)
        assert hedge["decided_ratio"] == hedge["baseline"] == 0.3


def test_the_same_inputs_give_the_same_bytes_in_any_order(settings: Any, make_rows: Any) -> None:
    rows = features(make_rows, BTC={"oi_divergence": 0.123456789, "funding_z": 2.5})
    one = inputs_of(rows, settings)
    other = inputs_of(rows.sample(fraction=1, shuffle=True, seed=4), settings)
    other = dataclasses.replace(
        other, positions=list(reversed(one.positions or [])), markets=list(reversed(one.markets or [])),
        prices=dict(reversed(PRICES.items())), newest=one.newest.reverse(),
    )  # fmt: skip
    assert to_bytes(compose(one, settings)) == to_bytes(compose(other, settings))
    assert to_bytes(compose(one, settings)).endswith(b"}\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spot_price": None}, "nan_required:BTC:spot_price"),
        ({"oi_divergence": float("nan")}, "nan_required:BTC:oi_divergence"),
        ({"volatility": None}, "nan_required:BTC:volatility"),
        ({"n_oi_venues": 1}, "no_quorum:BTC"),
    ],
)
def test_a_missing_required_input_holds_everything(
    change: dict[str, Any], reason: str, settings: Any, make_rows: Any
) -> None:
    document = decided(held(inputs_of(features(make_rows, BTC=change), settings), 0.5), settings)
    assert document["status"] == "hold"
    assert reason in document["reasons"]
    assert deltas(document) == {ZERO}
    assert document["hedges"][0]["hedge_ratio"] == document["hedges"][0]["current_ratio"] == 0.5


def test_stale_features_hold_and_are_never_reduced_from(make_settings: Any, make_rows: Any) -> None:
    settings = make_settings(reduce_only=True)
    fresh = held(inputs_of(features(make_rows), settings), 0.9)
    assert decided(fresh, settings)["status"] == "reduce"
    late = dataclasses.replace(fresh, as_of=AS_OF + timedelta(hours=3))
    document = decided(late, settings)
    assert document["status"] == "hold"
    assert {"stale_data:BTC", "reduce_only"} <= set(document["reasons"])
    assert deltas(document) == {ZERO}


def test_the_age_limit_is_inclusive(settings: Any, make_rows: Any) -> None:
    inputs = inputs_of(features(make_rows), settings)
    at_limit = dataclasses.replace(inputs, as_of=AS_OF.replace(hour=4, minute=30))
    assert compose(at_limit, settings)["status"] == "ok"
    beyond = dataclasses.replace(inputs, as_of=AS_OF.replace(hour=4, minute=30, second=1))
    assert compose(beyond, settings)["status"] == "hold"


def test_a_forecast_that_is_no_number_holds(settings: Any, make_rows: Any) -> None:
    rows = features(make_rows)
    forecasts = rows.select(
        "asset", "ts", p_unwind=pl.when(pl.col("asset") == "ETH").then(float("nan")).otherwise(0.1), p_unwind_base=0.1
    )
    told = newest(rows, forecasts, settings, {}).rows
    document = decided(
        inputs_of(rows, settings, newest=told, reasons=(), model=ModelRef("oihedge", "3", "r")), settings
    )
    assert (document["status"], document["hedges"][1]["p_unwind"]) == ("hold", None)
    assert "forecast_nan:ETH" in document["reasons"]
    told = document["hedges"][0]
    assert (told["p_unwind"], told["p_unwind_horizon_h"], told["p_unwind_drop"]) == (0.1, 24, 0.1)


@pytest.mark.parametrize(
    ("change", "reason"), [({"positions": None}, "positions_unreadable"), ({"markets": None}, "markets_unreadable")]
)
def test_unreadable_positions_hold_with_no_targets(
    change: dict[str, Any], reason: str, settings: Any, make_rows: Any
) -> None:
    document = decided(inputs_of(features(make_rows), settings, **change), settings)
    assert (document["status"], document["targets"]) == ("hold", [])
    assert reason in document["reasons"]
    assert {hedge["current_ratio"] for hedge in document["hedges"]} == {None}


def test_every_file_that_is_unreadable_is_named_at_once(settings: Any, make_rows: Any) -> None:
    document = decided(inputs_of(features(make_rows), settings, positions=None, markets=None), settings)
    assert {"positions_unreadable", "markets_unreadable"} <= set(document["reasons"])


def test_a_market_without_its_position_is_unreadable_and_not_flat(settings: Any, make_rows: Any) -> None:
    inputs = inputs_of(features(make_rows), settings)
    document = decided(dataclasses.replace(inputs, positions=(inputs.positions or [])[1:]), settings)
    assert (document["status"], document["targets"]) == ("hold", [])
    assert "positions_unreadable" in document["reasons"]


@pytest.mark.parametrize("broken", [False, True])
def test_the_kill_switch_halts_and_moves_nothing(broken: bool, make_settings: Any, make_rows: Any) -> None:
    settings = make_settings(kill_switch=True)
    rows = features(make_rows, BTC={"spot_price": None} if broken else {"oi_divergence": 0.4})
    document = decided(held(inputs_of(rows, settings), 0.9), settings)
    assert document["status"] == "halt"
    assert document["reasons"][0] == "kill_switch"
    assert deltas(document) == {ZERO}


def test_reduce_shrinks_towards_the_baseline_only(make_settings: Any, make_rows: Any) -> None:
    settings = make_settings(reduce_only=True)
    document = decided(held(inputs_of(features(make_rows), settings), 0.9), settings)
    btc = document["hedges"][0]
    assert document["status"] == "reduce"
    assert (btc["current_ratio"], btc["hedge_ratio"]) == (0.9, 0.65)
    assert min(deltas(document)) == ZERO
    extreme = {"oi_divergence": 0.4, "venue_divergence": 0.2, "funding_z": 4.0}
    document = decided(inputs_of(features(make_rows, BTC=extreme), settings), settings)
    assert deltas(document) == {ZERO}


def test_a_missing_price_or_feature_row_holds(settings: Any, make_rows: Any) -> None:
    rows = features(make_rows)
    no_price = decided(inputs_of(rows, settings, prices={**PRICES, "ETH": float("nan")}), settings)
    no_row = decided(inputs_of(rows.filter(pl.col("asset") != "NEAR"), settings), settings)
    assert (no_price["status"], no_row["status"]) == ("hold", "hold")
    assert "no_price:ETH" in no_price["reasons"]
    assert "no_features:NEAR" in no_row["reasons"]
    assert no_row["hedges"][2]["tier"] is None
    assert deltas(no_price) == deltas(no_row) == {ZERO}


def test_without_a_champion_the_rule_decides_and_says_so(settings: Any, make_rows: Any) -> None:
    document = decided(inputs_of(features(make_rows, BTC={"oi_divergence": 0.16}), settings), settings)
    assert document["status"] == "ok"
    assert document["model"] == {"name": "oihedge", "version": "", "run_id": ""}
    assert {"no_champion", "missing_signal:BTC:p_unwind"} <= set(document["reasons"])
    assert document["hedges"][0]["tier"] == 1


def test_a_small_portfolio_is_kept_at_the_baseline_with_a_warning(make_settings: Any, make_rows: Any) -> None:
    settings = make_settings(min_portfolio_usd=1e8)
    extreme = {"oi_divergence": 0.4, "venue_divergence": 0.2, "funding_z": 4.0}
    inputs = held(inputs_of(features(make_rows, BTC=extreme), settings), 0.2)
    document = decided(inputs, settings)
    assert "below_minimum_portfolio" in document["reasons"]
    assert document["hedges"][0]["hedge_ratio"] == 0.3
    assert document["hedges"][0]["decided_ratio"] == 0.55


def test_a_row_from_the_future_is_refused(settings: Any, make_rows: Any) -> None:
    early = inputs_of(features(make_rows), settings, as_of=AS_OF - timedelta(minutes=6))
    with pytest.raises(DataError, match="was not known yet"):
        compose(early, settings)


def test_the_model_is_named(settings: Any, make_rows: Any) -> None:
    document = decided(
        inputs_of(features(make_rows), settings, model=ModelRef("oihedge", "7", "abc"), reasons=()), settings
    )
    assert document["model"] == {"name": "oihedge", "version": "7", "run_id": "abc"}


@pytest.mark.parametrize(
    ("place", "value", "where"),
    [
        (("status",), "fine", "status"),
        (("as_of",), "2025-06-01T02:05:00", "as_of"),
        (("targets", 0, "target_qty"), 1.5, "targets.0.target_qty"),
        (("targets", 0, "target_qty"), "-99.000", "target of binanceusdm"),
        (("hedges", 0, "p_unwind"), 1.2, "hedges.0.p_unwind"),
        (("extra",), 1, "document"),
    ],
)
def test_a_document_that_does_not_fit_is_named(
    place: tuple[Any, ...], value: Any, where: str, settings: Any, make_rows: Any
) -> None:
    document = json.loads(to_bytes(compose(inputs_of(features(make_rows), settings), settings)))
    *path, last = place
    part = document
    for step in path:
        part = part[step]
    part[last] = value
    with pytest.raises(DataError, match=where):
        validate(document)


def test_a_hold_that_moves_something_does_not_validate(settings: Any, make_rows: Any) -> None:
    document = json.loads(to_bytes(compose(inputs_of(features(make_rows), settings), settings)))
    validate({**document, "targets": []})
    with pytest.raises(DataError, match=r"delta_qty"):
        validate({**document, "status": "hold"})


def test_the_schema_is_itself_a_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())


def test_the_documentation_quotes_the_outcome_table() -> None:
    assert markdown_table() in (ROOT / "docs" / "decision-outcomes.md").read_text()


@pytest.mark.parametrize(
    ("reasons", "status"),
    [
        ([], "ok"),
        (["no_champion", "open_exposure:BTC"], "ok"),
        (["reduce_only", "no_champion"], "reduce"),
        (["reduce_only", "stale_data:BTC"], "hold"),
        (["stale_data:BTC", "kill_switch"], "halt"),
    ],
)
def test_the_gravest_condition_decides(reasons: list[str], status: str) -> None:
    assert status_of(reasons) == status


def test_a_reason_without_an_outcome_is_an_error() -> None:
    with pytest.raises(KeyError):
        status_of(["who_knows"])
    assert {outcome.status for outcome in OUTCOMES.values()} == {"ok", "reduce", "hold", "halt"}
