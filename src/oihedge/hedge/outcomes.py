"""What each condition makes of a decision: one fixed outcome each, as data that the documentation quotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Status = Literal["ok", "reduce", "hold", "halt"]
STATUSES: tuple[Status, ...] = ("ok", "reduce", "hold", "halt")
"""The later wins."""


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        condition: the reason's code.
        status: what the decision's status is at least.
        targets: what the targets are.
        meaning: when it is so.
    """

    condition: str
    status: Status
    targets: str
    meaning: str


_KEEP, _EMPTY, _DECIDED = "what is there", "none", "decided"
_ALL = (
    Outcome("kill_switch", "halt", _KEEP, "`hedge.kill_switch` is on"),
    Outcome("positions_unreadable", "hold", _EMPTY, "the positions file is absent or broken, or lacks a market"),
    Outcome("markets_unreadable", "hold", _EMPTY, "the markets file is absent or broken"),
    Outcome("stale_data", "hold", _KEEP, "the newest feature row of a held asset is older than `hedge.max_data_age`"),
    Outcome("no_features", "hold", _KEEP, "a held asset has no feature row"),
    Outcome("no_quorum", "hold", _KEEP, "fewer venues with open interest through the window than `hedge.quorum`"),
    Outcome("nan_required", "hold", _KEEP, "a required input (spot price, volatility, oi_divergence) is missing"),
    Outcome("forecast_nan", "hold", _KEEP, "the model decides and gave no number for a held asset"),
    Outcome("registry_unreadable", "hold", _KEEP, "the registry does not tell which model is in service"),
    Outcome("no_price", "hold", _KEEP, "a held asset has no reference price"),
    Outcome("reduce_only", "reduce", "shrink, not below the baseline", "`hedge.reduce_only` is on"),
    Outcome("no_champion", "ok", "decided by the signal rule", "no model has passed the gates yet"),
    Outcome("model_expired", "ok", "decided by the signal rule", "the champion is older than `forecast.expiration_h`"),
    Outcome("below_minimum_portfolio", "ok", "the baseline", "the holdings are worth less than `min_portfolio_usd`"),
    Outcome("open_exposure", "ok", _DECIDED, "limits leave part unmet, or tier 3 more than `max_open_exposure`"),
    Outcome("no_market", "ok", "none for that asset", "a held asset has no market in the markets file"),
    Outcome("missing_signal", "ok", _DECIDED, "a signal has no input; it is out of the confirmations"),
    Outcome("squeeze_risk", "ok", _DECIDED, "crowded shorts: funding deeply negative while open interest is built up"),
    Outcome("max_change", "ok", _DECIDED, "the ratio moves by `hedge.limits.max_change` at most"),
    Outcome("no_trade_band", "ok", _DECIDED, "the change was smaller than `hedge.limits.no_trade_band`"),
    Outcome("altcoin_cap", "ok", _DECIDED, "an altcoin's ratio was cut to its cap"),
    Outcome("limit_ratio", "ok", _DECIDED, "the ratio was cut to [`min_ratio`, `max_ratio`]"),
    Outcome("limit_order_notional", "ok", _DECIDED, "an order was cut to `hedge.limits.max_order_notional`"),
    Outcome("limit_leverage", "ok", _DECIDED, "shorts were scaled to `hedge.limits.max_leverage`"),
)  # fmt: skip
OUTCOMES: Mapping[str, Outcome] = MappingProxyType({outcome.condition: outcome for outcome in _ALL})


def status_of(reasons: Iterable[str]) -> Status:
    """Return the gravest status among reasons (`code` or `code:detail`).

    Raises:
        KeyError: for a code that the table lacks, for then nobody has said what it should do.
    """
    found = [OUTCOMES[reason.split(":")[0]].status for reason in reasons]
    return max(found, key=STATUSES.index, default="ok")


def leaves_no_targets(reasons: Iterable[str]) -> bool:
    """Return whether a reason leaves the targets empty: what is there is not known."""
    return any(OUTCOMES[reason.split(":")[0]].targets == _EMPTY for reason in reasons)


def markdown_table() -> str:
    """Return the table as docs/decision-outcomes.md quotes it."""
    lines = ["| condition | status | targets | when |", "|---|---|---|---|"]
    lines += [f"| `{row.condition}` | `{row.status}` | {row.targets} | {row.meaning} |" for row in _ALL]
    return "\n".join(lines) + "\n"
