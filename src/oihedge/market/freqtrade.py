"""freqtrade's data folders (`user_data/data/EXCHANGE`, with its `futures/`) as rows of ohlcv and funding."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from oihedge.core.clock import EARLIEST, LATEST, iso
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import UTC_TIME, conform, table
from oihedge.core.types import Instrument
from oihedge.market.files import DAMAGED, Tell, gunzipped, once, refuse_wild
from oihedge.market.rows import JITTER_MS, bars_table, funding_table, with_intervals
from oihedge.market.settings import Market

STEPS = {"1h": timedelta(hours=1), "1m": timedelta(minutes=1)}
_FILE = re.compile(
    r"(?P<base>[A-Za-z0-9]+)_(?P<quote>[A-Z0-9]+)(?:_(?P<settle>[A-Z0-9]+))?-(?P<step>\d+[mhdwM])"
    r"(?:-(?P<candle>futures|mark|index|funding_rate))?\.(?P<form>feather|json|json\.gz)"
)
_COLUMNS = ("date", "open", "high", "low", "close", "volume")
_PERPS = {"binance": "binanceusdm"}
_SPOTS = {"binanceusdm": "binance"}
_USUAL_DELAY_S, _USUAL_INTERVAL_H = 5.0, 8.0
MOST_BYTES, MOST_JSON_BYTES = 2**30, 2**26
"""Of a file; JSON, which is parsed whole, takes many times its size of memory."""


@dataclass(frozen=True)
class _File:
    path: Path
    form: str
    kind: str
    """spot, perp, mark, index or funding."""
    instrument: Instrument


def read_freqtrade(
    folder: Path,
    settings: Market,
    *,
    venue: str,
    timeframe: str = "1h",
    tell: Tell = lambda _: None,
    progress: Progress = silent,
) -> dict[str, pl.DataFrame]:
    """Read every pair that lies in a freqtrade data folder.

    `BTC_USDT-1h.feather` is spot; `futures/BTC_USDT_USDT-1h-futures`, `-mark`, `-index` are bars of the perp
    `BTC/USDT:USDT`, `-funding_rate` its payments, whatever their own timeframe. feather, json and json.gz.

    Args:
        folder: of one exchange.
        settings: for the venues' delays.
        venue: ccxt's id of that exchange; spot of binanceusdm is binance's, and the other way round.
        timeframe: of the bars to take, 1h or 1m.
        tell: receives one line where rows of a file had to be left out.
        progress: told after every file.

    Returns:
        Rows of ohlcv and funding with available_at, sorted by key.

    Raises:
        ConfigError: for a venue that ccxt does not know, or another timeframe.
        DataError: if the folder is not there or holds no such file, or one is damaged; it is named.
    """
    if timeframe not in STEPS:
        raise ConfigError("unknown timeframe of bars", expected=" or ".join(STEPS), got=repr(timeframe))
    _check_venue(venue)
    if not folder.is_dir():
        raise DataError(f"freqtrade folder {folder} is not there", do="check the path")
    files = sorted(_files(folder, venue, timeframe), key=lambda file: str(file.path))
    if not files:
        raise DataError(
            f"{folder} holds no freqtrade file of {timeframe} bars or funding",
            expected="names like BTC_USDT-1h.feather or futures/BTC_USDT_USDT-1h-futures.feather",
        )
    delays: dict[tuple[str, str], float] = {(one.id, one.kind): one.delay_s for one in settings.venues}
    bars: list[pl.DataFrame] = []
    paid: dict[Instrument, list[pl.DataFrame]] = defaultdict(list)
    for done, file in enumerate(files, 1):
        frame = once(_read(file), ("ts",), _COLUMNS[1:], "last", file.path.name, tell)
        frame = _priced(frame, file, tell)
        if file.kind == "funding":
            paid[file.instrument].append(_on_the_hour(frame, file))
        else:
            bars.append(_bars(frame, file, timeframe, _delay(delays, file.instrument)))
        progress(done, len(files), file.path.name)
    funding = [_funding(pl.concat(frames), of, _delay(delays, of), tell) for of, frames in paid.items()]
    return {"ohlcv": _joined("ohlcv", bars, tell), "funding": _joined("funding", funding, tell)}


def _check_venue(venue: str) -> None:
    import ccxt  # takes seconds to import

    if venue not in ccxt.exchanges:
        near = ", ".join(get_close_matches(venue, ccxt.exchanges, n=3)) or "an id like binanceusdm or bybit"
        raise ConfigError(f"--venue {venue!r} is no exchange that ccxt knows", expected=near)


def _files(folder: Path, venue: str, timeframe: str) -> Iterator[_File]:
    for path in [*folder.iterdir(), *(folder / "futures").glob("*")]:
        match = _FILE.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        candle, settle = match["candle"], match["settle"]
        if (settle is None) != (candle is None) or (candle != "funding_rate" and match["step"] != timeframe):
            continue
        kind = {None: "spot", "futures": "perp", "funding_rate": "funding"}.get(candle, candle) or "spot"
        symbol = f"{match['base']}/{match['quote']}" + (f":{settle}" if settle else "")
        asset = re.sub(r"^10+(?=\D)", "", match["base"])  # 1000PEPE is PEPE
        of = (_SPOTS if settle is None else _PERPS).get(venue, venue)
        yield _File(path, match["form"], kind, Instrument(of, symbol, asset, "perp" if settle else "spot"))


def _delay(delays: dict[tuple[str, str], float], of: Instrument) -> timedelta:
    return timedelta(seconds=delays.get((of.venue, of.kind), _USUAL_DELAY_S))


def _read(file: _File) -> pl.DataFrame:
    """Return (ts, open, high, low, close, volume), sorted; rows of one ts in the file's order."""
    name = file.path.name
    try:
        most = MOST_BYTES if file.form == "feather" else MOST_JSON_BYTES
        if file.path.stat().st_size > most:
            raise DataError(
                f"{name} is too large", expected=f"at most {most} bytes", do="convert it to feather with freqtrade"
            )
        frame = _feather(file.path) if file.form == "feather" else _json(file)
    except DAMAGED as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{name} cannot be read: {why}", do="download it again with freqtrade") from None
    if frame.is_empty():
        return frame
    if frame["ts"].null_count() or not frame["ts"].is_between(EARLIEST, LATEST, closed="left").all():
        raise DataError(f"{name} has rows without a time", expected="dates in UTC, or ms since 1970")
    return frame.sort("ts", maintain_order=True)


