"""From what is known at as_of to target positions: decide, keep, publish."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from oihedge import __version__
from oihedge.config import Config
from oihedge.core.clock import HOUR, iso
from oihedge.core.errors import ConfigError, DataError, ModelError, one_line
from oihedge.core.hashing import canonical_json, code_version, digest
from oihedge.core.protocols import FittedModel
from oihedge.core.tables import MARKET_TABLES, UTC_TIME
from oihedge.core.types import MarketSpec, ModelRef, Position, TierState
from oihedge.hedge import decision, policy
from oihedge.hedge.positions import read_markets, read_positions
from oihedge.hedge.split import VenueFacts
from oihedge.jobs.champion import champion_model
from oihedge.jobs.evaluate import WithCalendar
from oihedge.jobs.featuring import compute, features, keep
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.lake.store import Lake

WARM_UP = timedelta(days=14)
"""How far back the tier machine is stepped when no earlier decision left its state, or an older one."""


@dataclass(frozen=True)
class HedgeReport:
    """The decision, where it belongs, whether it is a new one, and the instant of a later one that stays there."""

    decision: dict[str, Any]
    path: Path
    new: bool
    kept: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"decision": self.decision, "path": str(self.path), "new": self.new, "kept": self.kept}


@dataclass(frozen=True)
class Inputs:
    """Everything that a decision is made from, stored before it is made; JSON values only.

    positions and markets: None where their file is unreadable. model: the champion's reference, None for the model-free
    rule. versions: of the validated tables and the features. state: where each asset's tier machine stood, from the
    last decision before.
    """

    config: dict[str, Any]
    config_hash: str
    code_version: str
    as_of: str
    versions: dict[str, int]
    positions: list[dict[str, Any]] | None
    markets: list[dict[str, Any]] | None
    model: dict[str, Any] | None
    model_reason: str
    state: dict[str, dict[str, Any]]

    @property
    def decision_id(self) -> str:
        """Digest of it all."""
        return digest(asdict(self))


def run(config: Config, *, as_of: datetime) -> HedgeReport:
    """Decide at `as_of` and publish to `targets/latest.json`; the same inputs give the same bytes and no second row.

    Whatever is missing, stale or unreadable becomes a decision that says so (docs/decision-outcomes.md), not a silence.
    """
    lake = open_lake(config)
    inputs = gather(lake, config, as_of)
    known = _stored(lake, inputs.decision_id)
    if known is None:
        row = {
            "decision_id": inputs.decision_id,
            "as_of": as_of,
            "inputs": canonical_json(asdict(inputs)),
            "available_at": as_of,
        }
        lake.append("derived", "decision_inputs", pl.DataFrame([row]), now=as_of)
        answer = make(lake, config, inputs)
        payload, document = answer.payload, json.loads(answer.payload)
        made = {
            "decision_id": inputs.decision_id, "portfolio": document["portfolio"], "as_of": as_of,
            "status": document["status"], "payload": payload.decode(), "state": canonical_json(answer.state),
            "available_at": as_of,
        }  # fmt: skip
        if inputs.model:
            lake.append("derived", "forecasts", _kept_forecasts(inputs.model, answer.forecasts, as_of), now=as_of)
        lake.append("derived", "decisions", pl.DataFrame([made]), now=as_of + _at_once(lake, as_of))
    else:
        payload = known.encode()
    path = config.path(config.run.targets) / "latest.json"
    kept = publish(path, payload)
    return HedgeReport(json.loads(payload), path, known is None, kept)


def gather(lake: Lake, config: Config, as_of: datetime) -> Inputs:
    """Read everything a decision at `as_of` depends on."""
    portfolio = config.hedge.portfolio
    positions = _readable(lambda: [asdict(p) for p in read_positions(config.path(portfolio.positions_file))])
    markets = _readable(lambda: [asdict(m) for m in read_markets(config.path(portfolio.markets_file))])
    model, reason = _model(config, as_of)
    versions = {spec.name: lake.version("validated", spec.name) for spec in MARKET_TABLES}
    versions["features"] = _kept_features(config, as_of)
    return Inputs(
        config=config.model_dump(mode="json", exclude={"home"}),
        config_hash=config.hash,
        code_version=code_version(__version__),
        as_of=iso(as_of),
        versions={name: version for name, version in versions.items() if version is not None},
        positions=positions,
        markets=markets,
        model=model,
        model_reason=reason,
        state=_last_state(lake, config, as_of),
    )


@dataclass(frozen=True)
class Answer:
    """The decision's bytes, where the tier machines stand afterwards, and the newest forecast of each asset."""

    payload: bytes
    state: dict[str, Any]
    forecasts: pl.DataFrame


