"""Settings of quality/, filled from conf/quality/."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from oihedge.core.settings import Count, Positive, Settings, Share


class Quality(Settings):
    """When a row is kept out of the validated tables."""

    max_hourly_move: Annotated[float, Field(gt=0, lt=1)]
    """Largest believable fall of a close below the last good one; a rise by its inverse (0.5: halving or doubling)."""
    max_oi_jump: Annotated[float, Field(gt=1)]
    """Level change between neighbouring snapshots as a factor, either way."""
    neighbour_h: Count = 24
    """A last good row older than this is no neighbour any more: so ends a gap, and a new level that persists."""
    max_funding_rate: Positive
    min_good_share: Share
    """Below this share of good rows in a new slice, validation ends with a data error (the good rows still go on)."""
