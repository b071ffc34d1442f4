"""What the strategy table says in plain words: does the policy beat or lose to the plain hedges?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from oihedge.evaluation.strategies import AS_THEY_ARE, EQUAL_MEAN, POLICY

TIE = 1e-9
"""Differences up to this are the rounding of sums, and no difference."""


def verdict(strategies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences on the policy against the plain hedges, computed from the strategy table and nothing else.

    The first compares risk (CVaR 95) with the hedges of the same mean ratio, which is the fair comparison; the second
    net return with the same; the third says which hedges, as anyone could have held them, had less risk and more
    return at once.
    """
    table = {str(row["strategy"]): row for row in strategies}
    if POLICY not in table:
        return ["No policy was evaluated."]
    ours = table[POLICY]
    equal = {name: table[name] for name in EQUAL_MEAN if name in table}
    if not equal:
        return ["There was no plain hedge to compare with."]
    return [
        _risk(ours, equal),
        _return(ours, equal),
        _dominated(ours, {n: table[n] for n in AS_THEY_ARE if n in table}),
    ]


def _risk(ours: Mapping[str, Any], rivals: Mapping[str, Mapping[str, Any]]) -> str:
    lead = (
        f"At equal mean hedge ratio ({_number(ours['mean_ratio'])}) the policy's CVaR 95 is {_percent(ours['cvar_95'])}"
    )
    return f"{lead}: it {_outcome(ours, rivals, 'cvar_95', 1)}."


def _return(ours: Mapping[str, Any], rivals: Mapping[str, Mapping[str, Any]]) -> str:
    lead = f"Its net return is {_percent(ours['net_return'])}"
    return f"{lead}: on that it {_outcome(ours, rivals, 'net_return', -1)}."


def _outcome(ours: Mapping[str, Any], rivals: Mapping[str, Mapping[str, Any]], metric: str, sign: int) -> str:
    """Say against whom the policy does better or worse (sign 1: lower is better); a tie is said to be one."""
    if not all(_known(row[metric]) for row in (ours, *rivals.values())):
        return f"cannot be compared, for {metric} is not known"
    ahead = {name: sign * (row[metric] - ours[metric]) for name, row in rivals.items()}
    beaten = [name for name, by in ahead.items() if by > TIE]
    lost = [name for name, by in ahead.items() if by < -TIE]
    tied = [name for name in rivals if name not in beaten and name not in lost]

    def said(names: list[str]) -> str:
        return ", ".join(f"{name} ({_percent(rivals[name][metric])})" for name in names)

    if len(beaten) == len(rivals):
        return f"beats every plain hedge: {said(beaten)}"
    if len(lost) == len(rivals):
        return f"LOSES to every plain hedge: {said(lost)}"
    told = [(lost, "LOSES to"), (tied, "EQUALS"), (beaten, "beats")]
    return " and ".join(f"{verb} {said(names)}" for names, verb in told if names)


def _dominated(ours: Mapping[str, Any], rivals: Mapping[str, Mapping[str, Any]]) -> str:
    better = [
        name
        for name, row in rivals.items()
        if all(_known(one) for one in (row["cvar_95"], row["net_return"], ours["cvar_95"], ours["net_return"]))
        and row["cvar_95"] < ours["cvar_95"] - TIE
        and row["net_return"] > ours["net_return"] + TIE
    ]
    if better:
        return f"LESS risk and MORE return at once than the policy had, whatever their ratio: {', '.join(better)}."
    return "No plain hedge, whatever its ratio, had both less risk and more return."


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _percent(value: Any) -> str:
    return f"{100 * value:.2f} %" if _known(value) else "not known"


def _number(value: Any) -> str:
    return f"{value:.2f}" if _known(value) else "not known"
