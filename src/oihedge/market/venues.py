"""What each venue can give over REST: row caps, how far back, and which markets to load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from oihedge.core.errors import ConfigError


@dataclass(frozen=True)
class Reach:
    """Row caps per request and history limits of one venue; a cap of 0 means the venue has no such table.

    `oi` says whether open interest has a history or only its present value; `oi_days` and `bars` bound how far back the
    venue goes; `sends_usd` whether its open interest comes with a value in USD.
    """

    ohlcv_cap: int
    oi_cap: int = 0
    funding_cap: int = 0
    oi: Literal["history", "snapshot", "none"] = "none"
    oi_days: int | None = None
    bars: int | None = None
    sends_usd: bool = False
    funding_h: int = 8
    funding_fixed: bool = False
    market_types: tuple[str, ...] = ()

    @property
    def oi_reach(self) -> timedelta | None:
        """Return how far back open interest goes; an hour less than the limit, which moves while we ask."""
        return None if self.oi_days is None else timedelta(days=self.oi_days) - timedelta(hours=1)


REACH: dict[tuple[str, str], Reach] = {
    ("binanceusdm", "perp"): Reach(1000, 500, 1000, "history", oi_days=30, sends_usd=True, market_types=("linear",)),
    ("bybit", "perp"): Reach(1000, 200, 200, "history", market_types=("linear",)),
    ("hyperliquid", "perp"): Reach(
        5000, 1, 500, "snapshot", bars=5000, funding_h=1, funding_fixed=True, market_types=("swap",)
    ),
    ("binance", "spot"): Reach(1000, market_types=("spot",)),
    ("bybit", "spot"): Reach(1000, market_types=("spot",)),
}


def reach(venue: str, kind: str) -> Reach:
    """Return what `venue` gives for markets of `kind`.

    Raises:
        ConfigError: if this venue and kind are not supported.
    """
    if (venue, kind) not in REACH:
        known = ", ".join(f"{name} ({what})" for name, what in REACH)
        raise ConfigError(f"market.venues: no {kind} markets of venue {venue!r} are supported", expected=known)
    return REACH[venue, kind]
