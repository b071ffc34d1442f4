"""Every kind of forecaster on the same unseen hours, fold after fold; nothing is registered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from oihedge.config import Config
from oihedge.core.clock import HOUR, iso
from oihedge.core.errors import ConfigError
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.core.protocols import Progress, silent
from oihedge.evaluation.folds import Fold
from oihedge.evaluation.joint import joint_coverage, joint_coverage_error, outcomes
from oihedge.evaluation.metrics import plain
from oihedge.evaluation.scores import (
    KEYS,
    Aligned,
    align,
    base_rates,
    coverage_errors,
    pool,
    score,
    skill,
)
from oihedge.features.labels import unwind_label
from oihedge.forecast.fit import Fitted, quiet
from oihedge.forecast.kinds import CLOSED_FORM, LEARNED
from oihedge.forecast.memory import lean_memory
from oihedge.forecast.scenarios import JointPaths
from oihedge.jobs.epochs import told
from oihedge.jobs.evaluate import AtTheTime, extend, in_time, known_by, lay_folds, train, warnings_of, window_of
from oihedge.jobs.featuring import features

KINDS = (*LEARNED, *CLOSED_FORM)
Coverage = dict[str, dict[str, float]]
PATHS_EVERY_H = 6
"""Joint paths are drawn at every so many hours of a test window: neighbours overlap almost wholly."""
REFERENCE = "climatology"
"""What quantile skill is measured against: the model that knows the clock and nothing else."""


@dataclass(frozen=True)
class CompareReport:
    """What each kind scored: `models` over all folds pooled, `folds` one line a kind and fold.

    Columns: quantile_loss (log change per hour), quantile_skill (against climatology), NAME_skill (the same of each
    further target, at steps whose realised value lies wholly ahead), coverage_error (mean distance from nominal),
    worst_coverage (largest one), brier_skill (of p_unwind against each asset's training share), worst_brier_skill (of
    any fold), distinct_events, joint_coverage_error (of the joint paths' sums over the horizon, the folds' mean
    coverage; null for kinds that draw none), fit_s (seconds of all fits and forecasts).
    """

    as_of: datetime
    label: str
    price_label: str
    models: tuple[dict[str, Any], ...]
    folds: tuple[dict[str, Any], ...]
    forecasts: int
    warnings: tuple[str, ...]
    """What an operator ought to know of how the fits went."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, as_of: datetime, kinds: Sequence[str] = (), progress: Progress = silent) -> CompareReport:
    """Fit every kind on every fold and score all on the instants that all of them forecast.

    Args:
        config: the recipe; `forecast.model` does not matter.
        as_of: the instant to work at.
        kinds: which; empty for all. Climatology always takes part.
        progress: told of each fit.

    Raises:
        ConfigError: for an unknown kind.
        DataError: for an empty window or too little history.
    """
    lean_memory()
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ConfigError(f"unknown model {unknown[0]!r}", expected=", ".join(KINDS), got=", ".join(kinds))
    asked = [kind for kind in KINDS if not kinds or kind in {*kinds, REFERENCE}]
    rows = features(config, as_of=as_of, start=as_of - timedelta(days=config.run.history_days)).past
    labels = unwind_label(rows, config.forecast.horizon_h, config.forecast.drop)
    parts: dict[str, list[Aligned]] = {kind: [] for kind in asked}
    paths: dict[str, list[Coverage]] = {kind: [] for kind in asked}
    seconds, warnings = dict.fromkeys(asked, 0.0), list[str]()
    laid = lay_folds(config, rows)
    for fold in laid:
        forecasts = {}
        for number, kind in enumerate(asked):
            done, total = fold.index * len(asked) + number, len(laid) * len(asked)
            progress(done, total, f"fold {fold.index + 1}: {kind}")
            began = time.perf_counter()
            fitted, (seen, instants) = _fitted(config, rows, fold, kind, progress), _asked(rows, fold)
            warnings += [f"fold {fold.index + 1}, {kind}: {line}" for line in warnings_of(fitted.facts)]
            model = AtTheTime(fitted, config)
            forecasts[kind] = model.predict(seen, instants)
            paths[kind].append(_paths(config, model, rows, seen, instants))
            seconds[kind] += time.perf_counter() - began
        rate = base_rates(labels, fold.train_start, fold.train_end - config.forecast.horizon_h * HOUR)
        for kind, same in _same(forecasts).items():
            parts[kind].append(align(same, rows, labels, rate))
    progress(len(laid) * len(asked), len(laid) * len(asked), "compared")
    return _report(config, as_of, laid, parts, paths, seconds, warnings)


