import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oihedge.core.errors import DataError, SchemaError
from oihedge.evaluation.metrics import METRICS, cvar, hedge_metrics, max_drawdown, plain, rolling_returns

START = datetime(2025, 1, 1, tzinfo=UTC)


def ledger(returns, *, fold=None, **columns) -> pl.DataFrame:
    count = len(returns)
    given = {
        "ts": [START + timedelta(hours=n + 1) for n in range(count)], "ret": [float(one) for one in returns],
        "cost": 0.0, "funding": 0.0, "turnover": 0.0, "ratio": 0.0, "spot_notional": 100.0, **columns,
    }  # fmt: skip
    frame = pl.DataFrame({name: value if isinstance(value, list) else [value] * count for name, value in given.items()})
    return frame if fold is None else frame.with_columns(pl.Series("fold", fold))


def test_metrics_follow_their_definitions_on_a_ledger_computed_by_hand():
    scored = hedge_metrics(ledger([0.10, -0.20, 0.05], cost=0.001, funding=0.002, turnover=0.5,
                                  ratio=[0.0, 1.0, 0.5], spot_notional=[100.0, 50.0, 100.0]))  # fmt: skip
    deviation = math.sqrt(((0.10 + 1 / 60) ** 2 + (0.20 - 1 / 60) ** 2 + (0.05 + 1 / 60) ** 2) / 2)
    assert tuple(scored) == METRICS
    assert scored["volatility"] == pytest.approx(deviation * math.sqrt(8760))
    assert scored["sharpe"] == pytest.approx(-1 / 60 / deviation * math.sqrt(8760))
    assert scored["max_drawdown"] == pytest.approx(0.2)
    assert scored["net_return"] == pytest.approx(1.1 * 0.8 * 1.05 - 1)
    assert scored["worst_day"] == pytest.approx(1 - 1.1 * 0.8 * 1.05)
    assert scored["mean_ratio"] == pytest.approx(100 / 250)
    assert (scored["cost"], scored["funding"], scored["turnover"]) == pytest.approx((0.003, 0.006, 1.5))
    assert math.isnan(scored["cvar_95"])  # three hours hold no 24 h return


def test_cvar_is_the_mean_of_the_worst_twentieth_as_a_positive_loss():
    assert cvar(np.arange(1, 101) / -1000) == pytest.approx((0.1 + 0.099 + 0.098 + 0.097 + 0.096) / 5)
    assert cvar(np.array([-0.3, 0.1])) == pytest.approx(0.3)
    assert math.isnan(cvar(np.empty(0)))


def test_rolling_returns_never_span_a_gap_between_folds():
    frame = ledger([0.01] * 60, fold=[0] * 30 + [1] * 30)
    assert [part.size for part in rolling_returns(frame)] == [7, 7]
    assert np.concatenate(rolling_returns(frame)) == pytest.approx(1.01**24 - 1)
    assert rolling_returns(frame.drop("fold"))[0].size == 37


def test_the_worst_day_is_a_utc_day_and_an_hour_ending_at_midnight_belongs_to_the_day_before():
    returns = [0.0] * 23 + [-0.05] + [-0.02] * 2 + [0.0] * 22
    assert hedge_metrics(ledger(returns))["worst_day"] == pytest.approx(0.05)


def test_a_flat_nav_has_no_sharpe_and_json_gets_null():
    scored = plain(hedge_metrics(ledger([0.0] * 30)))
    assert scored["sharpe"] is None
    assert scored["cvar_95"] == 0.0
    assert plain({"a": [math.inf, {"b": (math.nan, 1, True, "x")}]}) == {"a": [None, {"b": [None, 1, True, "x"]}]}


def test_an_empty_or_incomplete_ledger_is_refused():
    with pytest.raises(DataError, match="empty"):
        hedge_metrics(ledger([0.1]).clear())
    with pytest.raises(SchemaError, match="lacks column 'turnover'"):
        hedge_metrics(ledger([0.1]).drop("turnover"))


returns = arrays(np.float64, st.integers(24, 80), elements=st.floats(-0.3, 0.3))


@settings(max_examples=30, deadline=None)
@given(returns)
def test_risk_measures_stay_within_their_limits(values):
    assert 0 <= max_drawdown(values) < 1
    scored = hedge_metrics(ledger(list(values)))
    worst = min(np.concatenate(rolling_returns(ledger(list(values)))))
    assert scored["cvar_95"] <= -worst + 1e-12
    assert 1 + scored["net_return"] == pytest.approx(np.prod(1 + values))


@settings(max_examples=30, deadline=None)
@given(returns, st.floats(0.1, 0.9))
def test_halving_every_return_lowers_volatility_in_proportion(values, factor):
    full, part = hedge_metrics(ledger(list(values))), hedge_metrics(ledger(list(values * factor)))
    assert part["volatility"] == pytest.approx(full["volatility"] * factor, abs=1e-9)
    assert part["max_drawdown"] <= full["max_drawdown"] + 1e-9
