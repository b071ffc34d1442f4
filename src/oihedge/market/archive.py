"""Binance Vision archive files: the way anyone gets years of open interest.

Layout below a folder, as the public bucket has it (with or without its leading `data/`):
`futures/um/daily/metrics/SYM`, `futures/um/{monthly,daily}/KIND/SYM/1h` with KIND one of klines, markPriceKlines,
indexPriceKlines, premiumIndexKlines, `futures/um/monthly/fundingRate/SYM`, `spot/{monthly,daily}/klines/SYM/1h`. Every
zip stands beside its `.CHECKSUM`; files get replaced at the source, so a zip without a matching one is refused. So is
one whose content is not what its name says: another CSV, other columns, another symbol, other days or bars.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from oihedge.core.clock import require_utc
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import conform, table
from oihedge.core.types import Instrument
from oihedge.market.rows import COINS_AND_USD, JITTER_MS, bars_table, funding_table, interest_table
from oihedge.market.settings import Market
from oihedge.market.zips import Zipped, read_zips

RELABELLED = date(2026, 6, 25)
"""From this day's metrics file on, a row labelled T is the snapshot at T + 5 min (binance-public-data issue 491)."""
METRICS_STEP = timedelta(minutes=5)
BARS: Mapping[str, str | None] = {
    "klines": None,
    "markPriceKlines": "mark",
    "indexPriceKlines": "index",
    "premiumIndexKlines": "premium",
}
"""Kinds of archive with bars, and the kind their rows carry; None: that of the market, perp or spot. The premium index
is around 0 and may be negative: its rows carry 1 + it, which is a price's kind of number."""
KINDS = ("metrics", *BARS, "fundingRate")
USUAL = ("metrics", "klines", "fundingRate")
STEPS: Mapping[str, timedelta] = {"1h": timedelta(hours=1), "1m": timedelta(minutes=1)}
_FILE = re.compile(
    rf"(?P<market>futures/um|spot)/(?P<every>daily|monthly)/(?P<kind>{'|'.join(KINDS)})/(?P<sym>[A-Z0-9_]+)/"
    r"(?:(?P<step>1h|1m)/)?(?P=sym)-(?P<label>1h|1m|metrics|fundingRate)-(?P<date>\d{4}-\d{2}(?:-\d{2})?)\.zip$"
)
_VENUES = {"futures/um": ("binanceusdm", "perp"), "spot": ("binance", "spot")}
_RATIOS = {
    "accounts": "count_long_short_ratio",
    "top_accounts": "count_toptrader_long_short_ratio",
    "top_positions": "sum_toptrader_long_short_ratio",
}
"""Not the taker ratio: here it is one of five minutes, over REST one of an hour, and both would share a key."""
_METRICS = (
    "create_time", "symbol", "sum_open_interest", "sum_open_interest_value", "count_toptrader_long_short_ratio",
    "sum_toptrader_long_short_ratio", "count_long_short_ratio", "sum_taker_long_short_vol_ratio",
)  # fmt: skip
_KLINES = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_FUNDING = ("calc_time", "funding_interval_hours", "last_funding_rate")
_USED = 7
"""Of a file's columns, how many from the first are read."""
_TABLES = ("ohlcv", "open_interest", "funding", "long_short")


@dataclass(frozen=True)
class ArchiveFile:
    """One zip: what it holds and the days it covers, `until` excluded."""

    path: Path
    kind: str
    instrument: Instrument
    since: date
    until: date


def read_archives(
    folder: Path,
    settings: Market,
    *,
    start: datetime,
    end: datetime,
    kinds: Sequence[str] = USUAL,
    timeframe: str = "1h",
    progress: Progress = silent,
) -> dict[str, pl.DataFrame]:
    """Read the archive files of the configured Binance symbols.

    Args:
        folder: local copy of the bucket, or a part of it.
        settings: which symbols to take, and the venues' delays: rows are available as a live run would have had them.
        start: first ts, included.
        end: end of the span, excluded.
        kinds: which of KINDS.
        timeframe: of the bars, 1h or 1m; of both only that one is read.
        progress: told after every series of files.

    Returns:
        Rows of ohlcv, open_interest and long_short (the snapshots on the hour) and funding with start <= ts < end.

    Raises:
        ConfigError: if the span is empty, or for a kind or timeframe there is none of.
        DataError: if there is no file for the span, or one is damaged; it is named.
    """
    start, end = require_utc(start, "start"), require_utc(end, "end")
    if start >= end:
        raise ConfigError("the archive span is empty", expected="start before end", got=f"{start} .. {end}")
    check_choice(kinds, timeframe)
    delays: dict[tuple[str, str], timedelta] = {
        (venue.id, venue.kind): timedelta(seconds=venue.delay_s) for venue in settings.venues
    }
    series: dict[tuple[str, Instrument], list[ArchiveFile]] = defaultdict(list)
    for file in find_archives(folder, settings, kinds=kinds, timeframe=timeframe):
        # a day of metrics ends with the next day's midnight, and a shifted one begins 5 minutes late
        if file.since <= end.date() and file.until + timedelta(days=1) > start.date():
            series[file.kind, file.instrument].append(file)
    if not series:
        raise DataError(
            f"{folder} has no archive file of {', '.join(kinds)} between {start:%F} and {end:%F}",
            do=f"see {__name__} for the layout",
        )
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in _TABLES}
    for done, ((kind, instrument), files) in enumerate(sorted(series.items(), key=lambda item: str(item[0])), 1):
        delay = delays[instrument.venue, instrument.kind]
        for name, rows in _read(kind, files, instrument, delay, timeframe).items():
            frames[name].append(rows.filter(pl.col("ts").is_between(start, end, closed="left")))
        progress(done, len(series), f"{instrument.venue} {kind} {instrument.symbol}")
    return {name: _one_each(name, found) for name, found in frames.items()}


