"""Reading what a client asked: parameters with a type, and the refusals that each venue words in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from oihedge.simulator.market import EmbeddedMarket


class Refused(Exception):
    """A request that a venue answers with an error: its HTTP status and its JSON body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


class Malformed(Exception):
    """A parameter that is missing or does not parse; a venue's module turns it into its own words."""

    def __init__(self, name: str, missing: bool = False) -> None:
        super().__init__(name)
        self.name, self.missing = name, missing


@dataclass(frozen=True)
class Asked:
    """The parameters of one request."""

    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a parameter that must be there.

        Raises:
            Malformed: if it is not.
        """
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise Malformed(name, missing=value in (None, ""))
        return value

    def whole(self, name: str, default: int | None = None) -> int | None:
        """Return a whole number, or `default` where none was sent.

        Raises:
            Malformed: if it is no whole number below 10**17.
        """
        value = self.values.get(name)
        if value in (None, ""):
            return default
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Malformed(name)
        digits = str(value)
        if not digits.isascii() or not digits.isdigit() or len(digits) > 17:
            raise Malformed(name)
        return int(digits)

    def limit(self, default: int, most: int) -> int:
        """Return `limit`, `default` where none was sent.

        Raises:
            Malformed: if it is not in 1..most.
        """
        value = self.whole("limit", default) or 0
        if not 1 <= value <= most:
            raise Malformed("limit")
        return value


def asset_of(market: EmbeddedMarket, symbol: str) -> str | None:
    """Return the asset of an id such as `BTCUSDT`, or None for one there is not."""
    asset = symbol.removesuffix("USDT")
    return asset if symbol.endswith("USDT") and asset in market.assets else None


def windowed(rows: pl.DataFrame, limit: int, *, newest: bool) -> pl.DataFrame:
    """Return at most `limit` rows: the newest ones, or the first."""
    return rows.tail(limit) if newest else rows.head(limit)


def decimal(value: float, decimals: int) -> str:
    """Write a number as the venues do: a string with fixed decimals."""
    return f"{value:.{decimals}f}"


def increment(decimals: int) -> str:
    """Write the smallest step of that many decimals: 0.001 for 3, 1 for 0."""
    return f"{10.0**-decimals:.{decimals}f}"
