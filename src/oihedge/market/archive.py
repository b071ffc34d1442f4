"""Binance Vision archive files: the way anyone gets years of open interest.

Layout below a folder, as the public bucket has it (with or without its leading `data/`):
`futures/um/daily/metrics/SYM`, `futures/um/{monthly,daily}/klines/SYM/1h`,
`futures/um/{monthly,daily}/fundingRate/SYM`, `spot/{monthly,daily}/klines/SYM/1h`. Every zip
stands beside its `.CHECKSUM`; files get replaced at the source, so a zip without a matching one is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from oihedge.core.clock import require_utc
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import conform, table
from oihedge.core.types import Instrument
from oihedge.market.rows import COINS_AND_USD, bars_table, funding_table, interest_table
from oihedge.market.settings import Market
from oihedge.market.zips import read_zips

RELABELLED = date(2026, 6, 25)
"""From this day's metrics file on, a row labelled T is the snapshot at T + 5 min (binance-public-data issue 491)."""
METRICS_STEP = timedelta(minutes=5)
_FILE = re.compile(
    r"(?P<market>futures/um|spot)/(?P<every>daily|monthly)/(?P<kind>metrics|klines|fundingRate)/(?P<sym>[A-Z0-9_]+)/"
    r"(?:1h/)?(?P=sym)-(?:1h|metrics|fundingRate)-(?P<date>\d{4}-\d{2}(?:-\d{2})?)\.zip$"
)
_VENUES = {"futures/um": ("binanceusdm", "perp"), "spot": ("binance", "spot")}
_COLUMNS = {
    "metrics": (
        "create_time", "symbol", "sum_open_interest", "sum_open_interest_value", "count_toptrader_long_short_ratio",
        "sum_toptrader_long_short_ratio", "count_long_short_ratio", "sum_taker_long_short_vol_ratio",
    ),
    "klines": (
        "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
        "taker_buy_volume", "taker_buy_quote_volume", "ignore",
    ),
    "fundingRate": ("calc_time", "funding_interval_hours", "last_funding_rate"),
}  # fmt: skip
_TABLE = {"metrics": "open_interest", "klines": "ohlcv", "fundingRate": "funding"}


@dataclass(frozen=True)
class ArchiveFile:
    """One zip: what it holds and the days it covers, `until` excluded."""

    path: Path
    kind: str
    instrument: Instrument
    since: date
    until: date


def read_archives(
    folder: Path, settings: Market, *, start: datetime, end: datetime, progress: Progress = silent
) -> dict[str, pl.DataFrame]:
    """Read the archive files of the configured Binance symbols.

    Args:
        folder: local copy of the bucket, or a part of it.
        settings: which symbols to take, and the venues' delays: rows are available as a live run would have had them.
        start: first ts, included.
        end: end of the span, excluded.
        progress: told after every series of files.

    Returns:
        Rows of ohlcv (hourly), open_interest (the snapshots on the hour) and funding with start <= ts < end.

    Raises:
        ConfigError: if the span is empty.
        DataError: if there is no file for the span, or one is damaged; it is named.
    """
    start, end = require_utc(start, "start"), require_utc(end, "end")
    if start >= end:
        raise ConfigError("the archive span is empty", expected="start before end", got=f"{start} .. {end}")
    delays: dict[tuple[str, str], timedelta] = {
        (venue.id, venue.kind): timedelta(seconds=venue.delay_s) for venue in settings.venues
    }
    series: dict[tuple[str, Instrument], list[ArchiveFile]] = defaultdict(list)
    for file in find_archives(folder, settings):
        # a day of metrics ends with the next day's midnight, and a shifted one begins 5 minutes late
        if file.since <= end.date() and file.until + timedelta(days=1) > start.date():
            series[file.kind, file.instrument].append(file)
    if not series:
        raise DataError(
            f"{folder} has no archive file between {start:%F} and {end:%F}", do=f"see {__name__} for the layout"
        )
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in _TABLE.values()}
    for done, ((kind, instrument), files) in enumerate(sorted(series.items(), key=lambda item: str(item[0])), 1):
        delay = delays[instrument.venue, instrument.kind]
        rows = _PARSERS[kind](files, instrument, delay).filter(pl.col("ts").is_between(start, end, closed="left"))
        frames[_TABLE[kind]].append(rows)
        progress(done, len(series), f"{instrument.venue} {kind} {instrument.symbol}")
    return {name: _one_each(name, found) for name, found in frames.items()}


