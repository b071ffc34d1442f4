"""Promotion gates: one list, one order, the same code for every challenger. NaN never passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oihedge.core.types import Gate
from oihedge.evaluation.bootstrap import cvar_difference
from oihedge.evaluation.metrics import rolling_returns
from oihedge.evaluation.settings import Gates
from oihedge.evaluation.strategies import EQUAL_MEAN, POLICY, TWIN_EXPOST
from oihedge.evaluation.walk_forward import Evaluated

NO_CHAMPION = "no champion"


@dataclass(frozen=True)
class ChampionComparison:
    """Challenger and champion on the same unseen windows: quantile skill of one over the other, and the hours.

    `skill` is scores.skill(challenger's scores, champion's scores) on rows that scores.same_instants left; `misfit`
    says why the champion could not be asked, if so.
    """

    version: str
    skill: float
    hours: int
    misfit: str = ""


def gates(
    evaluated: Evaluated,
    settings: Gates,
    *,
    quality_share: float,
    leakage_failures: float,
    latency_s: float,
    champion: ChampionComparison | None,
) -> list[Gate]:
    """Judge a challenger, gate by gate, in a fixed order.

    Args:
        evaluated: its walk-forward.
        settings: thresholds.
        quality_share: share of good rows behind its data.
        leakage_failures: probes failed (`leakage.leakage_probe`); NaN where none was run.
        latency_s: seconds from feature rows to decision.
        champion: the comparison with the model in service; None where there is none.

    Returns:
        data_quality, no_leakage, beats_persistence, beats_champion, coverage, p_unwind_calibration, stability, latency,
        min_mean_ratio, one cvar_vs_NAME per plain hedge at equal mean ratio, volatility, drawdown, net_return.
    """
    return [
        *_input_gates(settings, quality_share, leakage_failures),
        *_forecast_gates(evaluated, settings, champion),
        _at_most("latency", latency_s, settings.max_latency_s, "seconds from features to decision"),
        *_hedge_gates(evaluated, settings),
    ]


REQUIRED = (
    *("data_quality", "no_leakage", "beats_persistence", "beats_champion", "coverage", "p_unwind_calibration"),
    *("stability", "latency", "min_mean_ratio", f"cvar_vs_{TWIN_EXPOST}", "volatility", "drawdown", "net_return"),
)
"""Gates that no verdict may lack."""


def passed(verdicts: Sequence[Gate]) -> bool:
    """Return whether every required gate is there, was measured, and every gate held."""
    names = {gate.name for gate in verdicts}
    return names.issuperset(REQUIRED) and all(gate.passed and gate.value is not None for gate in verdicts)


def _at_least(name: str, value: float, threshold: float, what: str, detail: str = "") -> Gate:
    return Gate(name, value, threshold, f"{what} >= {threshold:g}", value >= threshold, detail)


def _at_most(name: str, value: float, threshold: float, what: str, detail: str = "") -> Gate:
    return Gate(name, value, threshold, f"{what} <= {threshold:g}", value <= threshold, detail)


def _above(name: str, value: float, threshold: float, what: str, detail: str = "") -> Gate:
    return Gate(name, value, threshold, f"{what} > {threshold:g}", value > threshold, detail)


def _input_gates(settings: Gates, quality_share: float, leakage_failures: float) -> list[Gate]:
    return [
        _at_least("data_quality", quality_share, settings.min_quality_share, "share of good rows"),
        _at_most("no_leakage", float(leakage_failures), 0.0, "look-ahead probes failed"),
    ]


def _forecast_gates(evaluated: Evaluated, settings: Gates, champion: ChampionComparison | None) -> list[Gate]:
    scores, floor = evaluated.scores, settings.min_quantile_skill
    model, per_fold = scores["model"], [fold["quantile_skill"] for fold in scores["folds"]]
    won = sum(skill > floor for skill in per_fold) / len(per_fold)
    intervals = "; ".join(
        f"{nominal} %: " + ", ".join(f"{target} {100 * share:.1f} %" for target, share in of.items())
        for nominal, of in model["coverage"].items()
    )
    events = f"{model['distinct_events']} separate unwinds, base rate {model['base_rate']:.3f}"
    folds = "skill per fold: " + ", ".join(f"{skill:+.4f}" for skill in per_fold)
    return [
        _above("beats_persistence", scores["quantile_skill"], floor, "quantile skill over persistence"),
        _champion_gate(champion, settings.min_unseen_hours),
        _at_most("coverage", model["coverage_error"], settings.max_coverage_error, "mean coverage error", intervals),
        _above(
            "p_unwind_calibration",
            model["brier_skill"],
            settings.min_brier_skill,
            "Brier skill over climatology",
            events,
        ),
        _at_least("stability", won, settings.min_folds_won, "share of folds that beat persistence", folds),
    ]


def _champion_gate(champion: ChampionComparison | None, least: int) -> Gate:
    what = "quantile skill over the champion"
    if champion is None:
        return Gate("beats_champion", 0.0, 0.0, f"{what} > 0", True, NO_CHAMPION)
    detail = f"champion version {champion.version}, {champion.hours} unseen hours"
    gate = _above("beats_champion", champion.skill, 0.0, what, detail)
    if champion.misfit:
        detail = f"champion version {champion.version} does not fit these settings: {champion.misfit}"
        return Gate(gate.name, None, 0.0, gate.rule, False, f"{detail}; retrain with its settings, or roll back")
    if champion.hours < least:
        return Gate(gate.name, gate.value, 0.0, gate.rule, False, f"{detail}, too few to tell: {least} are needed")
    return gate


def _hedge_gates(evaluated: Evaluated, settings: Gates) -> list[Gate]:
    table = {row["strategy"]: row for row in evaluated.strategies.iter_rows(named=True)}
    ours, rivals = table[POLICY], {name: table[name] for name in EQUAL_MEAN if name in table}
    return [
        _at_least("min_mean_ratio", ours["mean_ratio"], settings.min_mean_ratio, "the policy's mean hedge ratio"),
        *(_cvar_gate(evaluated, settings, name) for name in rivals),
        _worst("volatility", ours, rivals, "volatility", 1, settings.max_volatility_excess),
        _worst("drawdown", ours, rivals, "max_drawdown", 1, settings.max_drawdown_excess),
        _worst("net_return", ours, rivals, "net_return", -1, settings.max_return_shortfall),
    ]


def _cvar_gate(evaluated: Evaluated, settings: Gates, rival: str) -> Gate:
    ours, theirs = (rolling_returns(evaluated.ledgers[name]) for name in (POLICY, rival))
    found = cvar_difference(
        ours,
        theirs,
        block=settings.bootstrap_block_h,
        draws=settings.bootstrap_draws,
        confidence=settings.confidence,
        seed=settings.bootstrap_seed,
    )
    bound, level = settings.max_cvar_difference, f"{100 * settings.confidence:g} %"
    return Gate(
        name=f"cvar_vs_{rival}",
        value=found.upper,
        threshold=bound,
        rule=f"CVaR 95 at equal mean ratio lower, upper end of its {level} interval <= {bound:g}",
        passed=found.upper <= bound and found.point < 0,
        detail=f"difference {found.point:+.5f}, interval [{found.lower:+.5f}, {found.upper:+.5f}]",
    )


def _worst(
    name: str,
    ours: Mapping[str, float],
    rivals: Mapping[str, Mapping[str, float]],
    metric: str,
    sign: int,
    allowed: float,
) -> Gate:
    """Compare with the rival that does best on `metric` (sign 1: lower is better)."""
    shortfalls = {rival: sign * (ours[metric] - row[metric]) for rival, row in rivals.items()}
    # max() would step over a NaN, depending on where it stands; min by "is not NaN" puts it first.
    rival = max(shortfalls, key=lambda key: (shortfalls[key] != shortfalls[key], shortfalls[key]))
    detail = f"policy {ours[metric]:+.5f}, {rival} {rivals[rival][metric]:+.5f}"
    return _at_most(
        name, shortfalls[rival], allowed, f"{metric} behind the best plain hedge at equal mean ratio", detail
    )
