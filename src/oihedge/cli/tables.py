"""Reports as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from oihedge.core.errors import printable, without_secrets

if TYPE_CHECKING:
    from rich.console import Console

Report = Mapping[str, Any]
GATES = ("name", "passed", "value", "rule", "threshold", "detail")
STRATEGIES = (
    *("strategy", "volatility", "cvar_95", "worst_day", "max_drawdown", "mean_ratio", "turnover", "cost", "funding"),
    *("sharpe", "net_return"),
)


def say(console: Console, text: str) -> None:
    """Print one line, whatever venues or files put into it."""
    console.print(shown(text), markup=False)


def shown(text: str) -> str:
    """Return `text` as a terminal may get it: nothing in it steers the terminal, and no secret is in it."""
    return printable(without_secrets(text))


def table(console: Console, title: str, rows: Sequence[Report], columns: Sequence[str] | None = None) -> None:
    """Print `rows` under `title`; without rows say so."""
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        say(console, f"{title}: none")
        return
    names = list(columns or rows[0])
    drawn = Table(title=escape(shown(title)), title_justify="left")
    for name in names:
        numbers = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        drawn.add_column(cell(name), justify="right" if numbers else "left", overflow="fold")
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
        return ", ".join(f"{cell(key)} {cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    return escape(shown(str(value)))


def came_in(console: Console, report: Report) -> None:
    """Print what came in, what only an archive can give, and the venues that failed."""
    table(console, "rows by venue", report["rows"])
    if report.get("gaps"):
        table(console, "only an archive can give", report["gaps"])
    for failure in report.get("failures", ()):
        say(console, f"failed: {failure}")


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
        say(console, f"note: {note}")
    say(console, f"files: {report['files']}, each with its sha256 in the table imported_files")
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
        say(console, f"{name}: {count} short gaps interpolated and flagged")
    if report.get("docs"):
        say(console, f"pages: {report['docs']}")


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
        say(console, f"warning: {warning}")
    for sentence in report["verdict"]:
        say(console, sentence)


def retrained(console: Console, report: Report) -> None:
    """Print the version, its evaluation and its gates."""
    how = "reused (same data, settings and code)" if report["reused"] else "trained"
    evaluated(console, report)
    table(console, f"gates ({report['label']}, price: {report['price_label']})", report["gates"], GATES)
    say(console, f"{how}: {report['model']} version {report['version']}, run {report['run_id']}")


def promoted(console: Console, report: Report) -> None:
    """Print the gates and what became of the challenger."""
    table(console, "gates", report["gates"], GATES)
    verdict(console, report)


def verdict(console: Console, report: Report) -> None:
    """Print what became of the challenger."""
    became = "is champion" if report["promoted"] else "is not promoted"
    champion = report["champion"] or "none"
    say(console, f"version {report['version']} {became}: {report['reason']}; champion: {champion}")


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
    say(console, f"status {decision['status']} as of {decision['as_of']}, valid until {decision['valid_until']}")
    for reason in decision["reasons"]:
        say(console, f"  - {reason}")
    if report.get("kept"):
        say(console, f"not published: {report['path']} holds the later decision of {report['kept']}")
    elif report.get("path"):
        say(console, f"written to {report['path']}")


def cycled(console: Console, report: Report) -> None:
    """Print a whole cycle: data, strategies, gates, decision, and where to look."""
    came_in(console, report["ingest"])
    judged(console, report["validate"])
    retrained(console, report["retrain"])
    verdict(console, report["promote"])
    decided(console, report["hedge"])
    say(console, f"report: {report['report']['path']}")


def facts(console: Console, report: Report) -> None:
    """Print a report of single values, lists of rows as tables."""
    for name, value in report.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            table(console, name, value)
        else:
            console.print(f"{cell(name)}: {cell(value) or '-'}")
