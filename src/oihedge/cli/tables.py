"""Reports as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Report = Mapping[str, Any]
GATES = ("name", "passed", "value", "rule", "threshold", "detail")
STRATEGIES = (
    *("strategy", "volatility", "cvar_95", "worst_day", "max_drawdown", "mean_ratio", "turnover", "cost", "funding"),
    *("sharpe", "net_return"),
)


def table(console: Console, title: str, rows: Sequence[Report], columns: Sequence[str] | None = None) -> None:
    """Print `rows` under `title`; without rows say so."""
    from rich.table import Table

    if not rows:
        console.print(f"{title}: none", markup=False)
        return
    names = list(columns or rows[0])
    drawn = Table(title=title, title_justify="left")
    for name in names:
        numbers = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        drawn.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell(row.get(name)) for name in names))
    console.print(drawn)


def cell(value: Any) -> str:
    """Write one value."""
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    return escape(str(value))


def came_in(console: Console, report: Report) -> None:
    """Print what came in, what only an archive can give, and the venues that failed."""
    table(console, "rows by venue", report["rows"])
    if report.get("gaps"):
        table(console, "only an archive can give", report["gaps"])
    for failure in report.get("failures", ()):
        console.print(f"failed: {failure}", markup=False)


def held(console: Console, report: Report) -> None:
    """Print what the lake holds, instants to the minute."""
    rows = [
        {name: f"{value:%F %H:%M}" if isinstance(value, datetime) else value for name, value in row.items()}
        for row in report["series"]
    ]
    table(console, f"data ({report['label']})", rows)


def imported(console: Console, report: Report) -> None:
    """Print what files brought in, what was assumed on the way, and the verdicts on it."""
    came_in(console, report)
    for note in report["notes"]:
        console.print(f"note: {note}", markup=False)
    judged(console, {**report, "rows": report["judged"]})


def judged(console: Console, report: Report) -> None:
    """Print the verdicts on new rows."""
    table(console, f"quality: {report['share_good']:.2%} good", report["rows"])
    failed = [check for check in report.get("checks", ()) if not check["passed"]]
    if failed:
        table(console, "expectations that failed", failed)
    for name, title in (("venues", "venues against one another"), ("feeds", "gaps and stale series")):
        if report.get(name):
            table(console, title, report[name], _columns(report[name]))
    for name, count in (report.get("filled") or {}).items():
        console.print(f"{name}: {count} short gaps interpolated and flagged", markup=False)
    if report.get("docs"):
        console.print(f"pages: {report['docs']}", markup=False)


def _columns(rows: Sequence[Report]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def evaluated(console: Console, report: Report) -> None:
    """Print the strategies and the forecast scores, as they are."""
    label, days = f"{report['label']}, price: {report['price_label']}", report["oos_days"]
    named = report["strategies"]
    rows = [{"strategy": name, **named[name]} for name in named] if isinstance(named, Mapping) else named
    title = f"strategies, out of sample: {days:g} days ({label})"
    table(console, title, rows, STRATEGIES)
    scores = [
        {"forecast": name, **{k: v for k, v in figures.items() if isinstance(v, (int, float))}}
        for name, figures in report["scores"].items()
        if isinstance(figures, Mapping)
    ]
    table(console, f"forecast scores, out of sample ({label})", scores)
    rates = [{"signal": name, "fires": f"{share:.2%}"} for name, share in report["firing_rates"].items()]
    table(console, f"signals: share of unseen hours at which each confirms ({label})", rates)
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", markup=False)
    for sentence in report["verdict"]:
        console.print(sentence, markup=False)


def retrained(console: Console, report: Report) -> None:
    """Print the version, its evaluation and its gates."""
    how = "reused (same data, settings and code)" if report["reused"] else "trained"
    evaluated(console, report)
    table(console, f"gates ({report['label']}, price: {report['price_label']})", report["gates"], GATES)
    console.print(f"{how}: {report['model']} version {report['version']}, run {report['run_id']}", markup=False)


def promoted(console: Console, report: Report) -> None:
    """Print the gates and what became of the challenger."""
    table(console, "gates", report["gates"], GATES)
    verdict(console, report)


def verdict(console: Console, report: Report) -> None:
    """Print what became of the challenger."""
    became = "is champion" if report["promoted"] else "is not promoted"
    champion = report["champion"] or "none"
    console.print(f"version {report['version']} {became}: {report['reason']}; champion: {champion}", markup=False)


def decided(console: Console, report: Report) -> None:
    """Print the decision."""
    decision = report["decision"]
    kind = "simulated" if decision["simulated"] else "real"
    hedges = [
        {
            name: hedge.get(name)
            for name in ("asset", "spot_qty", "tier", "baseline", "current_ratio", "hedge_ratio", "p_unwind")
        }
        for hedge in decision["hedges"]
    ]
    table(console, f"hedges ({kind} market)", hedges)
    table(
        console,
        "targets",
        decision["targets"],
        ("venue", "symbol", "current_qty", "target_qty", "delta_qty", "reference_price"),
    )
    console.print(
        f"status {decision['status']} as of {decision['as_of']}, valid until {decision['valid_until']}", markup=False
    )
    for reason in decision["reasons"]:
        console.print(f"  - {reason}", markup=False)
    if report.get("kept"):
        console.print(f"not published: {report['path']} holds the later decision of {report['kept']}", markup=False)
    elif report.get("path"):
        console.print(f"written to {report['path']}", markup=False)


def cycled(console: Console, report: Report) -> None:
    """Print a whole cycle: data, strategies, gates, decision, and where to look."""
    came_in(console, report["ingest"])
    judged(console, report["validate"])
    retrained(console, report["retrain"])
    verdict(console, report["promote"])
    decided(console, report["hedge"])
    console.print(f"report: {report['report']['path']}", markup=False)


def facts(console: Console, report: Report) -> None:
    """Print a report of single values, lists of rows as tables."""
    for name, value in report.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            table(console, name, value)
        else:
            console.print(f"{name}: {cell(value) or '-'}")
