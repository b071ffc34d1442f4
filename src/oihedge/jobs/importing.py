"""Files to the lake: Binance Vision archives and whatever a spec describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.protocols import Progress, silent
from oihedge.jobs import validate
from oihedge.jobs.ingest import store
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake
from oihedge.market.archive import read_archives
from oihedge.market.importing import load_spec, read_import
from oihedge.market.read import Fetched

SIMULATED = "SIMULATED.json"
"""The note that the embedded market leaves beside the archive files it writes."""


@dataclass(frozen=True)
class ImportReport:
    """What came in (`rows` by venue and table), what became of it (`judged`), and `notes` in words."""

    as_of: datetime
    rows: tuple[dict[str, Any], ...]
    judged: tuple[dict[str, Any], ...]
    share_good: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, specs: Sequence[Path], folder: Path | None, as_of: datetime) -> ImportReport:
    """Load the files that each spec names and judge their rows; all are read before the first row is written.

    Args:
        config: settings; whatever its market, these are no simulated rows and go into no simulated lake.
        specs: import specs (YAML), in the order in which their tables build on one another (prices before OI in USD).
        folder: what relative file names start from; None: the spec's own folder.
        as_of: written as ingested_at.

    Raises:
        ConfigError: for a spec that is wrong, or a lake that holds the simulated market.
        DataError: for a file that is.
    """
    config = _of_files(config, simulated=False)
    loaded: list[tuple[str, pl.DataFrame]] = []
    notes: list[str] = []
    lake = open_lake(config)
    for path in specs:
        loaded.append(read_import(load_spec(path), folder, _prices(lake, loaded), notes.append))
    reports = [store(lake, Fetched(rows={name: rows}, gaps=[], failures=[]), as_of) for name, rows in loaded]
    judged = validate.run(config, as_of=as_of)
    rows = tuple(row for report in reports for row in report.rows)
    return ImportReport(as_of, rows, judged.rows, judged.share_good, tuple(notes))


def archives(
    config: Config, *, folder: Path, as_of: datetime, start: datetime, end: datetime, progress: Progress = silent
) -> ImportReport:
    """Load the Binance Vision archive files under `folder` for [start, end) and judge their rows.

    Raises:
        ConfigError: if the files are real and the lake holds the simulated market, or the other way round.
        DataError: if a file is damaged or there is none for the span.
    """
    config = _of_files(config, simulated=_is_simulated(folder))
    lake = open_lake(config)
    tables = read_archives(folder, config.market, start=start, end=end, progress=progress)
    report = store(lake, Fetched(rows=tables, gaps=[], failures=[]), as_of)
    judged = validate.run(config, as_of=as_of)
    return ImportReport(as_of, report.rows, judged.rows, judged.share_good, ())


def _is_simulated(folder: Path) -> bool:
    """Whether the embedded market's note lies in `folder`, above it or anywhere below."""
    here = folder.resolve()
    return any((place / SIMULATED).is_file() for place in (here, *here.parents)) or any(here.rglob(SIMULATED))


def _of_files(config: Config, *, simulated: bool) -> Config:
    """The settings with the market that the files come from, so that the lake can refuse to mix the two."""
    source = "embedded" if simulated else "import"
    return config.model_copy(update={"market": config.market.model_copy(update={"source": source})})


def _prices(lake: Lake, loaded: Sequence[tuple[str, pl.DataFrame]]) -> Callable[[str, str], pl.DataFrame]:
    """Give a venue symbol's bars from the lake and from what this very import has read so far."""

    def bars(venue: str, symbol: str) -> pl.DataFrame:
        chosen = (pl.col("venue") == venue) & (pl.col("symbol") == symbol)
        frames = [lake.read("raw", "ohlcv", where=chosen).select("ts", "open").collect()]
        frames += [rows.filter(chosen).select("ts", "open") for name, rows in loaded if name == "ohlcv"]
        return pl.concat(frames).unique("ts", keep="last").sort("ts")

    return bars