def make(lake: Lake, config: Config, inputs: Inputs) -> Answer:
    """Make the decision from its inputs, and write nothing."""
    as_of = datetime.fromisoformat(inputs.as_of)
    state = {asset: _state(value) for asset, value in inputs.state.items()}
    begin = min((one.ts for one in state.values()), default=as_of - WARM_UP)
    model = _champion(config, inputs)
    start = max(begin, as_of - WARM_UP) - (model.shape[0] if model else 0) * HOUR
    rows = compute(lake, config, as_of=as_of, start=start, versions=inputs.versions)
    due = rows.filter(pl.col("ts") > max(begin, as_of - WARM_UP))
    reasons = [inputs.model_reason] if inputs.model_reason else []
    forecasts = _forecasts(config, model, rows, due) if inputs.model else None
    on_rows = rows.filter(pl.col("ts") >= max(begin, as_of - WARM_UP))
    if on_rows.is_empty():
        decided = policy.decide(on_rows, forecasts, config.hedge, state)
    else:
        decided = policy.newest(on_rows, forecasts, config.hedge, state)
    document = decision.compose(
        decision.DecisionInputs(
            decision_id=inputs.decision_id,
            as_of=as_of,
            newest=decided.rows,
            prices=_prices(on_rows),
            positions=None if inputs.positions is None else [Position(**one) for one in inputs.positions],
            markets=None if inputs.markets is None else [MarketSpec(**one) for one in inputs.markets],
            model=_ref(inputs.model) if inputs.model else ModelRef.none(config.registry.model_name),
            horizon_h=config.forecast.horizon_h,
            drop=config.forecast.drop,
            data_version=inputs.versions,
            config_hash=inputs.config_hash,
            code_version=inputs.code_version,
            simulated=config.simulated,
            facts=_facts(lake, config, inputs, on_rows, as_of),
            reasons=reasons,
        ),
        config.hedge,
    )
    decision.validate(document)
    after = {asset: _plain(one) for asset, one in decided.state.items()}
    return Answer(decision.to_bytes(document), after, decided.rows.select("asset", "ts", "p_unwind", "p_unwind_base"))


