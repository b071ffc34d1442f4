"""Settings of search/, filled from conf/search/."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from oihedge.core.settings import Count, Positive, Settings


class Range(Settings):
    """Numbers from `low` to `high`; with `log`, as many between 0.001 and 0.01 as between 0.01 and 0.1."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("a range must rise, and on a log scale begin above 0")
        return self


class Search(Settings):
    """Which settings of forecast/ are searched, and for how long."""

    trials: Count
    """In all, those of earlier runs of the same search included."""
    timeout_s: Positive | None = None
    """No trial begins later than this; null: no limit."""
    prune_after_epochs: Count = 5
    """From then on a trial ends whose loss is above the median of the others at the same epoch."""
    choices: dict[str, tuple[int, ...]]
    """Name of a forecast setting to the values it may have."""
    ranges: dict[str, Range]
    """Name of a forecast setting to where its number may lie."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the searched settings' names."""
        return (*self.choices, *self.ranges)

    @model_validator(mode="after")
    def _something_once(self) -> Self:
        twice = self.choices.keys() & self.ranges.keys()
        if not self.names or twice or not all(self.choices.values()):
            raise ValueError("choices and ranges must name at least one setting, none of them twice or without a value")
        return self
