"""Settings of features/, filled from conf/features/."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from oihedge.core.settings import Hours, Instant, Settings


class Features(Settings):
    """Point-in-time features: which market they read and over which windows."""

    assets: tuple[str, ...]
    timeframe: Literal["1h", "1m"] = "1h"
    """Bars that are read; minutes are made into hours first."""
    price_kind: Literal["spot", "perp"]
    """Market that stands for spot; `perp` makes it a spot proxy, and every table says so."""
    spot_venue: str
    perp_venue: str
    """The leg whose price gives the basis."""
    oi_venues: tuple[str, ...]
    funding_venues: tuple[str, ...]
    """Empty: the features do without funding."""
    divergence_window_h: Hours
    gap_window_h: Hours
    z_window_h: Hours
    rank_window_h: Hours
    """How far back `oi_divergence_rank` looks."""
    realised_h: Hours = 24
    """Hours that `realised_downside` and `hedge_ratio` are taken over."""
    max_oi_age_h: Hours
    """An OI snapshot as old as this or older is missing, not carried on."""
    max_funding_age_h: Hours
    """A funding payment as old as this or older is missing: above the longest interval of the venues."""
    funding_clock_h: Hours
    """Interval of the perp venue's funding, from 00:00 UTC; a known-future input."""

    events: tuple[str, ...] = ()
    """Calendars of market.inputs.events whose dates the models know ahead, by name: fomc_decision, us_cpi ..."""
    event_times: dict[str, tuple[Instant, ...]] = Field(default_factory=dict)
    """Their instants, filled in when settings are loaded, so that the settings' digest tells which dates were known."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name in ("assets", "oi_venues", "funding_venues", "events"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names one twice: {', '.join(values)}")
        if "funding" in self.events:
            raise ValueError("events names funding, whose column hours_to_funding is the funding clock: rename it")
        if not self.assets:
            raise ValueError("assets is empty; name at least one, e.g. [BTC]")
        if not self.oi_venues:
            raise ValueError(
                "oi_venues is empty; open interest is what this project hedges by: name at least one venue"
            )
        return self

    @property
    def perp_is_spot(self) -> bool:
        """Whether the perp stands for spot itself: then there is neither basis nor hedge ratio."""
        return (self.price_kind, self.spot_venue) == ("perp", self.perp_venue)
