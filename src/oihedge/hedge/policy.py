"""The hedge policy over time: the same steps in backtest, in replay and live, with a model or without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from oihedge.core.types import TierState
from oihedge.hedge import signals
from oihedge.hedge.limits import bounded
from oihedge.hedge.settings import Hedge
from oihedge.hedge.sizing import is_altcoin, wanted_ratio
from oihedge.hedge.tiers import next_tier

_DECIDED: dict[str, pl.DataType] = {
    "ratio": pl.Float64(), "tier": pl.Int64(), "hold": pl.Boolean(), "reasons": pl.List(pl.String()),
}  # fmt: skip


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
        forecasts: asset, ts, p_unwind; None gives the model-free rule: p_unwind is then out of the confirmations.
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
        parts.append(stepped if stepped.height else _standing(rows.tail(1), decided.state[str(asset)]))
    return Decided(pl.concat([decided.rows.clear(), *parts]), decided.state)


def _step(readings: pl.DataFrame, settings: Hedge, state: Mapping[str, TierState]) -> Decided:
    after, parts = dict(state), []
    for (asset,), rows in readings.group_by("asset", maintain_order=True):
        name = str(asset)
        known = state.get(name)
        rows = rows if known is None else rows.filter(pl.col("ts") > known.ts)
        if rows.height:
            decisions, after[name] = _walk(rows, name, settings, known)
            parts.append(_joined(rows, decisions))
    return Decided(pl.concat([_joined(readings.clear(), []), *parts]), after)


def _walk(
    rows: pl.DataFrame, asset: str, settings: Hedge, known: TierState | None
) -> tuple[list[dict[str, Any]], TierState]:
    tier, ratio, entered = 0, settings.baseline, None
    if known is not None:
        tier, entered = min(max(known.tier, 0), 3), known.entered_at
        ratio = known.ratio if math.isfinite(known.ratio) else settings.baseline
    altcoin, decisions, ts = is_altcoin(asset, settings), [], rows["ts"][-1]
    needed = ("ts", "volatility", "depth", "confirmations", "calm", "problems", "notes")
    for at, volatility, depth, confirmations, calm, problems, notes in rows.select(needed).iter_rows():
        if problems:
            wanted = ratio
        else:
            before, tier = tier, next_tier(
                tier, depth=depth, confirmations=len(confirmations), calm=calm,
                full_confirmations=settings.full_confirmations,
            )  # fmt: skip
            entered = _entered(before, tier, entered, at)
            wanted = wanted_ratio(tier, volatility, settings, altcoin=altcoin)
        ratio, bounds = bounded(wanted, ratio, settings, altcoin=altcoin)
        decisions.append({"ratio": ratio, "tier": tier, "hold": bool(problems), "reasons": problems + bounds + notes})
    return decisions, TierState(ts, tier, ratio, entered)


def _entered(before: int, tier: int, entered: datetime | None, at: datetime) -> datetime | None:
    if tier == 0:
        return None
    return at if before == 0 else entered


def _standing(row: pl.DataFrame, state: TierState) -> pl.DataFrame:
    problems, notes = row["problems"].to_list()[0], row["notes"].to_list()[0]
    standing = {"ratio": state.ratio, "tier": state.tier, "hold": bool(problems), "reasons": problems + notes}
    return _joined(row, [standing])


def _joined(rows: pl.DataFrame, decisions: list[dict[str, Any]]) -> pl.DataFrame:
    decided = pl.DataFrame(decisions, schema=_DECIDED)
    told = rows.select(*signals.SIGNALS, "volatility", "confirmations", "oi_leader")
    return pl.concat([rows.select("asset", "ts", "available_at"), decided, told], how="horizontal")
