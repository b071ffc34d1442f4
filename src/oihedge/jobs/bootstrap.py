"""What a first start needs: the years that no venue serves any more.

With the embedded market this writes its archive files (the real formats) and imports them, the way a real user gets
years.
"""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timedelta

import polars as pl

from oihedge.config import ROOT, Config
from oihedge.core.clock import HOUR
from oihedge.core.protocols import Progress, silent
from oihedge.jobs import importing
from oihedge.jobs.opening import open_lake

ARCHIVED = "binanceusdm"
COMPLETE = 0.99


def needed(config: Config, as_of: datetime) -> bool:
    """Whether the lake lacks a part of the embedded market's past that only its archives still have.

    Judged by open interest, which the venue serves for 30 days only and which an import writes last: a first start, one
    that was killed half-way and one after a long pause all answer yes.
    """
    if not config.simulated:
        return False
    start, end = _span(config, as_of)
    mine = pl.col("venue") == ARCHIVED
    rows = open_lake(config).read("raw", "open_interest", start=start, end=end, where=mine)
    have = rows.select(pl.len()).collect().item()
    symbols = sum(len(venue.symbols) for venue in config.market.venues if venue.id == ARCHIVED)
    return bool(have < COMPLETE * symbols * ((end - start) / HOUR))


def _span(config: Config, as_of: datetime) -> tuple[datetime, datetime]:
    """Archives end with the last whole day."""
    end = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    return max(end - timedelta(days=config.run.history_days), config.simulator.origin), end


def _explicit_zeros(config: Config) -> None:
    """Lay the shipped positions (zeros) and markets into a home that has nothing yet; later, absent stays absent."""
    if open_lake(config).exists("raw", "ohlcv"):
        return
    portfolio = config.hedge.portfolio
    for file in (portfolio.positions_file, portfolio.markets_file):
        own, shipped = config.path(file), ROOT / file
        if not os.path.lexists(own) and shipped.is_file():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shipped, own)


def run(config: Config, *, as_of: datetime, progress: Progress = silent) -> importing.ImportReport | None:
    """Write and import the embedded market's archives of the configured history; None where venues are real.

    Idempotent: files that are already right are kept, rows that are already there are not written again.
    """
    if not config.simulated:
        return None
    from oihedge.simulator.archive import write_archives
    from oihedge.simulator.market import EmbeddedMarket

    _explicit_zeros(config)
    folder = config.path(config.run.data) / "archive"
    start, end = _span(config, as_of)
    write_archives(EmbeddedMarket(config.simulator), folder, start=start, end=end, progress=progress)
    return importing.archives(config, folder=folder, as_of=as_of, start=start, end=end, progress=progress)
