"""The report of the newest run: its figures and tables, the decision, the data behind them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from oihedge.config import Config
from oihedge.core.errors import DataError, ModelError
from oihedge.core.types import Gate
from oihedge.evaluation.report import ReportContent, render
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.registry.client import Registry

FIGURES = {
    "strategies": "Strategies on unseen hours, net of costs",
    "ratio": "Hedge ratio over price and open interest",
    "fan": "Quantile forecasts at the loudest unseen hours, and what came",
    "return_given_oi": "Return given where open interest ends, at the loudest unseen hour of all",
    "gates": "Gates",
    "reliability": "p_unwind: forecast and frequency",
    "loss": "Training",
}
OF_PATHS = "return_given_oi"
"""The figure that a run lacks whose model draws no paths."""


@dataclass(frozen=True)
class ReportReport:
    """Where the report was written."""

    path: Path

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"path": str(self.path)}


def run(config: Config, *, as_of: datetime) -> ReportReport:
    """Write `reports/latest.html` from the newest challenger's run and the newest decision.

    Raises:
        DataError: if nothing was trained yet.
    """
    registry = open_registry(config)
    newest = registry.challenger()
    if newest is None:
        raise DataError("there is nothing to report", expected="a finished retrain", do="run oihedge retrain")
    evaluation = registry.read_json(newest.run_id, "evaluation.json")
    gates = registry.read_json(newest.run_id, "gates.json")["gates"]
    champion = registry.champion()
    content = ReportContent(
        name=config.run.name,
        as_of=as_of,
        label=evaluation["label"],
        price_label=evaluation["price_label"],
        oos_days=evaluation["oos_days"],
        strategies=evaluation["strategies"],
        gates=[Gate(**gate) for gate in gates],
        scores=evaluation["scores"],
        decision=_decision(config),
        data=_data(config),
        figures=_figures(registry, newest.run_id),
        facts={
            "model": f"{evaluation['model']} version {newest.version}, run {newest.run_id}",
            "champion": f"version {champion.version}" if champion else "none: the model-free rule decides",
            "features": f"Delta version {evaluation['features_version']}",
            "settings": config.hash,
        },
    )
    return ReportReport(render(config.path(config.run.reports) / "latest.html", content))


def _figures(registry: Registry, run_id: str) -> dict[str, bytes]:
    found = {}
    for name, caption in FIGURES.items():
        try:
            found[caption] = registry.read_bytes(run_id, f"figures/{name}.png")
        except ModelError:
            if name != OF_PATHS:
                raise
    return found


def _decision(config: Config) -> dict[str, Any] | None:
    path = config.path(config.run.targets) / "latest.json"
    return dict(json.loads(path.read_text())) if path.is_file() else None


def _data(config: Config) -> list[dict[str, Any]]:
    inventory = open_lake(config).inventory()
    return [
        dict(row)
        for row in inventory.iter_rows(named=True)
        if row["layer"] == "validated" or row["table"] == "quarantine"
    ]
