"""Files to the lake: Binance Vision archives, freqtrade's folders and whatever a spec describes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.clock import iso
from oihedge.core.errors import DataError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import MARKET_TABLES, table
from oihedge.jobs import validate
from oihedge.jobs.imported_files import ReadFile, of_archives, of_freqtrade, of_spec, record
from oihedge.jobs.ingest import store
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake
from oihedge.market.archive import STEPS, USUAL, find_archives, read_archives
from oihedge.market.importing import ImportSpec, Prices, load_spec, read_import
from oihedge.market.read import Fetched

SIMULATED = "SIMULATED.json"
"""The note that the embedded market leaves beside the archive files it writes."""


DECIDING = tuple(spec.name for spec in MARKET_TABLES)


@dataclass(frozen=True)
class ImportReport:
    """What came in (`rows` by venue and table, of so many `files`), what became of it (`judged`), and `notes`."""

    as_of: datetime
    rows: tuple[dict[str, Any], ...]
    judged: tuple[dict[str, Any], ...]
    share_good: float
    notes: tuple[str, ...]
    files: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, specs: Sequence[Path], folder: Path | None, as_of: datetime) -> ImportReport:
    """Load the files that each spec names and judge their rows; all are read before the first row is written.

    Bars are stored and judged before open interest is divided by them: only one that quality lets through is a price.

    Args:
        config: settings; whatever its market, these are no simulated rows and go into no simulated lake.
        specs: import specs (YAML), in any order.
        folder: what relative file names start from; None: the spec's own folder.
        as_of: written as ingested_at; a bar that was not known by then is no price.

    Raises:
        ConfigError: for a spec that is wrong, or a lake that holds the simulated market.
        DataError: for a file that is.
    """
    config = _of_files(config, simulated=False)
    loaded = [load_spec(path) for path in specs]
    lake = open_lake(config)
    notes: list[str] = []
    plain = [(spec, *read_import(spec, folder, tell=notes.append)) for spec in loaded if spec.price is None]
    priced = [spec for spec in loaded if spec.price is not None]
    bars = [rows for _, name, rows in plain if name == "ohlcv"]
    for spec in priced:  # a file that is wrong is found before a row is written; its rows are read again below
        read_import(spec, folder, _unjudged(lake, spec, as_of, bars))
    reports = [_loaded(config, lake, plain, folder, as_of, notes)]
    if priced:
        again = [(spec, *read_import(spec, folder, _prices(lake, spec, as_of), notes.append)) for spec in priced]
        reports.append(_loaded(config, lake, again, folder, as_of, notes))
    judged = tuple(row for one in reports for row in one.judged)
    counted = sum(row["checked"] - row["set_aside"] for row in judged)
    return ImportReport(
        as_of,
        tuple(row for one in reports for row in one.rows),
        judged,
        sum(row["good"] for row in judged) / counted if counted else 1.0,
        tuple(notes),
        sum(one.files for one in reports),
    )


def _loaded(
    config: Config,
    lake: Lake,
    read: Sequence[tuple[ImportSpec, str, pl.DataFrame]],
    folder: Path | None,
    as_of: datetime,
    notes: list[str],
) -> ImportReport:
    """Store what specs gave, one after the other, and judge it."""
    known = [(spec, name, _known(name, rows, as_of, notes.append)) for spec, name, rows in read]
    stored = [store(lake, Fetched(rows={name: rows}, gaps=[], failures=[]), as_of) for _, name, rows in known]
    files = [file for spec, _, rows in known for file in of_spec(spec, folder, rows)]
    judged = validate.run(config, as_of=as_of)
    rows = tuple(row for report in stored for row in report.rows)
    return ImportReport(as_of, rows, judged.rows, judged.share_good, (), record(lake, files, as_of))


def archives(
    config: Config,
    *,
    folder: Path,
    as_of: datetime,
    start: datetime,
    end: datetime,
    kinds: Sequence[str] = USUAL,
    timeframe: str = "1h",
    tables: Sequence[str] | None = DECIDING,
    notes: Sequence[str] = (),
    progress: Progress = silent,
) -> ImportReport:
    """Load the Binance Vision archive files under `folder` for [start, end) and judge their rows.

    Args:
        config: settings: whose symbols, and the lake.
        folder: where the zips lie.
        as_of: written as ingested_at.
        start: first ts.
        end: end of the span, excluded.
        kinds: which of market.archive.KINDS.
        timeframe: of the bars, 1h or 1m.
        tables: which tables' rows to keep; None: all that the files have.
        notes: said before those of the import.
        progress: told after every series of files.

    Raises:
        ConfigError: if the files are real and the lake holds the simulated market, or the other way round.
        DataError: if a file is damaged or there is none for the span.
    """
    config = _of_files(config, simulated=_is_simulated(folder))
    lake = open_lake(config)
    read = read_archives(
        folder, config.market, start=start, end=end, kinds=kinds, timeframe=timeframe, progress=progress
    )
    kept = {name: rows for name, rows in read.items() if tables is None or name in tables}
    files = find_archives(folder, config.market, kinds=kinds, timeframe=timeframe)
    return _judged(config, lake, kept, lambda known: of_archives(files, folder, known), as_of, notes)


def download(
    config: Config,
    *,
    folder: Path,
    as_of: datetime,
    start: datetime,
    end: datetime,
    kinds: Sequence[str] = USUAL,
    timeframe: str = "1h",
    progress: Progress = silent,
) -> tuple[str, ...]:
    """Bring the archive files of [start, end) into `folder`; with the embedded market, the files it writes itself.

    Returns:
        What became of them, in words.

    Raises:
        ConfigError: for a span, kind or folder that is wrong.
        DataError: if a file is not what its checksum tells.
        VenueError: if the source cannot be read.
    """
    from oihedge.market import download as job

    end = min(end, as_of)
    with _vision_address(config, as_of, start, end, progress) as url:
        done = job.download(
            folder,
            config.market,
            start=start,
            end=end,
            kinds=kinds,
            timeframe=timeframe,
            base_url=url,
            progress=progress,
        )
    notes = [f"{len(done.fetched)} files fetched, {len(done.kept)} there already"]
    if done.replaced:
        notes.append(
            f"{len(done.replaced)} files were replaced at the source, e.g. {done.replaced[0]}; the old are kept"
        )
    if done.missing:
        notes.append(f"{len(done.missing)} files the source does not have, e.g. {done.missing[0]}")
    return tuple(notes)


@contextmanager
def _vision_address(
    config: Config, as_of: datetime, start: datetime, end: datetime, progress: Progress
) -> Iterator[str | None]:
    if not config.simulated:
        yield None
        return
    from oihedge.core.clock import FixedClock
    from oihedge.simulator.archive import write_archives
    from oihedge.simulator.market import EmbeddedMarket
    from oihedge.simulator.server import LoopbackServer

    market, archive = EmbeddedMarket(config.simulator), config.path(config.run.data) / "archive"
    write_archives(market, archive, start=start, end=end, progress=progress)
    with LoopbackServer(market, FixedClock(as_of), archive=archive) as server:
        yield server.url


def freqtrade(
    config: Config, *, folder: Path, venue: str, timeframe: str, as_of: datetime, progress: Progress = silent
) -> ImportReport:
    """Load a freqtrade data folder of one exchange and judge its rows.

    Raises:
        ConfigError: for a venue or timeframe there is none of, or a lake that holds the simulated market.
        DataError: if there is no such file, or one is damaged.
    """
    from oihedge.market.freqtrade import read_freqtrade

    config = _of_files(config, simulated=False)
    lake = open_lake(config)
    notes: list[str] = []
    names: list[str] = []

    def told(done: int, total: int, what: str, lane: str = "") -> None:
        names.append(what)
        progress(done, total, what, lane)

    read = read_freqtrade(folder, config.market, venue=venue, timeframe=timeframe, tell=notes.append, progress=told)
    return _judged(config, lake, read, lambda _: of_freqtrade(folder, names), as_of, notes)


def _judged(
    config: Config,
    lake: Lake,
    tables: Mapping[str, pl.DataFrame],
    files: Callable[[Mapping[str, pl.DataFrame]], list[ReadFile]],
    as_of: datetime,
    notes: Sequence[str] = (),
) -> ImportReport:
    """Store what was read, but for rows that could not be known yet, and which `files` it is from, and judge it."""
    said = list(notes)
    known = {name: _known(name, rows, as_of, said.append) for name, rows in tables.items()}
    report = store(lake, Fetched(rows=known, gaps=[], failures=[]), as_of)
    recorded = record(lake, files(known), as_of)
    judged = validate.run(config, as_of=as_of)
    said += [line for name, rows in known.items() for line in holes(name, rows)]
    return ImportReport(as_of, report.rows, judged.rows, judged.share_good, tuple(said), recorded)


def _known(name: str, rows: pl.DataFrame, as_of: datetime, tell: Callable[[str], None]) -> pl.DataFrame:
    """Leave out, and count, rows that are not complete yet: stored now, they would be in quarantine for good."""
    known = rows.filter(pl.col("available_at") <= as_of)
    if left := rows.height - known.height:
        tell(f"{name}: {left} rows are not complete yet at {iso(as_of)} and stay out; a later import takes them")
    return known


def holes(name: str, rows: pl.DataFrame) -> list[str]:
    """Say, one line a series, how many rows are missing between its first and its last; funding has no fixed step."""
    if name == "funding" or rows.is_empty():
        return []
    by = [column for column in table(name).key if column != "ts"]
    step = pl.lit(timedelta(hours=1)) if "timeframe" not in by else pl.col("timeframe").replace_strict(STEPS)
    gap = (pl.col("ts").diff().over(by) / step).round().cast(pl.Int64) - 1
    gaps = rows.sort(*by, "ts").with_columns(gap=gap, since=pl.col("ts").shift().over(by))
    summed = gaps.group_by(by, maintain_order=True).agg(
        missing=pl.col("gap").sum(), longest=pl.col("gap").max(), have=pl.len(),
        since=pl.col("since").sort_by("gap", nulls_last=False).last(),
    )  # fmt: skip
    return [
        f"{name} {' '.join(str(row[column]) for column in by)}: {row['missing']} of {row['have'] + row['missing']} "
        f"rows missing, at most {row['longest']} in a row (after {iso(row['since'])})"
        for row in summed.filter(pl.col("missing") > 0).iter_rows(named=True)
    ]


def _is_simulated(folder: Path) -> bool:
    """Whether the embedded market's note lies in `folder`, above it or anywhere below."""
    here = folder.resolve()
    return any((place / SIMULATED).is_file() for place in (here, *here.parents)) or any(here.rglob(SIMULATED))


