"""The plain hedges that a policy must beat, and their rescaling to the policy's own mean ratio.

Every strategy is a frame of decisions: asset, decided_at, ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from oihedge.core.clock import HOUR
from oihedge.core.tables import UTC_TIME
from oihedge.evaluation.backtest import Backtest
from oihedge.evaluation.grid import Floats
from oihedge.evaluation.metrics import HOURS_PER_YEAR
from oihedge.evaluation.settings import Baselines

CONSTANTS: Mapping[str, float] = {"no_hedge": 0.0, "static_50": 0.5, "full_hedge": 1.0}
TWIN_EXPOST, TWIN_TRADABLE = "static_twin_expost", "static_twin_tradable"
MOVING = ("min_variance", "volatility_target", "signal_rule")
RESCALED = "_rescaled"
POLICY = "policy"
AS_THEY_ARE = (*CONSTANTS, TWIN_TRADABLE, *MOVING)
"""The plain hedges as anyone could have held them."""
EQUAL_MEAN = (TWIN_EXPOST, *(name + RESCALED for name in MOVING))
"""The plain hedges at the policy's mean ratio: the only ones whose risk is compared with its own."""
SCHEMA = {"asset": pl.String(), "decided_at": UTC_TIME, "ratio": pl.Float64()}


def constant(ratios: Mapping[str, float], at: datetime) -> pl.DataFrame:
    """Return one decision per asset, taken at `at` and never changed."""
    rows = {
        "asset": list(ratios),
        "decided_at": [at] * len(ratios),
        "ratio": [float(ratio) for ratio in ratios.values()],
    }
    return pl.DataFrame(rows, schema=SCHEMA)


def min_variance(
    prices: pl.DataFrame, assets: Iterable[str], settings: Baselines, start: datetime, end: datetime
) -> pl.DataFrame:
    """Return the rolling minimum-variance ratio: beta of hourly spot returns on hourly perp returns.

    Ederington (1979), "The Hedging Performance of the New Futures Markets". Decided every `rebalance_h` hours from the
    `window_h` returns of bars complete by then.

    Args:
        prices: asset, ts (bar open), spot_open, perp_open, reaching `window_h` + 1 hours before `start`.
        assets: which assets.
        settings: windows and cap.
        start: a decision is in force at this instant already.
        end: no decision is taken at or after it.
    """

    def beta(spot: Floats, perp: Floats) -> float:
        variance = float(perp.var())
        return float(((spot - spot.mean()) * (perp - perp.mean())).mean()) / variance if variance > 0 else math.nan

    return _rolling(prices, assets, settings, start, end, beta)


def volatility_target(
    prices: pl.DataFrame, assets: Iterable[str], settings: Baselines, start: datetime, end: datetime
) -> pl.DataFrame:
    """Return the ratio that leaves `settings.volatility_target` of annual volatility unhedged: 1 - target / realised.

    Arguments and timing are those of `min_variance`.
    """

    def short_of_target(spot: Floats, perp: Floats) -> float:
        realised = float(spot.std(ddof=1)) * math.sqrt(HOURS_PER_YEAR)
        return 1 - settings.volatility_target / realised if realised > 0 else math.nan

    return _rolling(prices, assets, settings, start, end, short_of_target)


def _rolling(
    prices: pl.DataFrame,
    assets: Iterable[str],
    settings: Baselines,
    start: datetime,
    end: datetime,
    ratio_of: Callable[[Floats, Floats], float],
) -> pl.DataFrame:
    step, window = timedelta(hours=settings.rebalance_h), timedelta(hours=settings.window_h)
    instants = [start - step + step * n for n in range(math.ceil((end - start) / step) + 1)]
    rows: list[tuple[str, datetime, float]] = []
    for asset in assets:
        own = _complete_bars(prices, asset, instants[0] - window - HOUR, end)
        at, spot, perp = (own[name].to_numpy() for name in ("us", "spot_open", "perp_open"))
        for instant in instants:
            # Opens strictly before the instant: the newest bar that is complete by then opened an hour earlier.
            span = pl.Series([instant - window - HOUR, instant], dtype=UTC_TIME).dt.epoch("us").to_numpy()
            first, last = np.searchsorted(at, span)
            if last - first > settings.window_h // 2:
                ratio = ratio_of(np.diff(np.log(spot[first:last])), np.diff(np.log(perp[first:last])))
                if math.isfinite(ratio):
                    rows.append((asset, instant, min(max(ratio, 0.0), settings.max_ratio)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _complete_bars(prices: pl.DataFrame, asset: str, start: datetime, end: datetime) -> pl.DataFrame:
    here = prices.filter(pl.col("asset") == asset, pl.col("ts").is_between(start, end))
    priced = here.filter(pl.col("spot_open") > 0, pl.col("perp_open") > 0)
    return priced.unique("ts", keep="last").sort("ts").with_columns(pl.col("ts").dt.epoch("us").alias("us"))


def mean_ratios(run: Backtest) -> dict[str, float]:
    """Return each asset's mean ratio over the hours of a backtest, weighted by its spot notional."""
    weighted = (pl.col("ratio") * pl.col("spot_notional")).sum() / pl.col("spot_notional").sum()
    means = run.assets.group_by("asset", maintain_order=True).agg(weighted.alias("mean"))
    return dict(means.select("asset", "mean").iter_rows())


def rescaled(ratios: pl.DataFrame, run: Backtest, wanted: Mapping[str, float], max_ratio: float) -> pl.DataFrame:
    """Scale a strategy's decisions, per asset, so that its mean ratio over `run` becomes `wanted`.

    Ratios stay within `max_ratio` (or `wanted` where that is higher): scaling that would cross it scales the rest
    further. Where the strategy hedges too rarely to reach `wanted` below the cap, its unhedged hours are lifted
    alike; a strategy that never hedges an asset becomes the constant. Known only afterwards, like the ex-post twin.

    Args:
        ratios: asset, decided_at, ratio: the decisions as taken.
        run: the backtest of `ratios` over the window that counts.
        wanted: mean ratio per asset, as `mean_ratios` gives it.
        max_ratio: cap.
    """
    parts = []
    for asset, target in wanted.items():
        held = run.assets.filter(pl.col("asset") == asset)
        cap = max(max_ratio, target)
        scale, floor = _scale(held["ratio"].to_numpy(), held["spot_notional"].to_numpy(), target, cap)
        ratio = (pl.col("ratio") * scale).clip(upper_bound=cap)
        own = ratios.filter(pl.col("asset") == asset)
        if own.is_empty() or not (held["ratio"] > 0).any():
            parts.append(constant({asset: target}, held["ts"][0] - timedelta(days=1)))
        else:
            lifted = pl.when(pl.col("ratio") > 0).then(ratio).otherwise(floor)
            parts.append(own.select("asset", "decided_at", lifted.alias("ratio").cast(pl.Float64)))
    return pl.concat(parts)


def _scale(ratio: Floats, weight: Floats, target: float, cap: float) -> tuple[float, float]:
    """Return (scale, floor) so that the weighted mean of min(scale x ratio, cap), or floor where 0, is `target`."""
    share = weight / weight.sum()
    hedged = float(share[ratio > 0].sum())
    if target <= 0:
        return 0.0, 0.0
    if cap * hedged <= target:
        return math.inf, (target - cap * hedged) / (1 - hedged) if hedged < 1 else 0.0
    linear = target / float(share @ ratio)
    if linear * float(ratio.max()) <= cap:
        return linear, 0.0
    low, high = 0.0, cap / float(ratio[ratio > 0].min())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(share @ np.minimum(middle * ratio, cap)) < target else (low, middle)
    return high, 0.0
