"""Time: always UTC, always injected."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from oihedge.core.errors import ConfigError

HOUR = timedelta(hours=1)
EARLIEST, LATEST = datetime(2009, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""No instant of a market lies before the first or from the second on, and a column of time holds all between."""
TIMEFRAMES: Mapping[str, timedelta] = MappingProxyType(
    {"1m": HOUR / 60, "5m": HOUR / 12, "15m": HOUR / 4, "30m": HOUR / 2, "1h": HOUR, "4h": 4 * HOUR, "1d": 24 * HOUR}
)
"""The steps of grids that rows of any table stand on."""


class Clock(Protocol):
    """Tell the time; jobs receive one and never ask the operating system."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...


class SystemClock:
    """The wall clock."""

    def now(self) -> datetime:
        """Return the wall-clock instant in UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still, for the demo, replays and tests."""

    def __init__(self, instant: datetime) -> None:
        self._instant = require_utc(instant, "clock")

    def now(self) -> datetime:
        """Return the instant it was made with."""
        return self._instant


def require_utc(instant: datetime, name: str) -> datetime:
    """Return `instant` in UTC, refusing naive ones.

    Raises:
        ConfigError: if `instant` carries no time zone.
    """
    if instant.tzinfo is None:
        raise ConfigError(
            f"{name} has no time zone",
            expected="an instant with a zone, e.g. 2025-01-01T00:00:00Z",
            got=instant.isoformat(),
        )
    return instant.astimezone(UTC)


def parse_instant(text: str, name: str) -> datetime:
    """Parse an ISO date or instant; a bare date means midnight UTC, an hour needs its zone.

    Raises:
        ConfigError: if `text` is not ISO 8601 or is an instant without a zone.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{name} is not a date", expected="2025-01-01 or 2025-01-01T00:00:00Z", got=repr(text)
        ) from None
    if len(text) == 10:
        return instant.replace(tzinfo=UTC)
    return require_utc(instant, name)


def floor_hour(instant: datetime) -> datetime:
    """Return the last whole hour at or before `instant`."""
    return instant.replace(minute=0, second=0, microsecond=0)


def iso(instant: datetime) -> str:
    """Write an instant as the decision file does: `2025-01-01T00:00:00Z`, microseconds only where there are some."""
    return require_utc(instant, "instant").isoformat().replace("+00:00", "Z")
