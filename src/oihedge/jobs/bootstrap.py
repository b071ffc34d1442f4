"""What a first start needs: the years that no venue serves any more.

With the embedded market this writes its archive files (the real formats) and imports them, the way a real user gets
years.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from oihedge.config import Config
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import MARKET_TABLES
from oihedge.jobs import importing
from oihedge.jobs.ingest import IngestReport
from oihedge.jobs.opening import open_lake


def needed(config: Config) -> bool:
    """Whether the embedded market's past is not in the lake, or only half: some market table then has no version."""
    if not config.simulated:
        return False
    lake = open_lake(config)
    return any(lake.version("raw", spec.name) is None for spec in MARKET_TABLES)


def run(config: Config, *, as_of: datetime, progress: Progress = silent) -> IngestReport | None:
    """Write and import the embedded market's archives of the configured history; None where venues are real.

    Idempotent: files that are already right are kept, rows that are already there are not written again.
    """
    if not config.simulated:
        return None
    from oihedge.simulator.archive import write_archives
    from oihedge.simulator.market import EmbeddedMarket

    folder = config.path(config.run.data) / "archive"
    end = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    start = max(end - timedelta(days=config.run.history_days), config.simulator.origin)
    write_archives(EmbeddedMarket(config.simulator), folder, start=start, end=end, progress=progress)
    return importing.archives(config, folder=folder, as_of=as_of, start=start, end=end, progress=progress)
