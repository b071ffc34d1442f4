"""The kinds of rules, from each of which both the expectation and the row mask derive.

A rule's name is the reason that a bad row carries. Rules speak of the columns of the checked frame that `measures.py`
prepares: the table's own columns (where NaN in a required number is null, and in an optional one infinite) and a few
measured ones. A rule that is told only (`told`) is counted in the report and keeps no row out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import polars as pl

LARGEST = sys.float_info.max
OFFSET, HELD_BACK, AHEAD, COPY, RIVALS, MOVE, PRICE_MOVE = (
    "grid_offset_us", "held_back_us", "ahead_us", "copy", "rivals", "move", "price_move"
)  # fmt: skip
"""Measured columns: microseconds past the bar grid; from when the row was complete to when it was available; from when
it was taken to when it was complete; how many equal rows came before; how many different rows share key and stamps;
factor to the last good row, of the table's own value and of the USD value of a coin of open interest."""
APART, ASIDE, FROZEN, RETURN_Z = "apart", "aside", "frozen_h", "return_z"
"""Measured across venues, see `quorum.py`: distance from the other venues as a share of what is allowed in one hour;
hours in a row in which the venue disagreed; hours in a row with one value while the others moved; and in the row's own
series: its hourly change in robust standard deviations."""


@dataclass(frozen=True)
class Present:
    """A value is there."""

    name: str
    column: str
    told: bool = False

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
    told: bool = False

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
    told: bool = False

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
    told: bool = False

    @property
    def expectation(self) -> tuple[str, dict[str, Any]]:
        """Return the expectation's class name and arguments."""
        return "ExpectColumnValuesToBeInSet", {"column": self.column, "value_set": list(self.allowed)}

    @property
    def bad(self) -> pl.Expr:
        """Return the mask of rows that break the rule."""
        return ~pl.col(self.column).is_in(self.allowed)


@dataclass(frozen=True)
class NotZero:
    """A number is not 0; a missing one is not judged."""

    name: str
    column: str
    told: bool = False

    @property
    def expectation(self) -> tuple[str, dict[str, Any]]:
        """Return the expectation's class name and arguments."""
        return "ExpectColumnValuesToNotBeInSet", {"column": self.column, "value_set": [0.0]}

    @property
    def bad(self) -> pl.Expr:
        """Return the mask of rows that break the rule."""
        return pl.col(self.column) == 0


Rule = Present | Between | NotBelow | OneOf | NotZero
