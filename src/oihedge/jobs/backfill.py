"""Fill a past range by hand, oldest first, one UTC day a chunk."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from oihedge.config import Config
from oihedge.core.errors import ConfigError
from oihedge.jobs import ingest
from oihedge.jobs.ingest import IngestReport

DAY = timedelta(days=1)


def chunks(start: datetime, end: datetime, as_of: datetime) -> list[tuple[datetime, datetime]]:
    """Split [start, end) into UTC days, oldest first.

    Raises:
        ConfigError: if the range is empty or reaches past `as_of`.
    """
    if start >= end:
        raise ConfigError("backfill range is empty", expected="start before end", got=f"{start:%F} .. {end:%F}")
    if end > as_of:
        raise ConfigError("backfill reaches into the future", expected=f"an end no later than {as_of:%F %H:%M}Z",
                          got=f"{end:%F %H:%M}Z")  # fmt: skip
    days: list[tuple[datetime, datetime]] = []
    at = start
    while at < end:
        until = min(datetime.combine(at.date(), time(), UTC) + DAY, end)
        days.append((at, until))
        at = until
    return days


def run_chunk(
    config: Config, *, start: datetime, end: datetime, as_of: datetime, market_url: str | None = None
) -> IngestReport:
    """Ingest one chunk; the same chunk twice changes nothing."""
    return ingest.run(config, as_of=as_of, start=start, end=end, market_url=market_url)
