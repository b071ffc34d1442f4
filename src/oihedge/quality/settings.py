"""Settings of quality/, filled from conf/quality/."""

from __future__ import annotations

from oihedge.core.settings import Positive, Settings, Share


class Quality(Settings):
    """When a row is kept out of the validated tables."""

    max_hourly_move: Positive
    max_oi_jump: Positive
    """Level change between neighbouring snapshots as a factor, either way."""
    max_funding_rate: Positive
    min_good_share: Share
    """Below this share of good rows in a new slice, validation ends with a data error (the good rows still go on)."""