def check_choice(kinds: Sequence[str], timeframe: str) -> None:
    """Refuse kinds and timeframes that there are none of.

    Raises:
        ConfigError: naming the first.
    """
    strange = [kind for kind in kinds if kind not in KINDS]
    if strange or not kinds:
        got = repr(strange[0]) if strange else "none"
        raise ConfigError("unknown kind of archive", expected=f"of {', '.join(KINDS)}", got=got)
    if timeframe not in STEPS:
        raise ConfigError("unknown timeframe of archives", expected=" or ".join(STEPS), got=repr(timeframe))


def find_archives(
    folder: Path, settings: Market, *, kinds: Sequence[str] = USUAL, timeframe: str = "1h"
) -> list[ArchiveFile]:
    """List the files of the configured symbols below `folder`, by name.

    Raises:
        DataError: if `folder` is not there.
    """
    if not folder.is_dir():
        raise DataError(f"archive folder {folder} is not there", do="check the path")
    wanted = instruments(settings)
    found = []
    for path in sorted(folder.rglob("*.zip")):
        match = _FILE.search(path.as_posix())
        instrument = match and wanted.get((match["market"], match["sym"]))
        if match and instrument and match["kind"] in kinds and _fits(match, timeframe):
            since, until = _days(match["date"], path)
            found.append(ArchiveFile(path, match["kind"], instrument, since, until))
    return found


def _fits(match: re.Match[str], timeframe: str) -> bool:
    """Tell whether a file is of that timeframe; metrics come by day only, for their labels moved on a certain day."""
    if match["kind"] == "metrics":
        return match["every"] == "daily" and len(match["date"]) == len("2025-01-01")
    return match["kind"] not in BARS or match["label"] == timeframe


def instruments(settings: Market) -> dict[tuple[str, str], Instrument]:
    """Return the configured Binance instruments by (futures/um or spot, Binance's symbol)."""
    places = {venue: place for place, venue in _VENUES.items()}
    return {
        (places[venue.id, venue.kind], symbol.split(":")[0].replace("/", "")): Instrument(
            venue.id, symbol, asset, venue.kind
        )
        for venue in settings.venues
        if (venue.id, venue.kind) in places
        for asset, symbol in venue.symbols.items()
    }


def _days(text: str, path: Path) -> tuple[date, date]:
    try:
        since = date.fromisoformat(text if len(text) == 10 else f"{text}-01")
    except ValueError:
        raise DataError(f"{path.name} has no date in its name", got=text) from None
    if len(text) == 10:
        return since, since + timedelta(days=1)
    return since, (since + timedelta(days=32)).replace(day=1)


def _read(
    kind: str, files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta, timeframe: str
) -> dict[str, pl.DataFrame]:
    if kind == "metrics":
        return _metrics(files, instrument, delay)
    if kind == "fundingRate":
        return {"funding": _funding(files, instrument, delay)}
    return {"ohlcv": _klines(files, replace(instrument, kind=BARS[kind] or instrument.kind), delay, timeframe)}


def _metrics(files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta) -> dict[str, pl.DataFrame]:
    """Return hourly snapshots; blank values are missing rows, of a repeated instant the last counts."""
    raw, told = _read_files(files, _METRICS)
    raw.refuse("symbol", raw.frame["symbol"], raw.frame["symbol"].str.strip_chars() != told["symbol"], "the file's own")
    # a day's labels are 00:05 to the next midnight, or since they moved 00:00 to 23:55; the oldest begin at 00:00 too
    time = _within(raw, "create_time", told, METRICS_STEP)
    late = told["since"] >= RELABELLED
    ts = pl.select(pl.when(late).then(time + METRICS_STEP).otherwise(time)).to_series().alias("ts")
    on_hour = ts == ts.dt.truncate("1h")
    interest = raw.numbers("sum_open_interest", "sum_open_interest_value").select(
        ts,
        oi_base="sum_open_interest",
        oi_usd="sum_open_interest_value",
        unit_source=pl.lit(COINS_AND_USD),
    )
    hourly = interest.filter(on_hour, pl.col("oi_base").is_not_null())
    return {
        "open_interest": interest_table(hourly, instrument, delay),
        "long_short": _crowd(raw, ts, on_hour, instrument, delay),
    }