def _kept_forecasts(model: dict[str, Any], forecasts: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    name = f"{model['name']}/{model['version']}"
    return forecasts.with_columns(model=pl.lit(name), available_at=pl.lit(as_of, UTC_TIME))


def publish(path: Path, payload: bytes) -> str | None:
    """Replace `path` atomically, unless it holds a later decision of the same portfolio: a replayed past is no news.

    Returns:
        None, or the instant of the later decision that stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    there, ours = _head(path.read_bytes()) if path.is_file() else None, _head(payload)
    if there and ours and there[:2] == ours[:2] and there[2] > ours[2]:
        return iso(there[2])
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    Path(name).replace(path)
    return None


def _head(payload: bytes) -> tuple[str, bool, datetime] | None:
    """Portfolio, market and instant of a decision; None for what is none."""
    try:
        document = json.loads(payload)
        return str(document["portfolio"]), bool(document["simulated"]), datetime.fromisoformat(document["as_of"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _readable(read: Any) -> list[dict[str, Any]] | None:
    try:
        return list(read())
    except DataError:
        return None


def _kept_features(config: Config, as_of: datetime) -> int | None:
    """Keep the newest feature rows in the lake and return its version; None where there are none to keep."""
    try:
        return keep(config, features(config, as_of=as_of, start=as_of - timedelta(days=1)), as_of)
    except DataError:
        return None


def _model(config: Config, as_of: datetime) -> tuple[dict[str, Any] | None, str]:
    try:
        champion = open_registry(config).champion()
    except (ModelError, ConfigError, OSError) as error:
        logging.getLogger(__name__).warning("which model is in service is not known: %s", one_line(error))
        return None, "registry_unreadable"
    if champion is None:
        return None, "no_champion"
    age = as_of - champion.trained_as_of if champion.trained_as_of else None
    if age is None or age > timedelta(hours=config.forecast.expiration_h) or age < timedelta(0):
        return None, "model_expired"
    assert champion.trained_as_of is not None
    return {"name": champion.name, "version": champion.version, "run_id": champion.run_id,
            "trained_as_of": iso(champion.trained_as_of)}, ""  # fmt: skip


def _ref(model: dict[str, Any]) -> ModelRef:
    return ModelRef(model["name"], model["version"], model["run_id"], datetime.fromisoformat(model["trained_as_of"]))


def _champion(config: Config, inputs: Inputs) -> FittedModel | None:
    if inputs.model is None:
        return None
    try:
        return champion_model(config, open_registry(config), _ref(inputs.model))
    except ModelError as error:
        _warn(error)
        return None


def _forecasts(config: Config, model: FittedModel | None, rows: pl.DataFrame, due: pl.DataFrame) -> pl.DataFrame:
    """Forecast at every instant that the tier machine still has to step through; a model that fails gives nulls."""
    from oihedge.forecast.frames import at_horizon

    unknown = pl.lit(None, pl.Float64)
    forecasts = due.select("asset", "ts", p_unwind=unknown, p_unwind_base=unknown)
    if model is None:
        return forecasts
    instants = due["ts"].unique().sort().to_list() or [rows["ts"].max()]
    try:
        told = at_horizon(WithCalendar(model, config).predict(rows, instants), config.forecast.horizon_h)
    except (ModelError, DataError) as error:
        _warn(error)
        return forecasts
    return told.select(forecasts.columns)


def _warn(error: Exception) -> None:
    logging.getLogger(__name__).warning("the champion cannot forecast: %s", one_line(error))


def _prices(rows: pl.DataFrame) -> dict[str, float]:
    """Return the newest perp price of each asset, the price that the targets' notional is reckoned at."""
    newest = rows.sort("ts").group_by("asset").last().select("asset", pl.coalesce("perp_price", "spot_price"))
    return {asset: price for asset, price in newest.iter_rows() if price is not None}


def _facts(lake: Lake, config: Config, inputs: Inputs, rows: pl.DataFrame, as_of: datetime) -> list[VenueFacts]:
    """What is known of each venue for each asset: its newest funding, its fee, whether leverage concentrates there."""
    funding = lake.read(
        "validated", "funding", as_of=as_of, version=inputs.versions.get("funding"), start=as_of - timedelta(days=2)
    )
    hourly = (
        funding.sort("ts")
        .group_by("asset", "venue")
        .last()
        .select("asset", "venue", pl.col("rate") / pl.col("interval_h"))
    )
    per_hour = {(asset, venue): rate for asset, venue, rate in hourly.collect().iter_rows()}
    fees = {venue.id: venue.taker_fee for venue in config.market.venues if venue.kind == "perp"}
    leaders: dict[str, str | None] = {}
    if "oi_leader" in rows.columns:
        leaders = dict(rows.sort("ts").group_by("asset").last().select("asset", "oi_leader").iter_rows())
    return [
        VenueFacts(market["asset"], market["venue"], per_hour.get((market["asset"], market["venue"])),
                   fees.get(market["venue"], 0.0), leads=leaders.get(market["asset"]) == market["venue"])
        for market in inputs.markets or []
    ]  # fmt: skip


def _stored(lake: Lake, decision_id: str) -> str | None:
    found = lake.read("derived", "decisions", where=pl.col("decision_id") == decision_id).select("payload").collect()
    return str(found.item()) if found.height else None


def _at_once(lake: Lake, as_of: datetime) -> timedelta:
    """A microsecond for every decision already made at `as_of`, so that the last of them is told from the others."""
    made = lake.rows("derived", "decisions").filter(pl.col("as_of") == as_of)
    return timedelta(microseconds=int(made.select(pl.len()).collect().item()))


def _last_state(lake: Lake, config: Config, as_of: datetime) -> dict[str, dict[str, Any]]:
    """Where the tier machines stood after this portfolio's last decision before `as_of`; empty when too long ago."""
    mine = pl.col("portfolio") == config.hedge.portfolio.name
    earlier = lake.rows("derived", "decisions").filter(mine, pl.col("as_of") < as_of)
    last = earlier.sort("as_of", "ingested_at").last().select("state", "as_of").collect()
    if last.is_empty() or last["as_of"].item() < as_of - WARM_UP:
        return {}
    found: dict[str, dict[str, Any]] = json.loads(last["state"].item())
    return found


def _plain(state: TierState) -> dict[str, Any]:
    entered = iso(state.entered_at) if state.entered_at else None
    return {"ts": iso(state.ts), "tier": state.tier, "ratio": state.ratio, "entered_at": entered}


def _state(value: dict[str, Any]) -> TierState:
    entered = value["entered_at"]
    return TierState(
        datetime.fromisoformat(value["ts"]),
        value["tier"],
        value["ratio"],
        datetime.fromisoformat(entered) if entered else None,
    )
