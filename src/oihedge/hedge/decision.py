"""The decision document: composed from values alone, so that the same inputs give the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl

from oihedge.core.clock import iso
from oihedge.core.errors import DataError
from oihedge.core.types import MarketSpec, ModelRef, Position
from oihedge.hedge.outcomes import leaves_no_targets, status_of
from oihedge.hedge.settings import Hedge
from oihedge.hedge.signals import SIGNALS
from oihedge.hedge.split import VenueFacts
from oihedge.hedge.targets import Mode, Targets, build_targets, check_positions, decimal_text, places, portfolio_usd

SCHEMA = "oihedge.targets/1"
_DECIMALS = 6


@dataclass(frozen=True)
class DecisionInputs:
    """Everything a decision is made from.

    Attributes:
        decision_id: the digest of the inputs, made by the caller.
        as_of: the instant of the decision.
        newest: `policy.newest(...).rows`: one row per asset.
        prices: reference price by asset.
        positions: what is there; None: unreadable.
        markets: what may be ordered; None: unreadable.
        model: what forecast; `ModelRef.none` for the model-free rule.
        horizon_h: of p_unwind.
        drop: of p_unwind, as a share of open interest.
        data_version: lake version by table.
        config_hash: digest of the settings.
        code_version: of this package.
        simulated: whether the market is the embedded one.
        facts: what speaks for and against venues.
        reasons: conditions the caller met itself: `no_champion`, `model_expired`,
            `registry_unreadable`.
    """

    decision_id: str
    as_of: datetime
    newest: pl.DataFrame
    prices: Mapping[str, float]
    positions: Sequence[Position] | None
    markets: Sequence[MarketSpec] | None
    model: ModelRef
    horizon_h: int
    drop: float
    data_version: Mapping[str, int]
    config_hash: str
    code_version: str
    simulated: bool
    facts: Sequence[VenueFacts] = ()
    reasons: Sequence[str] = field(default=())


def compose(inputs: DecisionInputs, settings: Hedge) -> dict[str, Any]:
    """Compose the decision document (docs/decision-outcomes.md says which condition does what).

    Raises:
        DataError: if a feature row was not yet known at as_of.
    """
    rows = {row["asset"]: row for row in inputs.newest.sort("asset").iter_rows(named=True)}
    reasons = _conditions(inputs, rows, settings)
    targets = None
    if not leaves_no_targets(reasons):
        targets = _targets(inputs, rows, settings, _mode(reasons))
        reasons += [reason for reason in targets.reasons if reason not in reasons]
    return {
        "schema": SCHEMA, "decision_id": inputs.decision_id, "portfolio": settings.portfolio.name,
        "as_of": iso(inputs.as_of), "valid_until": iso(inputs.as_of + settings.valid_for),
        "simulated": inputs.simulated, "status": status_of(reasons), "reasons": reasons,
        "model": {"name": inputs.model.name, "version": inputs.model.version, "run_id": inputs.model.run_id},
        "data_version": dict(sorted(inputs.data_version.items())), "config_hash": inputs.config_hash,
        "code_version": inputs.code_version,
        "hedges": [_hedge(asset, rows.get(asset), targets, inputs, settings) for asset in _held(settings)],
        "targets": [dict(row) for row in targets.rows] if targets else [],
    }  # fmt: skip


def _held(settings: Hedge) -> list[str]:
    return sorted(settings.portfolio.quantities)


def _conditions(inputs: DecisionInputs, rows: Mapping[str, dict[str, Any]], settings: Hedge) -> list[str]:
    found = ["kill_switch"] if settings.kill_switch else []
    found += _unreadable(inputs)
    found += ["reduce_only"] if settings.reduce_only else []
    found += list(inputs.reasons)
    for asset in _held(settings):
        found += _of_asset(asset, rows.get(asset), inputs, settings)
    total = portfolio_usd(inputs.prices, settings)
    if total is not None and total < settings.min_portfolio_usd:
        found.append("below_minimum_portfolio")
    return list(dict.fromkeys(found))


def _unreadable(inputs: DecisionInputs) -> list[str]:
    found = ["markets_unreadable"] if inputs.markets is None else []
    if inputs.positions is None:
        return [*found, "positions_unreadable"]
    try:
        if inputs.markets is not None:
            check_positions(inputs.positions, inputs.markets)
    except DataError:
        found.append("positions_unreadable")
    return found


def _of_asset(asset: str, row: dict[str, Any] | None, inputs: DecisionInputs, settings: Hedge) -> list[str]:
    price = inputs.prices.get(asset, math.nan)
    found = [] if math.isfinite(price) and price > 0 else [f"no_price:{asset}"]
    if row is None:
        return [*found, f"no_features:{asset}"]
    if row["available_at"] > inputs.as_of:
        raise DataError(
            f"the feature row of {asset} was not known yet",
            expected=f"available by {iso(inputs.as_of)}", got=iso(row["available_at"]),
        )  # fmt: skip
    if inputs.as_of - row["ts"] > settings.max_data_age:
        found.append(f"stale_data:{asset}")
    codes = [reason.partition(":") for reason in row["reasons"] if reason != "kill_switch"]
    return found + [f"{code}:{asset}{colon}{detail}" for code, colon, detail in codes]


def _mode(reasons: Sequence[str]) -> Mode:
    modes: dict[str, Mode] = {"ok": "decided", "reduce": "toward_baseline", "hold": "keep", "halt": "keep"}
    return modes[status_of(reasons)]


def _targets(inputs: DecisionInputs, rows: Mapping[str, dict[str, Any]], settings: Hedge, mode: Mode) -> Targets:
    assert inputs.positions is not None
    assert inputs.markets is not None
    return build_targets(
        {asset: row["ratio"] for asset, row in rows.items()}, inputs.prices, inputs.positions, inputs.markets, settings,
        tiers={asset: row["tier"] for asset, row in rows.items()}, facts=inputs.facts, mode=mode,
    )  # fmt: skip


def _hedge(
    asset: str, row: dict[str, Any] | None, targets: Targets | None, inputs: DecisionInputs, settings: Hedge
) -> dict[str, Any]:
    held = settings.portfolio.quantities[asset]
    lots = [market.lot for market in inputs.markets or () if market.asset == asset]
    finest = min(lots, key=lambda lot: -places(lot), default=1e-8)
    told = row or {}
    return {
        "asset": asset,
        "spot_qty": decimal_text(_exact(held), finest),
        "hedged_qty": decimal_text(_exact(held) * _exact(settings.portfolio_share), finest),
        "hedge_ratio": _number(targets.aimed[asset]) if targets else None,
        "current_ratio": _number(targets.current[asset]) if targets else None,
        "decided_ratio": _number(told.get("ratio")),
        "baseline": _number(settings.baseline),
        "tier": told.get("tier"),
        "p_unwind": _number(told.get("p_unwind")),
        "p_unwind_base": _number(told.get("p_unwind_base")),
        "p_unwind_horizon_h": inputs.horizon_h,
        "p_unwind_drop": inputs.drop,
        "signals": {name: _number(told.get(name)) for name in SIGNALS},
        "confirmations": list(told.get("confirmations") or ()),
        "oi_leader": told.get("oi_leader"),
        "features_ts": iso(told["ts"]) if told else None,
    }


def _exact(value: float) -> Decimal:
    return Decimal(str(value))


def _number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), _DECIMALS) + 0.0


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """Write the document: its own key order, two spaces, UTF-8, a newline at the end.

    Raises:
        ValueError: if it holds NaN or infinity.
    """
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    loaded: dict[str, Any] = json.loads(files("oihedge.hedge").joinpath("decision_schema.json").read_text("utf-8"))
    return loaded


def validate(document: Mapping[str, Any]) -> None:
    """Check a document against its schema, and each target against its own arithmetic.

    Raises:
        DataError: naming the first place that does not fit.
    """
    from jsonschema import Draft202012Validator

    found = min(
        Draft202012Validator(schema()).iter_errors(document), key=lambda error: list(map(str, error.path)), default=None
    )
    if found is not None:
        where = ".".join(str(part) for part in found.absolute_path) or "document"
        raise DataError(f"the decision does not fit its schema at {where}: {found.message[:200]}")
    for row in document["targets"]:
        target, current, delta = (Decimal(row[name]) for name in ("target_qty", "current_qty", "delta_qty"))
        if target != current + delta:
            raise DataError(f"target of {row['venue']} {row['symbol']}", expected=str(current + delta), got=str(target))
