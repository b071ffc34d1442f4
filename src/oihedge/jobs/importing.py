"""Files to lake raw/: Binance Vision archives and whatever a spec describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from oihedge.config import Config
from oihedge.core.protocols import Progress, silent
from oihedge.jobs.ingest import IngestReport, store
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake
from oihedge.market.archive import read_archives
from oihedge.market.importing import load_spec, read_import
from oihedge.market.read import Fetched


def run(config: Config, *, specs: Sequence[Path], folder: Path | None, as_of: datetime) -> IngestReport:
    """Load the files that each spec names; all are read before the first row is written.

    Args:
        config: the lake to fill must not be the embedded market's.
        specs: import specs (YAML), in the order in which their tables build on one another (prices before OI in USD).
        folder: what relative file names start from; None: the spec's own folder.
        as_of: written as ingested_at.

    Raises:
        ConfigError: for a spec that is wrong.
        DataError: for a file that is.
    """
    loaded: list[tuple[str, pl.DataFrame]] = []
    lake = open_lake(config)
    for path in specs:
        loaded.append(read_import(load_spec(path), folder, _prices(lake, loaded)))
    reports = [store(lake, Fetched(rows={name: rows}, gaps=[], failures=[]), as_of) for name, rows in loaded]
    return IngestReport(as_of, tuple(row for report in reports for row in report.rows), (), ())


def archives(
    config: Config, *, folder: Path, as_of: datetime, start: datetime, end: datetime, progress: Progress = silent
) -> IngestReport:
    """Load the Binance Vision archive files under `folder` for [start, end) into raw/."""
    tables = read_archives(folder, config.market, start=start, end=end, progress=progress)
    return store(open_lake(config), Fetched(rows=tables, gaps=[], failures=[]), as_of)


def _prices(lake: Lake, loaded: Sequence[tuple[str, pl.DataFrame]]) -> Callable[[str, str], pl.DataFrame]:
    """Give a venue symbol's bars from the lake and from what this very import has read so far."""

    def bars(venue: str, symbol: str) -> pl.DataFrame:
        chosen = (pl.col("venue") == venue) & (pl.col("symbol") == symbol)
        frames = [lake.read("raw", "ohlcv", where=chosen).select("ts", "open").collect()]
        frames += [rows.filter(chosen).select("ts", "open") for name, rows in loaded if name == "ohlcv"]
        return pl.concat(frames).unique("ts", keep="last").sort("ts")

    return bars