def _feather(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:  # an open file, not a path: a memory map would outlive this call
        frame = pl.read_ipc(file)
    if missing := [column for column in _COLUMNS if column not in frame.columns]:
        raise ValueError(f"no column {missing[0]!r}")
    dated = frame.schema["date"]
    if not isinstance(dated, pl.Datetime):
        raise ValueError(f"column date holds {dated}")
    refuse_wild(frame["date"].drop_nulls(), "date", path)
    zoned = pl.col("date").dt.replace_time_zone("UTC") if dated.time_zone is None else pl.col("date")
    numbers = [pl.col(column).cast(pl.Float64).fill_nan(None) for column in _COLUMNS[1:]]
    return frame.select(zoned.dt.convert_time_zone("UTC").cast(UTC_TIME).alias("ts"), *numbers)


def _json(file: _File) -> pl.DataFrame:
    content = gunzipped(file.path, MOST_JSON_BYTES) if file.form == "json.gz" else file.path.read_bytes()
    rows = json.loads(content)
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(_COLUMNS) for row in rows):
        raise ValueError("not a list of [ms, open, high, low, close, volume]")
    strange = (bool, str, list, dict)
    if any(isinstance(value, strange) for row in rows for value in row):
        raise ValueError("a value is no number")
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    ts = pl.Series("ts", columns[0], dtype=pl.Float64).cast(pl.Int64) * 1000
    numbers = [
        pl.Series(name, values, dtype=pl.Float64, strict=False).fill_nan(None)
        for name, values in zip(_COLUMNS[1:], columns[1:], strict=True)
    ]
    return pl.DataFrame([ts.cast(UTC_TIME), *numbers])


def _priced(frame: pl.DataFrame, file: _File, tell: Tell) -> pl.DataFrame:
    """Leave out, and count, rows without a price or rate; they say nothing of their hour."""
    needed = ["open"] if file.kind == "funding" else ["open", "high", "low", "close"]
    kept = frame.drop_nulls(needed)
    if left := frame.height - kept.height:
        first = iso(frame.filter(pl.any_horizontal(pl.col(needed).is_null()))["ts"][0])
        tell(f"{file.path.name}: {left} rows without {' or '.join(needed)} left out, the first at {first}")
    return kept


def _bars(frame: pl.DataFrame, file: _File, timeframe: str, delay: timedelta) -> pl.DataFrame:
    step = STEPS[timeframe]
    if frame.height and (frame["ts"] != frame["ts"].dt.truncate(timeframe)).any():
        raise DataError(f"{file.path.name} has bars off the {timeframe} grid", do="convert it again with freqtrade")
    if file.kind in ("mark", "index"):
        frame = frame.with_columns(volume=pl.lit(None, dtype=pl.Float64))
    of = file.instrument
    named = Instrument(of.venue, of.symbol, of.asset, file.kind)
    rows = bars_table(frame, named, delay, timeframe)
    return rows.with_columns(available_at=pl.col("ts") + step + delay)


def _on_the_hour(frame: pl.DataFrame, file: _File) -> pl.DataFrame:
    """Return (ts, paid_at, rate): `open` holds the rate, stamps carry some milliseconds beside their hour."""
    hour = frame["ts"].dt.round("1h")  # of a stamp further away it would tell a rate before it was known
    beside = frame.filter((frame["ts"] - hour).abs() > timedelta(milliseconds=JITTER_MS))
    if beside.height:
        raise DataError(
            f"{file.path.name} has {beside.height} funding stamps beside their hour",
            expected=f"at most {JITTER_MS // 1000} s",
            got=iso(beside["ts"][0]),
        )
    return frame.select(hour, paid_at="ts", rate="open")


def _funding(frame: pl.DataFrame, of: Instrument, delay: timedelta, tell: Tell) -> pl.DataFrame:
    rates = once(frame.sort("ts", maintain_order=True), ("ts",), ("rate",), "last", f"funding {of.symbol}", tell)
    return funding_table(with_intervals(rates, _USUAL_INTERVAL_H), of, delay)


def _joined(name: str, frames: list[pl.DataFrame], tell: Tell) -> pl.DataFrame:
    spec = table(name)
    empty = pl.DataFrame(schema={**spec.columns, "available_at": spec.schema["available_at"]})
    rows = pl.concat([conform(empty, spec, stamps=False), *frames])
    return once(rows, spec.key, spec.values, "last", name, tell).sort(spec.key)
