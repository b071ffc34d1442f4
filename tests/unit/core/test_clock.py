from datetime import UTC, datetime, timedelta, timezone

import pytest

from oihedge.core.clock import FixedClock, floor_hour, iso, parse_instant, require_utc
from oihedge.core.errors import ConfigError


def test_a_bare_date_is_midnight_utc() -> None:
    assert parse_instant("2025-01-01", "start") == datetime(2025, 1, 1, tzinfo=UTC)


def test_an_instant_in_another_zone_becomes_utc() -> None:
    assert parse_instant("2025-01-01T06:00:00+06:00", "start") == datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2025-13-01", "yesterday", "2025-01-01T00:00:00", "2025-01-01T00:00", ""])
def test_what_is_no_instant_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="start"):
        parse_instant(text, "start")


def test_a_naive_instant_is_never_taken_for_utc() -> None:
    with pytest.raises(ConfigError, match="clock has no time zone"):
        FixedClock(datetime(2025, 1, 1))  # noqa: DTZ001


def test_instants_are_written_with_a_z() -> None:
    summer = timezone(timedelta(hours=2))
    assert iso(datetime(2025, 7, 1, 2, 5, tzinfo=summer)) == "2025-07-01T00:05:00Z"


def test_the_hour_is_floored_not_rounded() -> None:
    late = require_utc(datetime(2025, 7, 1, 2, 59, 59, 999999, tzinfo=UTC), "x")
    assert floor_hour(late) == datetime(2025, 7, 1, 2, tzinfo=UTC)
