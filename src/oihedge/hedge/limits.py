"""The bounds of a hedge ratio by rank: kill switch > limits > altcoin cap > max change > tier."""

from __future__ import annotations

import math

from oihedge.hedge.settings import Hedge


def altcoin_cap(settings: Hedge) -> float:
    """Return the highest ratio of an altcoin."""
    return settings.baseline + settings.altcoin_size * (settings.limits.max_ratio - settings.baseline)


def bounded(
    wanted: float, previous: float, settings: Hedge, *, altcoin: bool, band: bool = True
) -> tuple[float, list[str]]:
    """Return the ratio that may follow `previous`, and what kept it from being `wanted`.

    Args:
        wanted: what tier and volatility ask for; not finite: stay.
        previous: the ratio so far; not finite: the baseline.
        settings: limits, cap and kill switch.
        altcoin: whether the altcoin cap applies.
        band: whether a change smaller than the no-trade band is left.

    Returns:
        The ratio, within [min_ratio, max_ratio] (the kill switch alone freezes `previous` as it is), no more than
        max_change from `previous` unless a cap or limit forces it; and the reasons.
    """
    if not math.isfinite(previous):
        previous = settings.baseline
    if settings.kill_switch:
        return previous, ["kill_switch"]
    limits = settings.limits
    ratio, reasons = (wanted if math.isfinite(wanted) else previous), []
    change = ratio - previous
    if band and change != 0 and abs(change) < limits.no_trade_band:
        ratio = previous
        reasons.append("no_trade_band")
    elif abs(change) > limits.max_change:
        ratio = previous + math.copysign(limits.max_change, change)
        reasons.append("max_change")
    if altcoin and ratio > altcoin_cap(settings):
        ratio = altcoin_cap(settings)
        reasons.append("altcoin_cap")
    within = min(max(ratio, limits.min_ratio), limits.max_ratio)
    return within, [*reasons, *(["limit_ratio"] if within != ratio else [])]
