from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from oihedge.core.errors import SchemaError
from oihedge.hedge.signals import SIGNALS, firing_rates, ill_fitting_signals, read


def first(features: pl.DataFrame, forecasts: pl.DataFrame | None, settings: Any) -> dict[str, Any]:
    return read(features, forecasts, settings).row(0, named=True)


def forecast(features: pl.DataFrame, p_unwind: float | None, usual: float = 0.1) -> pl.DataFrame:
    told = {"p_unwind": p_unwind, "p_unwind_base": usual}
    return features.select("asset", "ts", **{name: pl.lit(value, pl.Float64) for name, value in told.items()})


@pytest.mark.parametrize(
    ("change", "confirms", "depth"),
    [
        ({}, [], 0),
        ({"oi_divergence": 0.149}, [], 0),
        ({"oi_divergence": 0.15}, ["oi_divergence"], 1),
        ({"oi_divergence": 0.20}, ["oi_divergence"], 2),
        ({"oi_divergence": 0.31}, ["oi_divergence"], 3),
        ({"oi_divergence": -0.31}, [], 0),
        ({"oi_divergence": 0.03, "oi_divergence_rank": 0.96}, ["oi_divergence"], 1),
        ({"oi_divergence": 0.03, "oi_divergence_rank": 0.999}, ["oi_divergence"], 3),
        ({"oi_divergence": 0.019, "oi_divergence_rank": 0.999}, [], 0),
        ({"oi_divergence": 0.16, "oi_divergence_rank": None}, ["oi_divergence"], 1),
        ({"venue_divergence": 0.08}, ["venue_divergence"], 0),
        ({"oi_price_gap_z": 2.0}, ["oi_price_gap"], 0),
        ({"oi_price_gap_z": -5.0}, [], 0),
        ({"funding_z": 2.0}, ["funding_stress"], 0),
        ({"funding_z": -3.0}, [], 0),
    ],
)
def test_a_signal_confirms_at_its_threshold(
    change: dict[str, Any], confirms: list[str], depth: int, settings: Any, make_rows: Any
) -> None:
    row = first(make_rows(change), None, settings)
    assert (row["confirmations"], row["depth"]) == (confirms, depth)
    assert row["problems"] == []


@pytest.mark.parametrize(("p", "depth"), [(0.19, 0), (0.2, 1), (0.36, 2), (0.5, 3), (1.0, 3)])
def test_p_unwind_confirms_only_with_a_model(p: float, depth: int, settings: Any, make_rows: Any) -> None:
    rows = make_rows({})
    with_model = first(rows, forecast(rows, p), settings)
    assert with_model["depth"] == depth
    assert ("p_unwind" in with_model["confirmations"]) is (depth > 0)
    assert with_model["notes"] == []
    without = first(rows, None, settings)
    assert without["confirmations"] == []
    assert without["notes"] == ["missing_signal:p_unwind"]


@pytest.mark.parametrize(
    ("usual", "p", "depth"),
    [(0.05, 0.09, 0), (0.05, 0.11, 1), (0.05, 0.3, 3), (0.3, 0.5, 0), (0.3, 0.61, 1), (0.3, 0.94, 1), (0.3, 0.95, 3),
     (0.0, 0.0, 0), (0.0, 0.019, 0), (0.0, 0.021, 1), (None, 0.5, 0), (0.05, None, 0)],
)  # fmt: skip
def test_p_unwind_enters_as_a_multiple_of_what_is_usual(
    usual: Any, p: float | None, depth: int, settings: Any, make_rows: Any
) -> None:
    rows = make_rows({})
    assert first(rows, forecast(rows, p, usual), settings)["depth"] == depth


def test_forecasts_without_their_base_rate_are_refused(settings: Any, make_rows: Any) -> None:
    rows = make_rows({})
    with pytest.raises(SchemaError, match="forecasts lack column 'p_unwind_base'"):
        read(rows, forecast(rows, 0.2).drop("p_unwind_base"), settings)


@pytest.mark.parametrize(
    ("column", "value"),
    [("oi_divergence", 0.16), ("oi_divergence_rank", 0.96), ("venue_divergence", 0.1), ("oi_price_gap_z", 2.5),
     ("funding_z", 2.9)],
)  # fmt: skip
def test_an_altcoin_needs_half_as_much_again(column: str, value: float, settings: Any, make_rows: Any) -> None:
    change = {"oi_divergence": 0.05, column: value}
    assert len(first(make_rows(change), None, settings)["confirmations"]) == 1
    assert first(make_rows(change, asset="NEAR"), None, settings)["confirmations"] == []


def test_an_altcoins_extreme_probability_can_still_be_reached(make_settings: Any, make_rows: Any) -> None:
    rows = make_rows({}, asset="NEAR")
    certain = make_settings(signals__p_unwind_lift={"enter": 5.0, "deep": 8.0, "extreme": 9.0, "exit": 1.0})
    assert first(rows, forecast(rows, 0.97), certain)["depth"] == 3


@pytest.mark.parametrize("mode", ["absolute", "percentile"])
def test_the_divergence_mode_chooses_level_or_rank(mode: str, make_settings: Any, make_rows: Any) -> None:
    chosen = make_settings(signals__oi_divergence_mode=mode)
    level = first(make_rows({"oi_divergence": 0.25, "oi_divergence_rank": 0.1}), None, chosen)
    rank = first(make_rows({"oi_divergence": 0.05, "oi_divergence_rank": 0.97}), None, chosen)
    assert [level["depth"], rank["depth"]] == ([2, 0] if mode == "absolute" else [0, 1])


