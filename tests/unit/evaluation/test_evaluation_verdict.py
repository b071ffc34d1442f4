"""The sentences under the strategy table: a loss is called one, and the rounding of a sum is no win."""

from __future__ import annotations

from typing import Any

import pytest

from oihedge.evaluation.verdict import verdict

TWIN, RULE = "static_twin_expost", "signal_rule_rescaled"


def rows(policy: tuple[float, float], **others: tuple[float, float]) -> list[dict[str, Any]]:
    """Rows of (cvar_95, net_return)."""
    return [
        {"strategy": name, "mean_ratio": 0.4, "cvar_95": cvar, "net_return": net}
        for name, (cvar, net) in {"policy": policy, **others}.items()
    ]


@pytest.mark.parametrize(
    ("policy", "risk", "net"),
    [
        ((0.04, 0.2), "beats every plain hedge", "beats every plain hedge"),
        ((0.06, 0.0), "LOSES to every plain hedge", "LOSES to every plain hedge"),
        ((0.05, 0.1), "EQUALS static_twin_expost", "EQUALS static_twin_expost"),
        ((0.05 - 1e-15, 0.1 + 1e-15), "EQUALS static_twin_expost", "EQUALS static_twin_expost"),
        ((float("nan"), 0.1), "cannot be compared", "EQUALS static_twin_expost"),
    ],
)
def test_a_tie_is_neither_won_nor_lost(policy: tuple[float, float], risk: str, net: str) -> None:
    said = verdict(rows(policy, **{TWIN: (0.05, 0.1)}))
    assert risk in said[0]
    assert net in said[1]


def test_wins_ties_and_losses_are_told_apart() -> None:
    said = verdict(rows((0.05, 0.1), **{TWIN: (0.06, 0.0), RULE: (0.05, 0.2), "min_variance_rescaled": (0.04, 0.1)}))
    assert "LOSES to min_variance_rescaled (4.00 %) and EQUALS signal_rule_rescaled (5.00 %) and beats" in said[0]


@pytest.mark.parametrize(
    ("other", "dominates"),
    [((0.04, 0.2), True), ((0.05, 0.1), False), ((0.05 - 1e-15, 0.2), False), ((0.04, 0.1), False)],
)
def test_a_hedge_dominates_only_with_less_risk_and_more_return(other: tuple[float, float], dominates: bool) -> None:
    said = verdict(rows((0.05, 0.1), **{TWIN: (0.05, 0.1), "static_50": other}))[2]
    assert ("static_50" in said) is dominates
