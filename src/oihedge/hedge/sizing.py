"""From tier to hedge ratio: the tier's share of the room between baseline and maximum, scaled by volatility."""

from __future__ import annotations

from oihedge.hedge.settings import Hedge
from oihedge.hedge.tiers import ADDED, CALM, FULL


def is_altcoin(asset: str, settings: Hedge) -> bool:
    """Return whether `asset` is none of the majors."""
    return asset not in settings.signals.majors


def tier_share(tier: int, settings: Hedge) -> float:
    """Return the share of the room that a tier takes, before scaling: 0, partial, partial + step, 1."""
    if tier <= CALM:
        return 0.0
    if tier >= FULL:
        return 1.0
    return min(1.0, settings.partial_share + (settings.tier_step if tier == ADDED else 0.0))


def wanted_ratio(tier: int, volatility: float, settings: Hedge, *, altcoin: bool) -> float:
    """Return the ratio that tier and volatility ask for, before limits.

    Args:
        tier: 0..3.
        volatility: realised, annual; tiers 1 and 2 grow with it over `volatility_target`, within `volatility_scale`.
            Tier 3 is the full hedge whatever the volatility.
        settings: baseline, shares and limits.
        altcoin: takes `altcoin_size` of what a major would.
    """
    low, high = settings.volatility_scale
    scale = 1.0 if tier >= FULL else min(max(volatility / settings.volatility_target, low), high)
    share = min(1.0, tier_share(tier, settings) * scale) * (settings.altcoin_size if altcoin else 1.0)
    return settings.baseline + share * (settings.limits.max_ratio - settings.baseline)