def _fitted(config: Config, rows: pl.DataFrame, fold: Fold, kind: str, progress: Progress) -> Fitted:
    report = told(progress, f"fold {fold.index + 1} {kind}", config.forecast.max_epochs, quiet)
    return train(config, known_by(rows, fold), window_of(fold), model=kind, report=report)


def _asked(rows: pl.DataFrame, fold: Fold) -> tuple[pl.DataFrame, list[datetime]]:
    seen = rows.filter(pl.col("ts") < fold.test_end)
    return seen, seen.filter(pl.col("ts") >= fold.test_start)["ts"].unique().sort().to_list()


def _paths(
    config: Config, model: AtTheTime, rows: pl.DataFrame, seen: pl.DataFrame, instants: Sequence[datetime]
) -> Coverage:
    """Return how the model's joint paths of some instants held; empty for one that draws none."""
    draw: Callable[..., JointPaths] | None = getattr(model.model, "paths", None)
    if draw is None:
        return {}
    at = instants[::PATHS_EVERY_H]
    told = draw(extend(model.read(seen, at), config), at)
    came = outcomes(rows, told.asset, told.at, config.forecast.horizon_h)
    known = set(in_time(config, seen, model.shape[0]).select("asset", "ts").iter_rows())
    came[[drawn not in known for drawn in zip(told.asset, told.at, strict=True)]] = np.nan
    return joint_coverage(told.changes, came, told.return_given_oi)


def _same(forecasts: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    common = None
    for frame in forecasts.values():
        keys = frame.select(KEYS)
        common = keys if common is None else common.join(keys, on=KEYS, how="semi")
    assert common is not None
    return {kind: frame.join(common, on=KEYS, how="semi") for kind, frame in forecasts.items()}


def _report(
    config: Config, as_of: datetime, laid: Sequence[Fold], parts: dict[str, list[Aligned]],
    paths: dict[str, list[Coverage]], seconds: dict[str, float], warnings: Sequence[str],
) -> CompareReport:  # fmt: skip
    levels = config.forecast.quantiles
    ahead = config.features.realised_h
    each = {kind: [_scored(part, levels, ahead) for part in of] for kind, of in parts.items()}
    pooled = {kind: _scored(pool(of), levels, ahead) for kind, of in parts.items()}
    models = [
        {
            "model": kind, **_line(config, pooled[kind], pooled[REFERENCE]),
            "worst_brier_skill": min(one["brier_skill"] for one in each[kind]),
            "joint_coverage_error": joint_coverage_error(paths[kind]), "fit_s": seconds[kind],
        }
        for kind in parts
    ]  # fmt: skip
    by_fold = [
        {
            "model": kind, "fold": fold.index + 1, "test_start": iso(fold.test_start),
            **_line(config, one, each[REFERENCE][n]),
        }
        for kind in parts
        for n, (fold, one) in enumerate(zip(laid, each[kind], strict=True))
    ]  # fmt: skip
    return CompareReport(
        as_of, config.run.label, config.run.price_label, tuple(plain(one) for one in models),
        tuple(plain(one) for one in by_fold), pooled[REFERENCE]["forecasts"], tuple(warnings),
    )  # fmt: skip


def _scored(aligned: Aligned, levels: Sequence[float], ahead: int) -> dict[str, Any]:
    """Score, and add `late`: the losses at steps whose realised values lie wholly ahead of the forecast."""
    late = Aligned(aligned.paths.filter(pl.col("step") >= ahead), aligned.events)
    return {**score(aligned, levels), "late": score(late, levels) if late.paths.height else {"losses": {}}}


def _line(config: Config, scores: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    further = config.forecast.targets[len(PATH_TARGETS) :]
    return {
        "quantile_loss": scores["quantile_loss"], "quantile_skill": skill(scores, reference),
        **{f"{target}_skill": skill(scores["late"], reference["late"], (target,)) for target in further},
        "coverage_error": scores["coverage_error"], "worst_coverage": max(coverage_errors(scores["coverage"])),
        "brier_skill": scores["brier_skill"], "distinct_events": scores["distinct_events"],
    }  # fmt: skip
