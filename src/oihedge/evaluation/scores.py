"""Forecast scores: quantile loss and skill, coverage, and the Brier score of p_unwind with its reliability.

Forecasts have the shape of core.protocols.FittedModel.predict. The events of neighbouring hours overlap (each looks
`horizon_h` ahead), and so do the paths: n forecasts are far fewer than n independent ones. `distinct_events` counts
the separate unwinds, which is the number to judge the Brier skill by; no significance is claimed from the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from oihedge.core.clock import HOUR
from oihedge.core.errors import DataError
from oihedge.core.forecasts import PATH_TARGETS, quantile_column
from oihedge.evaluation.grid import require_columns

KEYS = ("asset", "ts", "step")
RELIABILITY_BINS = 10


@dataclass(frozen=True)
class Aligned:
    """Forecasts beside what came.

    paths: asset, ts, step, the targets as they came and the forecast's quantiles; events: asset, ts, p_unwind, unwind
    (bool) and base_rate. Rows whose outcome is not known are left out; a NaN forecast stays and spoils its score.
    """

    paths: pl.DataFrame
    events: pl.DataFrame


def targets_of(forecasts: pl.DataFrame) -> tuple[str, ...]:
    """Return the targets that `forecasts` have a median of, those of the paths first."""
    median = quantile_column("", 0.5)
    found = [name.removesuffix(median) for name in forecasts.columns if name.endswith(median)]
    return tuple(dict.fromkeys([*PATH_TARGETS, *found]))


def align(
    forecasts: pl.DataFrame, features: pl.DataFrame, labels: pl.DataFrame, base_rate: Mapping[str, float]
) -> Aligned:
    """Join forecasts to the hourly log changes, the further targets that they have, and the unwinds that followed.

    Args:
        forecasts: asset, ts, step, p_unwind and quantiles.
        features: asset, ts, log_return, log_oi (the change over the hour that ends at ts) and the further targets.
        labels: asset, ts, unwind (null where the future is not complete).
        base_rate: per asset, the share of unwinds in the training window: the climatology.

    Raises:
        SchemaError: if a column is missing.
    """
    require_columns(forecasts, (*KEYS, "p_unwind"), "forecasts")
    targets = targets_of(forecasts)
    require_columns(features, ("asset", "ts", *targets), "features")
    require_columns(labels, ("asset", "ts", "unwind"), "unwind labels")
    outcome = features.select("asset", pl.col("ts").alias("at"), *targets).drop_nulls(PATH_TARGETS)
    at = (pl.col("ts") + pl.col("step").cast(pl.Int64) * pl.lit(HOUR)).alias("at")
    paths = forecasts.with_columns(at).join(outcome, on=["asset", "at"], how="inner").sort(KEYS)
    rates = pl.DataFrame(
        {"asset": list(base_rate), "base_rate": [float(rate) for rate in base_rate.values()]},
        schema={"asset": pl.String(), "base_rate": pl.Float64()},
    )
    events = (
        forecasts.select("asset", "ts", "p_unwind")
        .unique(["asset", "ts"], keep="first")
        .join(labels.select("asset", "ts", "unwind").drop_nulls(), on=["asset", "ts"], how="inner")
        .join(rates, on="asset", how="left")
        .with_columns(pl.col("p_unwind", "base_rate").cast(pl.Float64).fill_null(math.nan))
        .sort("asset", "ts")
    )
    return Aligned(paths.drop("at", "p_unwind"), events)


def pool(parts: Sequence[Aligned]) -> Aligned:
    """Put the aligned forecasts of several folds under one another."""
    return Aligned(pl.concat([part.paths for part in parts]), pl.concat([part.events for part in parts]))


def base_rates(labels: pl.DataFrame, start: datetime, end: datetime) -> dict[str, float]:
    """Return each asset's share of unwinds among the labels with start <= ts <= end; NaN where there is none."""
    known = labels.filter(pl.col("ts").is_between(start, end)).drop_nulls("unwind")
    shares = known.group_by("asset").agg(pl.col("unwind").cast(pl.Float64).mean().alias("share"))
    found = dict(shares.select("asset", "share").iter_rows())
    return {asset: found.get(asset, math.nan) for asset in sorted(labels["asset"].unique())}


def score(aligned: Aligned, quantiles: Sequence[float]) -> dict[str, Any]:
    """Score aligned forecasts.

    Returns:
        losses: mean pinball loss per "asset/target", in the target's unit; quantile_loss: mean of those of the path
        targets (log change per hour). coverage: per nominal central interval ("80": 0.80) and target, the share that
        fell inside; coverage_error: mean absolute difference to nominal over intervals and path targets. brier,
        brier_climatology, brier_skill (1 - brier / brier_climatology; NaN where the climatology was never wrong),
        base_rate (observed), reliability (bins of p_unwind: p, observed, count), forecasts (instants x assets) and
        distinct_events. Unknown is NaN.

    Raises:
        DataError: if no forecast has an outcome yet.
    """
    if aligned.paths.is_empty():
        raise DataError(
            "no forecast has a known outcome", expected="instants at least an hour before the newest feature"
        )
    losses = _losses(aligned.paths, quantiles)
    coverage = _coverage(aligned.paths, quantiles)
    return {
        "quantile_loss": _mean(_of_targets(losses, PATH_TARGETS)),
        "losses": losses,
        "coverage": coverage,
        "coverage_error": _mean(coverage_errors(coverage)),
        **_event_scores(aligned.events),
        "forecasts": aligned.paths.select("asset", "ts").n_unique(),
    }


