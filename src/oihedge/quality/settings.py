"""Settings of quality/, filled from conf/quality/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from oihedge.core.settings import Count, Positive, Settings, Share

FILLABLE = ("ohlcv", "open_interest")
"""Tables whose short gaps may be interpolated. Funding is not among them: a payment that is missing was not paid."""


class Apart(Settings):
    """How far a venue may be from the median over the venues: whichever of the two limits is wider."""

    z: Positive = 8.0
    """In robust standard deviations of the venue's own distance over the past window."""
    least: Positive = 0.02
    """As a share; below this no distance matters, however calm the past was."""


class Quorum(Settings):
    """When a venue that disagrees with the others is set aside; needs three venues."""

    price: Apart = Apart()
    """Of the log price to the venues' median, less what it usually is."""
    open_interest: Apart = Apart(least=0.1)
    """Of the log change over `hours` to the venues' median change, less what it usually is."""
    hours: Annotated[int, Field(ge=1, le=12)] = 3
    """Hours in a row after which a venue that disagrees is set aside, until it agrees again."""
    outlier: Annotated[float, Field(gt=1)] = 3.0
    """So many times too far apart is kept out at once, in the first hour."""
    window_h: Annotated[int, Field(ge=24, le=76)] = 72
    """The past from which the usual distance is taken."""


class Quality(Settings):
    """When a row is kept out of the validated tables."""

    max_hourly_move: Annotated[float, Field(gt=0, lt=1)]
    """Largest believable fall of a close below the last good one; a rise by its inverse (0.5: halving or doubling)."""
    max_oi_jump: Annotated[float, Field(gt=1)]
    """Level change between neighbouring snapshots as a factor, either way."""
    neighbour_h: Count = 24
    """A last good row older than this is no neighbour any more: so ends a gap, and a price level that persists."""
    max_funding_rate: Positive
    min_good_share: Share
    """Below this share of good rows in a new slice, validation ends with a data error (the good rows still go on)."""
    max_implied_vol: Positive = 10.0
    """Largest believable annual volatility as a share (10: 1000 %)."""
    max_clock_skew_s: Annotated[float, Field(ge=0)] = 60.0
    """A row that was complete later than this after we took it comes from a clock that is wrong."""
    told_return_z: Positive = 20.0
    """An hourly change of more robust standard deviations is told; it stays unless other venues contradict it."""
    frozen_h: Annotated[int, Field(ge=2, le=24)] = 6
    """Hours in a row with the same value while the other venues move, after which the feed counts as frozen."""
    quorum: Quorum = Quorum()
    stale_h: Mapping[str, Positive] = Field(default_factory=dict)
    """Age of the newest row, by table, from which a series is told to be stale; tables not named are not watched."""
    fill: Mapping[str, Mapping[str, Annotated[int, Field(ge=0, le=24)]]] = Field(default_factory=dict)
    """Longest gap that is interpolated, by table and by grid step, in steps; 0 or absent leaves it missing."""

    @model_validator(mode="after")
    def _only_what_may_be_filled(self) -> Self:
        for name in self.fill:
            if name not in FILLABLE:
                raise ValueError(f"quality.fill.{name} cannot be: only {' and '.join(FILLABLE)} are ever interpolated")
        return self
