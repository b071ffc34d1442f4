"""The hedge policy over time: the same steps in backtest, in replay and live, with a model or without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from oihedge.core.types import TierState
from oihedge.hedge import signals
from oihedge.hedge.limits import bounded
from oihedge.hedge.settings import Hedge
from oihedge.hedge.sizing import is_altcoin, wanted_ratio
from oihedge.hedge.tiers import next_tier

_STEPPED = ("ts", "volatility", "depth", "confirmations", "calm", "problems")
_DECIDED = (
    *("asset", "ts", "available_at", "ratio", "tier", "hold", "reasons"),
    *(*signals.SIGNALS, "p_unwind_base", "volatility", "confirmations", "oi_leader"),
)


@dataclass(frozen=True)
class Decided:
    """What the policy decided.

    Attributes:
        rows: asset, ts, available_at, ratio (of the hedged quantity), tier, hold (the row could not be decided on and
            keeps the ratio before it), reasons, confirmations, oi_leader and one column per signal.
        state: where each asset stands afterwards; pass it on to continue.
    """

    rows: pl.DataFrame
    state: dict[str, TierState]


def decide(
    features: pl.DataFrame, forecasts: pl.DataFrame | None, settings: Hedge, state: Mapping[str, TierState]
) -> Decided:
    """Step through feature rows hour by hour, each asset on from its state.

    Args:
        features: asset, ts, available_at and feature columns, in any order.
        forecasts: asset, ts, p_unwind, p_unwind_base; None gives the model-free rule: p_unwind is then out of the
            confirmations.
        settings: thresholds, tiers, sizing, limits.
        state: per asset where to go on; rows at or before its ts are skipped. Without one an asset starts at the
            baseline.

    Returns:
        A row for each feature row after the state. A row that lacks a required input, the quorum of venues or its
        forecast holds: tier and ratio stay.

    Raises:
        SchemaError: if a required column is missing.
    """
    return _step(signals.read(features, forecasts, settings), settings, state)


def newest(
    features: pl.DataFrame, forecasts: pl.DataFrame | None, settings: Hedge, state: Mapping[str, TierState]
) -> Decided:
    """Decide as `decide` does and return one row per asset: its newest.

    Between two feature rows (a decision every 15 minutes on hourly rows) that row was stepped before; it then comes
    with the state's tier and ratio, and with what its inputs say today.
    """
    readings = signals.read(features, forecasts, settings)
    decided = _step(readings, settings, state)
    parts = []
    for (asset,), rows in readings.group_by("asset", maintain_order=True):
        stepped = decided.rows.filter(pl.col("asset") == asset).tail(1)
        tier, ratio = _start(decided.state.get(str(asset)), settings)
        parts.append(stepped if stepped.height else _joined(rows.tail(1), [ratio], [tier], [""]))
    return Decided(pl.concat([decided.rows.clear(), *parts]), decided.state)


def _step(readings: pl.DataFrame, settings: Hedge, state: Mapping[str, TierState]) -> Decided:
    after, parts = dict(state), [_joined(readings.clear(), [], [], [])]
    for (asset,), rows in readings.group_by("asset", maintain_order=True):
        name = str(asset)
        known = state.get(name)
        rows = rows if known is None else rows.filter(pl.col("ts") > known.ts)
        if rows.height:
            after[name], ratios, tiers, bounds = _walk(rows, name, settings, known)
            parts.append(_joined(rows, ratios, tiers, bounds))
    return Decided(pl.concat(parts), after)


def _walk(
    rows: pl.DataFrame, asset: str, settings: Hedge, known: TierState | None
) -> tuple[TierState, list[float], list[int], list[str]]:
    """Return the state after the rows and, for each, ratio, tier and what bounded the ratio (space-separated)."""
    tier, ratio = _start(known, settings)
    entered = known.entered_at if known else None
    altcoin, ratios, tiers, bounds = is_altcoin(asset, settings), [], [], []
    counted = rows.with_columns(pl.col("confirmations").list.len(), pl.col("problems").list.len())
    for at, volatility, depth, count, calm, problems in counted.select(_STEPPED).iter_rows():
        wanted = ratio
        if not problems:
            before = tier
            tier = next_tier(
                tier, depth=depth, confirmations=count, calm=calm, full_confirmations=settings.full_confirmations
            )
            entered = _entered(before, tier, entered, at)
            wanted = wanted_ratio(tier, volatility, settings, altcoin=altcoin)
        ratio, bound_by = bounded(wanted, ratio, settings, altcoin=altcoin)
        ratios.append(ratio)
        tiers.append(tier)
        bounds.append(" ".join(bound_by))
    return TierState(rows["ts"][-1], tier, ratio, entered), ratios, tiers, bounds


def _start(known: TierState | None, settings: Hedge) -> tuple[int, float]:
    if known is None:
        return 0, settings.baseline
    return min(max(known.tier, 0), 3), known.ratio if math.isfinite(known.ratio) else settings.baseline


def _entered(before: int, tier: int, entered: datetime | None, at: datetime) -> datetime | None:
    if tier == 0:
        return None
    return at if before == 0 else entered


def _joined(rows: pl.DataFrame, ratios: list[float], tiers: list[int], bounds: list[str]) -> pl.DataFrame:
    bounded_by = pl.Series("bounds", bounds, pl.String).str.extract_all("[a-z_]+")
    return rows.with_columns(
        pl.Series("ratio", ratios, pl.Float64),
        pl.Series("tier", tiers, pl.Int64),
        (pl.col("problems").list.len() > 0).alias("hold"),
        pl.concat_list("problems", bounded_by, "notes").alias("reasons"),
    ).select(_DECIDED)
