"""How each venue is asked and how its answers are read: one module a venue, found by (venue, kind, series)."""

from __future__ import annotations

from importlib import import_module

from oihedge.market.dialects.answers import Dialect

_MODULES = {"binanceusdm": "binance"}


def dialect(venue: str, kind: str, series: str) -> Dialect:
    """Return how `series` of `kind` markets is asked of `venue`; it is there for every offer of market.venues."""
    module = import_module(f"{__name__}.{_MODULES.get(venue, venue)}")
    found: Dialect = module.SERIES[kind, series]
    return found