def _read_files(files: Sequence[ArchiveFile], columns: Sequence[str]) -> tuple[Zipped, pl.DataFrame]:
    """Return the rows of all files, and for each what its file's name says: number, symbol, since and until."""
    raw = read_zips([file.path for file in files], columns, _USED)
    told = pl.DataFrame(
        {
            "file": range(len(files)),
            "symbol": [file.path.name.partition("-")[0] for file in files],
            "since": [file.since for file in files],
            "until": [file.until for file in files],
        }
    )
    return raw, raw.per_row(told)


def _within(raw: Zipped, name: str, told: pl.DataFrame, grace: timedelta = timedelta(0)) -> pl.Series:
    """Return a time column, all of whose instants lie within their file's days, or by `grace` beside them."""
    time = raw.instants(name)
    days = told.select(pl.col("since", "until").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    beside = (time < days["since"] - grace) | (time >= days["until"] + grace)
    raw.refuse(name, raw.frame[name], beside, "a time within the days that the file's name tells")
    return time


def _crowd(raw: Zipped, ts: pl.Series, on_hour: pl.Series, instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    ratios = raw.numbers(*_RATIOS.values()).select(ts, **_RATIOS).filter(on_hour)
    long = ratios.unpivot(index="ts", variable_name="measure", value_name="ratio").drop_nulls("ratio")
    named = {"venue": instrument.venue, "symbol": instrument.symbol, "asset": instrument.asset}
    stamped = long.with_columns(available_at=pl.col("ts") + delay, **{k: pl.lit(v) for k, v in named.items()})
    return conform(stamped, table("long_short"), stamps=False)


def _klines(files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta, timeframe: str) -> pl.DataFrame:
    """Return bars; the index and the premium have no volume, for which the files say 0."""
    raw, told = _read_files(files, _KLINES)
    ts = _within(raw, "open_time", told)
    _refuse_other_bars(raw, told, ts, STEPS[timeframe])
    prices = raw.numbers("open", "high", "low", "close", "volume")
    if instrument.kind not in ("perp", "spot"):
        prices = prices.with_columns(volume=pl.lit(None, dtype=pl.Float64))
    if instrument.kind == "premium":
        prices = prices.with_columns(pl.col("open", "high", "low", "close") + 1.0)
    frame = prices.with_columns(ts=ts)
    known = pl.col("ts") + STEPS[timeframe] + delay
    return bars_table(frame, instrument, delay, timeframe).with_columns(available_at=known)


def _refuse_other_bars(raw: Zipped, told: pl.DataFrame, opened: pl.Series, step: timedelta) -> None:
    """Refuse bars longer than `step`, and shorter ones of files where most of several are.

    Some that were cut short there are: Binance closed them where it went down in 2018 (binance-public-data issue 77);
    of that day's file one may be all there is.
    """
    length = raw.instants("close_time") - opened
    whole = length.is_between(step - timedelta(milliseconds=1), step, closed="left")
    most = pl.when(pl.len().over("file") > 1).then(pl.col("whole").mean().over("file")).otherwise(1.0)
    share = told.select("file", whole=whole).select(most).to_series()
    wrong = (length < timedelta(0)) | (length >= step) | (~whole & (share < 0.5))
    raw.refuse("close_time", raw.frame["close_time"], wrong, f"the end of a bar of {step}")


def _funding(files: Sequence[ArchiveFile], instrument: Instrument, delay: timedelta) -> pl.DataFrame:
    raw, told = _read_files(files, _FUNDING)
    numbers = raw.numbers("last_funding_rate", "funding_interval_hours")
    # payments carry some milliseconds beside their hour
    time = _within(raw, "calc_time", told, timedelta(milliseconds=JITTER_MS))
    hour = time.dt.round("1h")
    far = (time - hour).abs() > timedelta(milliseconds=JITTER_MS)
    raw.refuse("calc_time", raw.frame["calc_time"], far, "a time within a minute of its hour")
    frame = numbers.select(ts=hour, paid_at=time, rate="last_funding_rate", interval_h="funding_interval_hours")
    return funding_table(frame.drop_nulls(), instrument, delay)


def _one_each(name: str, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of all series by key, of a repeated key the one from the later file."""
    spec = table(name)
    empty = pl.DataFrame(schema={**spec.columns, "available_at": spec.schema["available_at"]})
    rows = pl.concat([conform(empty, spec, stamps=False), *frames])
    return rows.unique(spec.key, keep="last", maintain_order=True).sort(spec.key)