def find_archives(folder: Path, settings: Market) -> list[ArchiveFile]:
    """List the files of the configured symbols below `folder`, by name.

    Raises:
        DataError: if `folder` is not there.
    """
    if not folder.is_dir():
        raise DataError(f"archive folder {folder} is not there", do="check the path")
    wanted: dict[tuple[str, str, str], Instrument] = {
        (venue.id, venue.kind, _market_id(symbol)): Instrument(venue.id, symbol, asset, venue.kind)
        for venue in settings.venues
        for asset, symbol in venue.symbols.items()
    }
    found = []
    for path in sorted(folder.rglob("*.zip")):
        match = _FILE.search(path.as_posix())
        instrument = match and wanted.get((*_VENUES[match["market"]], match["sym"]))
        if match and instrument:
            since, until = _days(match["date"], path)
            found.append(ArchiveFile(path, match["kind"], instrument, since, until))
    return found


def _market_id(symbol: str) -> str:
    return symbol.split(":")[0].replace("/", "")


def _days(text: str, path: Path) -> tuple[date, date]:
    try:
        since = date.fromisoformat(text if len(text) == 10 else f"{text}-01")
    except ValueError:
        raise DataError(f"{path.name} has no date in its name", got=text) from None
    if len(text) == 10:
        return since, since + timedelta(days=1)
    return since, (since + timedelta(days=32)).replace(day=1)


def _metrics(files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    """Return hourly snapshots; blank values are missing rows, of a repeated instant the last counts."""
    shifted = {file.path: file.since >= RELABELLED for file in files}
    raw = read_zips([file.path for file in files], _COLUMNS["metrics"])
    time = raw.instants("create_time")
    numbers = raw.numbers("sum_open_interest", "sum_open_interest_value")
    late = pl.Series(raw.per_row(lambda path: shifted[path]))
    frame = numbers.select(
        ts=pl.when(late).then(time + METRICS_STEP).otherwise(time),
        oi_base="sum_open_interest",
        oi_usd="sum_open_interest_value",
        unit_source=pl.lit(COINS_AND_USD),
    )
    hourly = frame.filter(pl.col("ts") == pl.col("ts").dt.truncate("1h"), pl.col("oi_base").is_not_null())
    return interest_table(hourly, instrument, delay)


def _klines(files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    raw = read_zips([file.path for file in files], _COLUMNS["klines"])
    prices = raw.numbers("open", "high", "low", "close", "volume")
    return bars_table(prices.with_columns(ts=raw.instants("open_time")), instrument, delay)


def _funding(files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    raw = read_zips([file.path for file in files], _COLUMNS["fundingRate"])
    numbers = raw.numbers("last_funding_rate", "funding_interval_hours")
    # payments carry some milliseconds beside their hour
    hour = raw.instants("calc_time").dt.round("1h")
    frame = numbers.select(ts=hour, rate="last_funding_rate", interval_h="funding_interval_hours")
    return funding_table(frame.drop_nulls(), instrument, delay)


_PARSERS: Mapping[str, Callable[[Sequence[ArchiveFile], Instrument, timedelta], pl.DataFrame]] = {
    "metrics": _metrics,
    "klines": _klines,
    "fundingRate": _funding,
}


def _one_each(name: str, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of all series by key, of a repeated key the one from the later file."""
    spec = table(name)
    empty = pl.DataFrame(schema={**spec.columns, "available_at": spec.schema["available_at"]})
    rows = pl.concat([conform(empty, spec, stamps=False), *frames])
    return rows.unique(spec.key, keep="last", maintain_order=True).sort(spec.key)
