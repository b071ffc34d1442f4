"""The one scoring function of hedging: walk-forward, backtest and live feedback all end here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oihedge.core.errors import DataError, SchemaError

Floats = NDArray[np.float64]

HOURS_PER_YEAR = 8760
ROLLING_H = 24
TAIL = 0.05
METRICS = (
    "volatility", "cvar_95", "worst_day", "max_drawdown", "mean_ratio", "turnover", "cost", "funding", "sharpe",
    "net_return",
)  # fmt: skip
LEDGER = ("ts", "ret", "cost", "funding", "turnover", "ratio", "spot_notional")


def hedge_metrics(ledger: pl.DataFrame) -> dict[str, float]:
    """Score hourly portfolio returns.

    Args:
        ledger: one row per hour in order of time: ts (END of the hour), ret (NAV change over the previous NAV, net),
            cost, funding and turnover (fractions of the previous NAV), ratio (short notional over spot notional) and
            spot_notional (money); with an optional `fold`, so that no window spans a gap between folds.

    Returns:
        `METRICS` by name. volatility: standard deviation x sqrt(8760). cvar_95: mean of the worst 5 % of rolling 24 h
        returns inside a fold, a positive loss. worst_day: the worst UTC day, a positive loss. max_drawdown: of the
        chained NAV, positive. mean_ratio: weighted by spot notional over hours and assets. turnover: traded hedge
        notional over NAV, cost and funding: fractions of NAV, each summed over all hours (funding > 0 = received).
        sharpe: annual, without a riskless rate. net_return: compounded over all hours. What too few hours cannot tell
        is NaN.

    Raises:
        SchemaError: if a column is missing.
        DataError: if there is no row.
    """
    missing = [name for name in LEDGER if name not in ledger.columns]
    if missing:
        raise SchemaError(f"the hedge ledger lacks column {missing[0]!r}", expected=", ".join(LEDGER))
    if ledger.is_empty():
        raise DataError("the hedge ledger is empty", expected="at least one hour of returns")
    returns = ledger["ret"].to_numpy()
    spread = float(returns.std(ddof=1)) if returns.size > 1 else math.nan
    return {
        "volatility": spread * math.sqrt(HOURS_PER_YEAR),
        "cvar_95": cvar(np.concatenate(rolling_returns(ledger))),
        "worst_day": _worst_day(ledger),
        "max_drawdown": max_drawdown(returns),
        "mean_ratio": mean_ratio(ledger),
        "turnover": float(ledger["turnover"].sum()),
        "cost": float(ledger["cost"].sum()),
        "funding": float(ledger["funding"].sum()),
        "sharpe": float(returns.mean()) / spread * math.sqrt(HOURS_PER_YEAR) if spread > 0 else math.nan,
        "net_return": float(np.prod(1 + returns) - 1),
    }


def rolling_returns(ledger: pl.DataFrame, hours: int = ROLLING_H) -> list[Floats]:
    """Return the compounded returns over every `hours` consecutive rows, one array per fold (empty where too short)."""
    parts = ledger.partition_by("fold", maintain_order=True) if "fold" in ledger.columns else [ledger]
    return [_rolling(part["ret"].to_numpy(), hours) for part in parts]


def _rolling(returns: Floats, hours: int) -> Floats:
    if returns.size < hours:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(1 + returns, hours)
    return np.asarray(windows.prod(axis=1) - 1, dtype=np.float64)


def cvar(returns: Floats, tail: float = TAIL) -> float:
    """Return the mean of the worst `tail` share of `returns` as a positive loss; NaN for none."""
    if not returns.size:
        return math.nan
    count = tail_count(returns.size, tail)
    return -float(np.partition(returns, count - 1)[:count].mean())


def tail_count(size: int, tail: float = TAIL) -> int:
    """Return how many of `size` values make the tail, at least one."""
    return max(1, math.ceil(round(size * tail, 9)))


def max_drawdown(returns: Floats) -> float:
    """Return the deepest fall of the compounded path below its earlier peak, from a start of 1, as a positive share."""
    path = np.concatenate(([1.0], np.cumprod(1 + returns)))
    return float((1 - path / np.maximum.accumulate(path)).max())


def mean_ratio(ledger: pl.DataFrame) -> float:
    """Return the hedge ratio weighted by spot notional."""
    weight = float(ledger["spot_notional"].sum())
    return float((ledger["ratio"] * ledger["spot_notional"]).sum()) / weight if weight > 0 else math.nan


def _worst_day(ledger: pl.DataFrame) -> float:
    day = (pl.col("ts") - timedelta(microseconds=1)).dt.date().alias("day")
    keys = [day, *(["fold"] if "fold" in ledger.columns else [])]
    worst = ledger.group_by(keys).agg((1 + pl.col("ret")).product().alias("growth"))["growth"].to_numpy().min()
    return 1 - float(worst)


def plain(value: Any) -> Any:
    """Return nested mappings and sequences as plain JSON values, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
