"""Walk-forward: fit, forecast, decide and backtest on unseen windows, fold after fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from oihedge.core.clock import HOUR, iso
from oihedge.core.errors import DataError
from oihedge.core.protocols import FittedModel, Progress, silent
from oihedge.core.tables import UTC_TIME
from oihedge.evaluation import strategies as plain_hedges
from oihedge.evaluation.backtest import Backtest, run_on
from oihedge.evaluation.folds import Fold
from oihedge.evaluation.grid import MarketGrid, lay_grid, require_columns
from oihedge.evaluation.metrics import METRICS, hedge_metrics, mean_ratio, plain
from oihedge.evaluation.scores import Aligned, align, base_rates, pool, same_instants, score, skill
from oihedge.evaluation.settings import Evaluation
from oihedge.evaluation.strategies import POLICY

Fit = Callable[[Fold], tuple[FittedModel, FittedModel]]
"""Train on a fold's training and validation windows; return (model, persistence baseline)."""
Decide = Callable[[pl.DataFrame, pl.DataFrame | None], pl.DataFrame]
"""Turn feature rows and forecasts (None: the model-free rule) into asset, ts, available_at, ratio, tier, ..."""


@dataclass(frozen=True)
class Inputs:
    """What the walk-forward reads, as polars frames.

    features: asset, ts, available_at, log_return, log_oi, ...; prices: asset, ts (bar open), spot_open, perp_open;
    funding: asset, ts, rate of the hedge leg; labels: asset, ts, unwind; holdings: coins per asset; cash: money beside
    them; quantiles and horizon_h: those of the forecasts.
    """

    features: pl.DataFrame
    prices: pl.DataFrame
    funding: pl.DataFrame
    labels: pl.DataFrame
    holdings: Mapping[str, float]
    quantiles: Sequence[float]
    horizon_h: int
    cash: float = 0.0


