"""The report: one HTML file that opens offline, the same bytes for the same content."""

from __future__ import annotations

import base64
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from oihedge.core.clock import iso
from oihedge.core.types import Gate
from oihedge.evaluation.metrics import METRICS
from oihedge.evaluation.verdict import verdict

PERCENT = ("volatility", "cvar_95", "worst_day", "max_drawdown", "cost", "funding", "net_return")
MISSING = "–"


@dataclass(frozen=True)
class ReportContent:
    """What the report shows; every sequence may be empty, and is then said to be.

    strategies: rows of strategy and `METRICS` (None or NaN: not known); scores: as `walk_forward` gives them; decision:
    the decision document or None; data: rows of any one set of columns; figures: caption to PNG bytes, in order;
    facts: further name and value pairs for the head (model version, data version ...).
    """

    name: str
    as_of: datetime
    label: str
    price_label: str
    oos_days: float
    strategies: Sequence[Mapping[str, Any]]
    gates: Sequence[Gate]
    scores: Mapping[str, Any]
    decision: Mapping[str, Any] | None
    data: Sequence[Mapping[str, Any]]
    figures: Mapping[str, bytes]
    facts: Mapping[str, str] = field(default_factory=dict)


def render(path: Path, content: ReportContent) -> Path:
    """Write the report to `path`, whole or not at all, and return `path`."""
    page = html(content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(page)
    Path(name).chmod(0o644)
    Path(name).replace(path)
    return path


def html(content: ReportContent) -> str:
    """Return the report as HTML; every text is escaped, images are data URIs."""
    environment = Environment(
        loader=PackageLoader("oihedge.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2").render(
        content=content,
        as_of=iso(content.as_of),
        market=f"{content.label}, prices: {content.price_label}",
        verdicts=verdict(content.strategies),
        metrics=METRICS,
        strategies=[_strategy_row(row) for row in content.strategies],
        gates=[_gate_row(gate) for gate in content.gates],
        refused=[gate.name for gate in content.gates if not gate.passed],
        scores=_score_rows(content.scores),
        folds=_table(content.scores.get("folds", [])),
        hedges=_table(_flat(content.decision, "hedges")),
        targets=_table(_flat(content.decision, "targets")),
        data=_table(content.data),
        images={caption: base64.b64encode(png).decode() for caption, png in content.figures.items()},
    )


def shown(value: Any, digits: int = 4) -> str:
    """Write a value for a table: rounded numbers, a dash for what is not known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
    return ", ".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)


def _strategy_row(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {"strategy": str(row["strategy"])}
    for name in METRICS:
        value = row.get(name)
        known = isinstance(value, int | float) and math.isfinite(value)
        cells[name] = f"{100 * value:.2f} %" if known and name in PERCENT else shown(value, 2)  # type: ignore[operator]
    return cells


def _gate_row(gate: Gate) -> dict[str, Any]:
    return {
        "name": gate.name,
        "value": shown(gate.value),
        "rule": gate.rule,
        "passed": gate.passed,
        "detail": gate.detail,
    }


def _score_rows(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (score, model, persistence) as texts."""
    if not scores:
        return []
    model, other = scores["model"], scores["persistence"]
    names = ("quantile_loss", "coverage_error", "brier", "brier_climatology", "brier_skill", "base_rate")
    rows = [(name, shown(model[name], 5), shown(other[name], 5)) for name in names]
    for nominal, of in model["coverage"].items():
        for target, share in of.items():
            rows.append((f"coverage {nominal} %, {target}", shown(share), shown(other["coverage"][nominal][target])))
    rows += [(name, shown(model[name]), shown(other[name])) for name in ("forecasts", "distinct_events")]
    return [("quantile_skill over persistence", shown(scores["quantile_skill"]), MISSING), *rows]


def _flat(decision: Mapping[str, Any] | None, part: str) -> Sequence[Mapping[str, Any]]:
    return decision.get(part, []) if decision else []


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    words = [any(_is_word(row.get(name)) for row in rows) for name in columns]
    return {
        "columns": list(zip(columns, words, strict=True)),
        "rows": [list(zip([shown(row.get(name)) for name in columns], words, strict=True)) for row in rows],
    }


def _is_word(value: Any) -> bool:
    """Tell text from numbers, also those written as text (order sizes)."""
    if not isinstance(value, str):
        return isinstance(value, bool | Mapping | list | tuple | datetime)
    try:
        float(value)
    except ValueError:
        return True
    return False
