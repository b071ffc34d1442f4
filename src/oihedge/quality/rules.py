"""What every table must satisfy: one list of rules, from which both the expectation and the row mask derive.

A rule's name is the reason that a bad row carries. Rules speak of the columns of the checked frame that `measures.py`
prepares: the table's own columns (where NaN in a required number is null, and in an optional one infinite) and a few
measured ones.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import polars as pl

from oihedge.core.errors import DataError
from oihedge.core.tables import FUNDING, OHLCV, OPEN_INTEREST, Table
from oihedge.quality.settings import Quality

LARGEST = sys.float_info.max
OFFSET, HELD_BACK, COPY, RIVALS, MOVE = "grid_offset_us", "held_back_us", "copy", "rivals", "move"
"""Measured columns: microseconds past the bar grid; from when the row was complete to when it was available; how many
equal rows came before; how many different rows share key and stamps; factor to the last good row."""


@dataclass(frozen=True)
class Present:
    """A value is there."""

    name: str
    column: str

    @property
    def expectation(self) -> tuple[str, dict[str, Any]]:
        """Return the expectation's class name and arguments."""
        return "ExpectColumnValuesToNotBeNull", {"column": self.column}

    @property
    def bad(self) -> pl.Expr:
        """Return the mask of rows that break the rule."""
        return pl.col(self.column).is_null()


@dataclass(frozen=True)
class Between:
    """A number lies within [low, high], or (low, high] when `above`; a missing one is not judged."""

    name: str
    column: str
    low: float = 0.0
    high: float = LARGEST
    above: bool = False

    @property
    def expectation(self) -> tuple[str, dict[str, Any]]:
        """Return the expectation's class name and arguments."""
        bounds = {"min_value": self.low, "max_value": self.high, "strict_min": self.above}
        return "ExpectColumnValuesToBeBetween", {"column": self.column, **bounds}

    @property
    def bad(self) -> pl.Expr:
        """Return the mask of rows that break the rule."""
        value = pl.col(self.column)
        return ~value.is_between(self.low, self.high, closed="right" if self.above else "both")


@dataclass(frozen=True)
class NotBelow:
    """One column is at least another; rows where either is missing are not judged."""

    name: str
    column: str
    other: str

    @property
    def expectation(self) -> tuple[str, dict[str, Any]]:
        """Return the expectation's class name and arguments."""
        pair = {"column_A": self.column, "column_B": self.other}
        ignore = "either_value_is_missing"
        return "ExpectColumnPairValuesAToBeGreaterThanB", {**pair, "or_equal": True, "ignore_row_if": ignore}

    @property
    def bad(self) -> pl.Expr:
        """Return the mask of rows that break the rule."""
        return pl.col(self.column) < pl.col(self.other)


@dataclass(frozen=True)
class OneOf:
    """A text is one of a set; a missing one is not judged."""

    name: str
    column: str
    allowed: tuple[str, ...]

    @property
    def expectation(self) -> tuple[str, dict[str, Any]]:
        """Return the expectation's class name and arguments."""
        return "ExpectColumnValuesToBeInSet", {"column": self.column, "value_set": list(self.allowed)}

    @property
    def bad(self) -> pl.Expr:
        """Return the mask of rows that break the rule."""
        return ~pl.col(self.column).is_in(self.allowed)


Rule = Present | Between | NotBelow | OneOf


def rules(table: str, settings: Quality) -> tuple[Rule, ...]:
    """Return the rules of a market table.

    Raises:
        DataError: if the table has none.
    """
    if table == OHLCV.name:
        return (*_every_table(OHLCV), *_ohlcv(settings))
    if table == OPEN_INTEREST.name:
        return (*_every_table(OPEN_INTEREST), *_open_interest(settings))
    if table == FUNDING.name:
        return (*_every_table(FUNDING), *_funding(settings))
    raise DataError(f"no quality rules for table {table!r}", expected="ohlcv, open_interest or funding")


def _every_table(spec: Table) -> tuple[Rule, ...]:
    required = [name for name in (*spec.columns, "available_at") if name not in spec.nullable]
    return (
        *(Present(f"{name}_missing", name) for name in required),
        Between("available_too_early", HELD_BACK),
        Between("duplicate", COPY, high=0),
        Between("conflicting_key", RIVALS, high=1),
    )


def _ohlcv(settings: Quality) -> tuple[Rule, ...]:
    return (
        *(Between(f"{name}_not_positive", name, above=True) for name in ("open", "high", "low", "close")),
        NotBelow("high_below_low", "high", "low"),
        NotBelow("open_above_high", "high", "open"),
        NotBelow("close_above_high", "high", "close"),
        NotBelow("open_below_low", "open", "low"),
        NotBelow("close_below_low", "close", "low"),
        Between("volume_negative", "volume"),
        OneOf("kind_unknown", "kind", ("spot", "perp", "mark", "index")),
        Between("off_grid", OFFSET, high=0),
        Between("price_jump", MOVE, high=1 / (1 - settings.max_hourly_move)),
    )


def _open_interest(settings: Quality) -> tuple[Rule, ...]:
    return (
        Between("oi_negative", "oi_base"),
        Between("oi_usd_negative", "oi_usd"),
        Between("oi_jump", MOVE, high=settings.max_oi_jump),
    )


def _funding(settings: Quality) -> tuple[Rule, ...]:
    most = settings.max_funding_rate
    return (
        Between("rate_extreme", "rate", low=-most, high=most),
        Between("interval_unknown", "interval_h", high=24.0, above=True),
    )