@pytest.mark.parametrize(
    ("change", "calm"),
    [
        ({}, True),
        ({"oi_divergence": 0.049, "oi_divergence_rank": 0.7}, True),
        ({"oi_divergence": 0.051}, False),
        ({"oi_divergence": 0.03, "oi_divergence_rank": 0.8}, False),
        ({"oi_divergence": 0.01, "oi_divergence_rank": 0.8}, True),
        ({"funding_z": 1.0}, False),
        ({"funding_z": None}, False),
        ({"funding_z": -4.0}, True),
        ({"venue_divergence": 0.5, "oi_price_gap_z": 5.0}, True),
    ],
)
def test_calm_is_divergence_and_funding_back_to_normal(
    change: dict[str, Any], calm: bool, settings: Any, make_rows: Any
) -> None:
    assert first(make_rows(change), None, settings)["calm"] is calm


def test_a_model_that_still_expects_an_unwind_is_not_calm(settings: Any, make_rows: Any) -> None:
    rows = make_rows({})
    assert first(rows, forecast(rows, 0.11), settings)["calm"] is True
    assert first(rows, forecast(rows, 0.13), settings)["calm"] is False


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"spot_price": None}, "nan_required:spot_price"),
        ({"volatility": float("nan")}, "nan_required:volatility"),
        ({"oi_divergence": float("inf")}, "nan_required:oi_divergence"),
        ({"n_oi_venues": 1}, "no_quorum"),
        ({"n_oi_venues": None}, "no_quorum"),
    ],
)
def test_a_missing_requirement_is_a_problem(
    change: dict[str, Any], problem: str, settings: Any, make_rows: Any
) -> None:
    assert first(make_rows(change), None, settings)["problems"] == [problem]


def test_one_tracked_venue_is_its_own_quorum(settings: Any, make_rows: Any) -> None:
    assert first(make_rows({"n_oi_venues": 1, "n_oi_tracked": 1}), None, settings)["problems"] == []
    assert first(make_rows({"n_oi_venues": 0, "n_oi_tracked": 1}), None, settings)["problems"] == ["no_quorum"]


@pytest.mark.parametrize("p", [None, float("nan")])
def test_a_forecast_that_is_no_number_is_a_problem(p: float | None, settings: Any, make_rows: Any) -> None:
    rows = make_rows({})
    assert first(rows, forecast(rows, p), settings)["problems"] == ["forecast_nan"]
    assert first(rows, forecast(rows, 0.1).clear(), settings)["problems"] == ["forecast_nan"]


def test_signals_without_a_column_drop_out_and_are_listed(settings: Any, make_rows: Any) -> None:
    bare = make_rows({"oi_divergence": 0.4}).drop("venue_divergence", "funding_z", "oi_leader", "oi_divergence_rank")
    row = first(bare, None, settings)
    assert row["confirmations"] == ["oi_divergence"]
    assert row["notes"] == [
        "missing_signal:venue_divergence",
        "missing_signal:funding_stress",
        "missing_signal:p_unwind",
    ]
    calm = first(make_rows({}).drop("funding_z"), None, settings)
    assert calm["calm"] is True


def test_crowded_shorts_are_a_risk_and_confirm_only_by_setting(
    settings: Any, make_settings: Any, make_rows: Any
) -> None:
    rows = make_rows({"funding_z": -2.5, "oi_divergence": 0.04}, {"funding_z": -2.5, "oi_divergence": -0.04})
    read_rows = read(rows, None, settings)
    assert read_rows["notes"].list.contains("squeeze_risk").to_list() == [True, False]
    assert read_rows["confirmations"].list.len().to_list() == [0, 0]
    wider = read(rows, None, make_settings(signals__squeeze_confirms=True))
    assert wider["confirmations"].to_list() == [["funding_stress"], []]


def test_reading_a_row_does_not_look_at_another(settings: Any, make_rows: Any) -> None:
    rows = make_rows(*[{"oi_divergence": 0.1 * i} for i in range(6)])
    whole, alone = read(rows, None, settings), pl.concat([read(rows[i], None, settings) for i in range(6)])
    assert whole.equals(alone)


def test_firing_rates_name_the_signal_that_never_fires(settings: Any, make_rows: Any) -> None:
    rows = read(make_rows({"funding_z": 3.0}, {}, {"funding_z": None}, {}), None, settings)
    rates = firing_rates(rows)
    assert rates == {"oi_divergence": 0, "venue_divergence": 0, "oi_price_gap": 0, "funding_stress": 1 / 3}
    assert len(ill_fitting_signals(rates)) == 3
    assert "venue_divergence never fires" in ill_fitting_signals(rates)[1]
    assert set(SIGNALS) - set(rates) == {"p_unwind"}


def test_a_missing_required_column_is_named(settings: Any, make_rows: Any) -> None:
    with pytest.raises(SchemaError, match="lack column 'volatility'"):
        read(make_rows({}).drop("volatility"), None, settings)


def test_a_signal_that_nearly_always_confirms_is_named_too() -> None:
    assert ill_fitting_signals({"p_unwind": 0.51, "oi_price_gap": 0.5, "funding_stress": 0.01}) == [
        "signal p_unwind confirms in 51% of the hours: its threshold may not fit this market"
    ]
