"""What a run leaves to look at in Prefect's pages: tables and notes, each saying which market it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from oihedge.config import Config

MARKUP = re.compile(r"[\\|`*_\[\]()!#]")
"""What Markdown would take for a link, a picture or emphasis: text of venues and files is shown, never rendered."""
ROW_COLUMNS = ("venue", "table", "fetched", "added")
GATE_COLUMNS = ("name", "passed", "value", "rule", "threshold", "detail")
TARGET_COLUMNS = ("venue", "symbol", "current_qty", "target_qty", "delta_qty", "reference_price", "reduce_only", "tag")


def show_table(config: Config, key: str, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep `rows` as a table artifact under `key`."""
    create_table_artifact(table=[dict(row) for row in rows], key=key, description=f"**{title}** ({config.run.label})")


def show_rows(config: Config, report: Mapping[str, Any], key: str = "rows-by-venue") -> None:
    """Keep what came in by venue and table, what no call can give, and the venues that failed."""
    parts = [markdown_table(report["rows"], ROW_COLUMNS) if report["rows"] else "Nothing came in."]
    if gaps := report.get("gaps"):
        parts += ["Only an archive can give:", markdown_table(gaps, tuple(gaps[0]))]
    parts += [f"- failed: {cell(failure)}" for failure in report.get("failures", ())]
    show_note(config, key, "Rows by venue", parts)


def show_quorum(config: Config, venues: Sequence[Mapping[str, Any]]) -> None:
    """Keep which venue was set aside or silent, and where there is no majority; an empty list says that all agree."""
    parts = told(venues) if venues else ["No venue was set aside or silent."]
    show_note(config, "venues-set-aside", "Venues against one another", parts)


def told(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write lines that may have different columns as one markdown table."""
    return [markdown_table(lines, tuple(dict.fromkeys(name for line in lines for name in line)))]


def show_strategies(config: Config, report: Mapping[str, Any]) -> None:
    """Keep the strategy table, with the days it stands on."""
    title = f"Strategies, {report['oos_days']:g} days out of sample, price: {report['price_label']}"
    show_table(config, "strategies", title, report["strategies"])


def show_gates(config: Config, gates: Sequence[Mapping[str, Any]], verdict: str) -> None:
    """Keep the gate table with its verdict."""
    show_note(config, "gates", "Gates", [verdict, markdown_table(gates, GATE_COLUMNS)])


def show_decision(config: Config, decision: Mapping[str, Any]) -> None:
    """Keep the decision: status, reasons, hedges and targets."""
    hedges = [{**hedge, "signals": _signals(hedge.get("signals") or {})} for hedge in decision["hedges"]]
    parts = [
        f"status **{decision['status']}**, as of {decision['as_of']}, valid until {decision['valid_until']}, "
        f"simulated: {str(decision['simulated']).lower()}, decision {decision['decision_id']}",
        *(f"- {cell(reason)}" for reason in decision["reasons"]),
        markdown_table(hedges, tuple(hedges[0])) if hedges else "No hedges.",
        markdown_table(decision["targets"], TARGET_COLUMNS)
        if decision["targets"]
        else "No targets: keep what is there.",
    ]
    show_note(config, "targets", "Targets", parts)


def show_note(config: Config, key: str, title: str, parts: Sequence[str]) -> None:
    """Keep a markdown artifact under `key`."""
    headed = f"{title} ({cell(config.run.label)})"
    body = "\n\n".join((f"## {headed}", *parts)).replace("\n\n- ", "\n- ")
    create_markdown_artifact(body + "\n", key=key, description=headed)


def show_report(config: Config, path: Path) -> None:
    """Keep a link to the HTML report."""
    create_link_artifact(
        path.resolve().as_uri(), link_text=path.name, key="report", description=f"Report ({config.run.label}): {path}"
    )


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write `rows` as a markdown table of `columns`; pipes and line breaks inside a cell are escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Write one value so that it stays inside its cell."""
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(MARKUP.sub(r"\\\g<0>", text).replace("<", "&lt;").split())


def _signals(signals: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {cell(value)}" for name, value in sorted(signals.items()))
