"""What is there, what happened last, and what is in the way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.clock import iso
from oihedge.core.tables import MARKET_TABLES
from oihedge.jobs.opening import open_lake, open_registry


@dataclass(frozen=True)
class StatusReport:
    """`blocked_by` lists, in words, what keeps the next decision from being an ordinary one."""

    as_of: datetime
    label: str
    data: tuple[dict[str, Any], ...]
    quarantined: int
    champion: dict[str, Any] | None
    challenger: dict[str, Any] | None
    ledger: tuple[dict[str, Any], ...]
    decision: dict[str, Any] | None
    schedule: dict[str, str]
    blocked_by: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "as_of": iso(self.as_of)}


def run(config: Config, *, as_of: datetime) -> StatusReport:
    """Look at the lake, the registry and the newest decision as of `as_of`."""
    lake, registry = open_lake(config), open_registry(config)
    data = tuple(_newest(config, as_of))
    champion, challenger = registry.champion(), registry.challenger()
    decision = _decision(config)
    blocked: list[str] = []
    late = [
        row
        for row in data
        if row["age_h"] * 3600 > config.hedge.max_data_age.total_seconds() and row["table"] != "funding"
    ]
    blocked += [f"{row['venue']} {row['table']} is {row['age_h']:.1f} h old" for row in late]
    if not data:
        blocked.append("the lake has no validated rows: run oihedge ingest and oihedge validate")
    if champion is None:
        blocked.append("no champion: the model-free rule decides" + _why(registry.ledger()))
    elif champion.trained_as_of is not None:
        age = as_of - champion.trained_as_of
        if age > timedelta(hours=config.forecast.expiration_h):
            blocked.append(f"champion version {champion.version} is {age / timedelta(hours=1):.0f} h old and expired")
    if decision is not None and decision["status"] not in ("ok", "reduce"):
        blocked.append(f"the newest decision is {decision['status']}: {', '.join(decision['reasons'])}")
    elif decision is not None and decision["valid_until"] < iso(as_of):
        blocked.append(f"the newest decision expired at {decision['valid_until']}")
    if config.hedge.kill_switch:
        blocked.append("the kill switch is on")
    return StatusReport(
        as_of,
        config.run.label,
        data,
        lake.read("derived", "quarantine", where=pl.col("released_at").is_null()).select(pl.len()).collect().item(),
        asdict(champion) if champion else None,
        asdict(challenger) if challenger else None,
        tuple(registry.ledger()[-5:]),
        decision,
        config.schedule.model_dump(),
        tuple(blocked),
    )


def _newest(config: Config, as_of: datetime) -> list[dict[str, Any]]:
    lake, rows = open_lake(config), []
    for spec in MARKET_TABLES:
        known = lake.read("validated", spec.name, as_of=as_of)
        newest = known.group_by("venue").agg(
            rows=pl.len(), newest=pl.col("ts").max(), known=pl.col("available_at").max()
        )
        for row in newest.sort("venue").collect().iter_rows(named=True):
            age = (as_of - row["known"]) / timedelta(hours=1)
            rows.append({"table": spec.name, "venue": row["venue"], "rows": row["rows"], "newest": iso(row["newest"]),
                         "age_h": round(age, 2)})  # fmt: skip
    return rows


def _decision(config: Config) -> dict[str, Any] | None:
    path = config.path(config.run.targets) / "latest.json"
    if not path.is_file():
        return None
    names = ("decision_id", "as_of", "valid_until", "status", "reasons", "simulated")
    try:
        latest = json.loads(path.read_text())
        return {name: latest[name] for name in names}
    except (ValueError, KeyError, TypeError, OSError):
        return {
            **dict.fromkeys(names, ""),
            "status": "unreadable",
            "reasons": [f"{path} is no decision: run oihedge hedge"],
        }


def _why(ledger: list[dict[str, Any]]) -> str:
    return f" (version {ledger[-1]['version']}: {ledger[-1]['reason']})" if ledger else " (nothing was trained yet)"
