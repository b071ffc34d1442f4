"""Settings of features/, filled from conf/features/."""

from __future__ import annotations

from typing import Literal

from oihedge.core.settings import Count, Settings


class Features(Settings):
    """Point-in-time features: which market they read and over which windows."""

    assets: tuple[str, ...]
    price_kind: Literal["spot", "perp"]
    """Market that stands for spot; `perp` makes it a spot proxy, and every table says so."""
    spot_venue: str
    perp_venue: str
    """The leg whose price gives the basis."""
    oi_venues: tuple[str, ...]
    funding_venues: tuple[str, ...]
    divergence_window_h: Count
    gap_window_h: Count
    z_window_h: Count
    max_oi_age_h: Count
    """An OI snapshot older than this is missing, not carried on."""