def coverage_errors(coverage: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Return the absolute difference to nominal of each interval and path target."""
    return [abs(of[target] - float(nominal) / 100) for nominal, of in coverage.items() for target in PATH_TARGETS]


def skill(scores: Mapping[str, Any], reference: Mapping[str, Any], targets: Sequence[str] = PATH_TARGETS) -> float:
    """Return 1 - the mean over assets and `targets` of loss / reference loss; both scored on the same rows."""
    mine, theirs = (_of_targets(of["losses"], targets) for of in (scores, reference))
    return 1 - _mean([loss / other for loss, other in zip(mine, theirs, strict=True) if other])


def same_instants(forecasts: pl.DataFrame, others: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Reduce two forecast frames to the asset, ts and step that both have, so that their scores compare."""
    return forecasts.join(others, on=KEYS, how="semi"), others.join(forecasts, on=KEYS, how="semi")


def _of_targets(losses: Mapping[str, float], targets: Sequence[str]) -> list[float]:
    return [loss for name, loss in losses.items() if name.rpartition("/")[2] in targets]


def _losses(paths: pl.DataFrame, quantiles: Sequence[float]) -> dict[str, float]:
    means, targets = [], targets_of(paths)
    for target in targets:
        pinball = []
        for level in quantiles:
            miss = pl.col(target) - pl.col(quantile_column(target, level)).cast(pl.Float64).fill_null(math.nan)
            # max(NaN, x) would hide a NaN forecast, hence the branch on the sign instead.
            pinball.append(pl.when(miss >= 0).then(level * miss).otherwise((level - 1) * miss))
        means.append(pl.mean_horizontal(pinball).mean().fill_null(math.nan).alias(target))
    by_asset = paths.group_by("asset").agg(means).sort("asset")
    return {f"{row['asset']}/{target}": row[target] for row in by_asset.iter_rows(named=True) for target in targets}


def _coverage(paths: pl.DataFrame, quantiles: Sequence[float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    targets = targets_of(paths)
    for low in quantiles:
        high = next((level for level in quantiles if level > low and math.isclose(level, 1 - low, abs_tol=1e-9)), None)
        if high is not None:
            found[f"{100 * (high - low):g}"] = {target: _inside(paths, target, low, high) for target in targets}
    return found


def _inside(paths: pl.DataFrame, target: str, low: float, high: float) -> float:
    bounds = [pl.col(quantile_column(target, level)) for level in (low, high)]
    spoiled = pl.any_horizontal([bound.is_null() | bound.is_nan() for bound in bounds])
    inside = pl.when(spoiled).then(math.nan).otherwise(pl.col(target).is_between(bounds[0], bounds[1]).cast(pl.Float64))
    return float(paths.select(inside.mean().fill_null(math.nan)).item())


def _event_scores(events: pl.DataFrame) -> dict[str, Any]:
    if events.is_empty():
        unknown = dict.fromkeys(("brier", "brier_climatology", "brier_skill", "base_rate"), math.nan)
        return {**unknown, "reliability": [], "distinct_events": 0}
    came = pl.col("unwind").cast(pl.Float64)
    brier, climatology, rate = events.select(
        ((pl.col("p_unwind") - came) ** 2).mean().alias("brier"),
        ((pl.col("base_rate") - came) ** 2).mean().alias("climatology"),
        came.mean().alias("rate"),
    ).row(0)
    begins = pl.col("unwind") & ~pl.col("unwind").shift(1, fill_value=False).over("asset")
    return {
        "brier": brier,
        "brier_climatology": climatology,
        "brier_skill": 1 - brier / climatology if climatology > 0 else math.nan,
        "base_rate": rate,
        "reliability": _reliability(events),
        "distinct_events": int(events.select(begins.sum()).item()),
    }


def _reliability(events: pl.DataFrame) -> list[dict[str, float]]:
    bins = (pl.col("p_unwind") * RELIABILITY_BINS).floor().clip(0, RELIABILITY_BINS - 1).alias("bin")
    grouped = (
        events.filter(pl.col("p_unwind").is_not_nan())
        .group_by(bins)
        .agg(pl.col("p_unwind").mean().alias("p"), pl.col("unwind").mean().alias("observed"), pl.len().alias("count"))
        .sort("bin")
    )
    return grouped.drop("bin").to_dicts()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