@dataclass(frozen=True)
class Evaluated:
    """Everything out of sample, all folds chained.

    strategies: strategy and `METRICS`. scores: model, persistence, quantile_skill and folds (one dict each).
    ledgers: per strategy fold, ts, nav, ret, ... (backtest.Backtest.nav). decisions: the policy's rows over the test
    windows with fold. applied: fold, strategy, asset, ts, ratio. forecasts: the model's, over the test windows.
    models: per fold (model, baseline).
    """

    strategies: pl.DataFrame
    scores: dict[str, Any]
    ledgers: dict[str, pl.DataFrame]
    decisions: pl.DataFrame
    applied: pl.DataFrame
    forecasts: pl.DataFrame
    folds: tuple[Fold, ...]
    oos_days: float
    models: tuple[tuple[FittedModel, FittedModel], ...] = field(default=(), repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return the strategies table as plain JSON values, NaN as None."""
        return [plain(row) for row in self.strategies.iter_rows(named=True)]


@dataclass(frozen=True)
class _FoldResult:
    ledgers: dict[str, pl.DataFrame]
    applied: pl.DataFrame
    decisions: pl.DataFrame
    forecasts: pl.DataFrame
    model: Aligned
    persistence: Aligned


def walk_forward(
    inputs: Inputs,
    folds: Sequence[Fold],
    settings: Evaluation,
    *,
    fit: Fit,
    decide: Decide,
    progress: Progress = silent,
) -> Evaluated:
    """Evaluate a recipe on every fold's test window and chain the hourly returns.

    Per fold: `fit(fold)`; forecasts at each hour from validation_start to test_end; `decide` with forecasts
    (`policy`) and without (`signal_rule`) over the same hours, so that the test window begins warmed up; decisions
    count from their available_at. Strategies are the constants, the two static twins (ex post: the policy's mean ratio
    per asset over that very test window; tradable: its mean over the validation window before), min_variance and
    volatility_target, and each moving one once more `_rescaled` to the policy's mean ratio per asset.

    Args:
        inputs: frames and forecast facts.
        folds: as `folds.folds` lays them, contiguous.
        settings: costs, latency and baselines.
        fit: trains one fold; must use nothing after fold.calibration_end.
        decide: the policy; receives one forecast row per asset and ts, at the horizon, with p_unwind.
        progress: told after each fold's training and backtest.

    Raises:
        SchemaError: if a frame lacks a column.
        DataError: for a window without features, prices or forecasts.
    """
    results, models = [], []
    for number, fold in enumerate(folds):
        progress(2 * number, 2 * len(folds), f"fold {fold.index + 1}: training until {iso(fold.train_end)}")
        fitted = fit(fold)
        progress(2 * number + 1, 2 * len(folds), f"fold {fold.index + 1}: testing from {iso(fold.test_start)}")
        results.append(_run_fold(inputs, fold, settings, fitted, decide))
        models.append(fitted)
    progress(2 * len(folds), 2 * len(folds), "walk-forward done")
    return _chain(inputs, tuple(folds), results, tuple(models))


def _run_fold(
    inputs: Inputs, fold: Fold, settings: Evaluation, fitted: tuple[FittedModel, FittedModel], decide: Decide
) -> _FoldResult:
    rows = inputs.features.filter(pl.col("ts") >= fold.validation_start, pl.col("ts") < fold.test_end)
    instants = rows["ts"].unique().sort().to_list()
    if not instants or instants[-1] < fold.test_start:
        raise DataError("a fold has no features to test on", expected=f"rows from {iso(fold.test_start)}", got="none")
    seen = inputs.features.filter(pl.col("ts") < fold.test_end)
    forecasts, others = (model.predict(seen, instants) for model in fitted)
    policy = decide(rows, forecasts.filter(pl.col("step") == inputs.horizon_h))
    rule = decide(rows, None)
    ledgers, applied = _backtests(inputs, fold, settings, policy, rule)
    # Scored is what could be decided on: a forecast from rows that came late was none at the time.
    tested, tested_others = same_instants(
        *(
            frame.filter(pl.col("ts") >= fold.test_start).join(rule, on=["asset", "ts"], how="semi")
            for frame in (forecasts, others)
        )
    )
    rate = base_rates(inputs.labels, fold.train_start, fold.train_end - inputs.horizon_h * HOUR)
    return _FoldResult(
        ledgers={name: _numbered(frame, fold) for name, frame in ledgers.items()},
        applied=_numbered(applied, fold),
        decisions=_numbered(policy.filter(pl.col("ts") >= fold.test_start), fold),
        forecasts=_numbered(tested, fold),
        model=align(tested, inputs.features, inputs.labels, rate),
        persistence=align(tested_others, inputs.features, inputs.labels, rate),
    )


def as_decisions(decided: pl.DataFrame) -> pl.DataFrame:
    """Return asset, decided_at, ratio from a policy's rows: a row counts from its available_at, the later ts wins."""
    require_columns(decided, ("asset", "ts", "available_at", "ratio"), "policy rows")
    ordered = decided.sort("asset", "available_at", "ts")
    return ordered.select(
        "asset", pl.col("available_at").alias("decided_at").cast(UTC_TIME), pl.col("ratio").cast(pl.Float64)
    )


def _backtests(
    inputs: Inputs, fold: Fold, settings: Evaluation, policy: pl.DataFrame, rule: pl.DataFrame
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    def grid_of(start: datetime, end: datetime) -> MarketGrid:
        return lay_grid(inputs.prices, inputs.funding, inputs.holdings, start=start, end=end, cash=inputs.cash)

    def run(grid: MarketGrid, ratios: pl.DataFrame) -> Backtest:
        return run_on(grid, ratios, settings.costs, settings.latency_s)

    test = grid_of(fold.test_start, fold.test_end)
    runs = {POLICY: run(test, as_decisions(policy))}
    wanted = plain_hedges.mean_ratios(runs[POLICY])
    validation = run(grid_of(fold.validation_start, fold.calibration_end), as_decisions(policy))
    decisions = _plain_decisions(inputs, fold, settings, wanted, plain_hedges.mean_ratios(validation))
    decisions["signal_rule"] = as_decisions(rule)
    for name in list(decisions):
        runs[name] = run(test, decisions[name])
        if name in plain_hedges.MOVING:
            scaled = plain_hedges.rescaled(decisions[name], runs[name], wanted, settings.baselines.max_ratio)
            runs[name + plain_hedges.RESCALED] = run(test, scaled)
    applied = pl.concat([one.assets.with_columns(pl.lit(name).alias("strategy")) for name, one in runs.items()])
    return {name: one.nav for name, one in runs.items()}, applied


def _plain_decisions(
    inputs: Inputs, fold: Fold, settings: Evaluation, expost: Mapping[str, float], tradable: Mapping[str, float]
) -> dict[str, pl.DataFrame]:
    before, assets = fold.test_start - timedelta(days=1), list(inputs.holdings)
    made = {
        name: plain_hedges.constant(dict.fromkeys(assets, ratio), before)
        for name, ratio in plain_hedges.CONSTANTS.items()
    }
    made[plain_hedges.TWIN_EXPOST] = plain_hedges.constant(expost, before)
    made[plain_hedges.TWIN_TRADABLE] = plain_hedges.constant(tradable, before)
    for name, rule in (
        ("min_variance", plain_hedges.min_variance),
        ("volatility_target", plain_hedges.volatility_target),
    ):
        made[name] = rule(inputs.prices, assets, settings.baselines, fold.test_start, fold.test_end)
    return made


def _chain(
    inputs: Inputs,
    folds: tuple[Fold, ...],
    results: list[_FoldResult],
    models: tuple[tuple[FittedModel, FittedModel], ...],
) -> Evaluated:
    ledgers = {name: pl.concat([result.ledgers[name] for result in results]) for name in ORDER}
    # A plain hedge that never hedged has no mean ratio to rescale: it is no_hedge, and listed as such already.
    idle = {name + plain_hedges.RESCALED for name in plain_hedges.MOVING if not mean_ratio(ledgers[name]) > 0}
    names = [name for name in ORDER if name not in idle]
    table = pl.DataFrame([{"strategy": name, **hedge_metrics(ledgers[name])} for name in names])
    return Evaluated(
        strategies=table.select("strategy", *METRICS),
        scores=_scores(inputs, folds, results),
        ledgers={name: ledgers[name] for name in names},
        decisions=pl.concat([result.decisions for result in results], how="diagonal_relaxed"),
        applied=pl.concat([result.applied for result in results]).filter(pl.col("strategy").is_in(names)),
        forecasts=pl.concat([result.forecasts for result in results], how="diagonal_relaxed"),
        folds=folds,
        oos_days=ledgers[POLICY].height / 24,
        models=models,
    )


def _scores(inputs: Inputs, folds: tuple[Fold, ...], results: list[_FoldResult]) -> dict[str, Any]:
    def of(parts: list[Aligned]) -> dict[str, Any]:
        return score(pool(parts), inputs.quantiles)

    per_fold = []
    for fold, result in zip(folds, results, strict=True):
        mine, theirs = of([result.model]), of([result.persistence])
        kept = {name: mine[name] for name in ("quantile_loss", "coverage_error", "brier_skill", "base_rate")}
        windows = {"fold": fold.index, "test_start": iso(fold.test_start), "test_end": iso(fold.test_end)}
        per_fold.append({**windows, "quantile_skill": skill(mine, theirs), **kept})
    model, persistence = of([result.model for result in results]), of([result.persistence for result in results])
    return {
        "model": model,
        "persistence": persistence,
        "quantile_skill": skill(model, persistence),
        "folds": per_fold,
    }


def _numbered(frame: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    return frame.with_columns(pl.lit(fold.index, dtype=pl.Int32).alias("fold"))


ORDER = (
    *plain_hedges.CONSTANTS,
    plain_hedges.TWIN_EXPOST,
    plain_hedges.TWIN_TRADABLE,
    "min_variance",
    "volatility_target",
    "signal_rule",
    POLICY,
    *(name + plain_hedges.RESCALED for name in plain_hedges.MOVING),
)
"""The strategies, as every table lists them."""