def _of_files(config: Config, *, simulated: bool) -> Config:
    """The settings with the market that the files come from, so that the lake can refuse to mix the two."""
    source = "embedded" if simulated else "import"
    return config.model_copy(update={"market": config.market.model_copy(update={"source": source})})


def _prices(lake: Lake, spec: ImportSpec, as_of: datetime) -> Prices:
    """Give a venue symbol's bars that quality let through and that were known at `as_of`; none that we interpolated.

    The bar after the newest is under way and cannot be judged: it opens where that one closed.
    """

    def bars(venue: str, symbol: str) -> pl.DataFrame:
        good = lake.read("validated", "ohlcv", as_of=as_of, where=_priced_by(spec, venue, symbol))
        found = good.filter(~pl.col("filled").fill_null(False)).sort("ts").collect()
        if found.is_empty() and spec.unit == "usd":
            raise DataError(
                f"no bar of {venue} {symbol} that quality let through was known at {iso(as_of)}",
                do="oihedge quarantine list --table ohlcv tells why",
            )
        step = pl.col("timeframe").replace_strict(STEPS, return_dtype=pl.Duration("us"))
        under_way = found.tail(1).select(pl.col("ts") + step, open="close")
        return pl.concat([found.select("ts", "open"), under_way]).unique("ts", keep="first").sort("ts")

    return bars


def _unjudged(lake: Lake, spec: ImportSpec, as_of: datetime, loaded: Sequence[pl.DataFrame]) -> Prices:
    """Give the bars that may become prices: those of the lake and those of this very import, before any verdict."""

    def bars(venue: str, symbol: str) -> pl.DataFrame:
        chosen = _priced_by(spec, venue, symbol)
        frames = [lake.read("raw", "ohlcv", as_of=as_of, where=chosen).select("ts", "open").collect()]
        frames += [rows.filter(chosen).select("ts", "open") for rows in loaded]
        return pl.concat(frames).unique("ts", keep="last").sort("ts")

    return bars


def _priced_by(spec: ImportSpec, venue: str, symbol: str) -> pl.Expr:
    """Choose the bars of trades in that symbol: a mark, an index or a premium is another number at the same ts."""
    kind, steps = "perp" if ":" in symbol else "spot", [spec.grid] if spec.grid else list(STEPS)
    traded = (pl.col("kind") == kind) & pl.col("timeframe").is_in(steps)
    return (pl.col("venue") == venue) & (pl.col("symbol") == symbol) & traded
