"""Do joint scenario paths of (return, open interest) hold as often as they say? Scores of paths against what came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from oihedge.core.forecasts import PATH_TARGETS
from oihedge.evaluation.grid import Floats

LEVELS = (0.5, 0.8, 0.96)
"""Central shares of the paths that are looked at."""
ReturnGivenOi = Callable[[Floats, Sequence[float]], Floats]
"""Quantiles (forecasts, values, levels) of the return over the horizon, given values of OI's log change over it."""


def joint_coverage(drawn: Floats, came: Floats, return_given_oi: ReturnGivenOi) -> dict[str, dict[str, float]]:
    """Return, per nominal central share ("80": 0.80) and quantity, how often what came lay among that share of paths.

    The quantities are sums over the horizon and so need the dependence between steps: `return`, `oi` (in coins) and
    `lowest_oi` (its lowest point, what p_unwind asks for); `oi_usd`, return and OI together, needs that of the two.
    `return_given_oi` is the return among the paths whose OI ends about where it ended: found out are paths in which the
    two go together too closely or the wrong way, while independent ones hold too, being wider.

    Args:
        drawn: hourly log changes (forecasts, 2, paths, steps), return first.
        came: the same as they came (forecasts, 2, steps); forecasts with a NaN are left out.
        return_given_oi: told by the same paths, for all `forecasts` and (forecasts, values).

    Returns:
        The shares; empty if no outcome is known.
    """
    known = np.isfinite(came).all(axis=(1, 2))
    if not known.any():
        return {}
    paths, outcome = _quantities(drawn), _quantities(came)
    outcome["return_given_oi"] = outcome["return"]
    found = {}
    for share in LEVELS:
        levels = ((1 - share) / 2, (1 + share) / 2)
        spans = {name: np.quantile(values, levels, axis=-1) for name, values in paths.items()}
        spans["return_given_oi"] = return_given_oi(outcome["oi"][:, None], levels)[:, 0].T
        inside = {name: (low <= outcome[name]) & (outcome[name] <= high) for name, (low, high) in spans.items()}
        found[f"{100 * share:g}"] = {name: float(held[known].mean()) for name, held in inside.items()}
    return found


def joint_coverage_error(folds: Sequence[Mapping[str, Mapping[str, float]]]) -> float:
    """Return how far, on the mean over shares and quantities, the folds' mean coverage is from nominal; NaN without."""
    told = [fold for fold in folds if fold]
    if not told:
        return float("nan")
    off = [
        np.mean([fold[share][name] for fold in told]) - float(share) / 100
        for share, of in told[0].items()
        for name in of
    ]
    return float(np.mean(np.abs(off)))


def outcomes(rows: pl.DataFrame, asset: Sequence[str], at: Sequence[datetime], steps: int) -> Floats:
    """Return what came after each forecast (forecasts, 2, steps) as `joint_coverage` takes it, NaN where not known.

    Args:
        rows: asset, ts, log_return, log_oi (the change over the hour that ends at ts).
        asset: whose forecast.
        at: its instant.
        steps: hours ahead.
    """
    asked = pl.DataFrame({"asset": asset, "at": at}).with_columns(pl.col("at").cast(rows.schema["ts"])).with_row_index()
    hours = asked.join(pl.DataFrame({"step": range(1, steps + 1)}), how="cross")
    hours = hours.with_columns(ts=pl.col("at") + pl.col("step") * pl.duration(hours=1))
    came = hours.join(rows.select("asset", "ts", *PATH_TARGETS), on=["asset", "ts"], how="left").sort("index", "step")
    values = came.select(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in PATH_TARGETS).to_numpy()
    return values.reshape(len(asked), steps, 2).transpose(0, 2, 1)


def _quantities(changes: Floats) -> dict[str, Floats]:
    """Sum hourly changes (forecasts, 2, ..., steps) over the horizon."""
    price, oi = np.cumsum(changes[:, 0], axis=-1), np.cumsum(changes[:, 1], axis=-1)
    return {"return": price[..., -1], "oi": oi[..., -1], "lowest_oi": oi.min(axis=-1), "oi_usd": (price + oi)[..., -1]}
