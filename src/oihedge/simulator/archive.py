"""Bulk files of the simulated past, in Binance Vision's layout and formats.

What the venues' REST no longer serves (Binance keeps 30 days of open interest) anyone gets from these archives; the
embedded market writes its own, so that importing years works the same way in the demo and with the real files.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import polars as pl

from oihedge.core.clock import require_utc
from oihedge.core.errors import ConfigError
from oihedge.core.hashing import code_version, digest
from oihedge.core.protocols import Progress, silent
from oihedge.simulator.crowd import day_ratios
from oihedge.simulator.market import DAY, EmbeddedMarket

PERP, SPOT = "binanceusdm", "binance"
START_LABELS = date(2026, 6, 25)
"""From this day on a metrics row's create_time is the start of its 5 minutes, before it was the end."""
SPOT_MICROSECONDS = date(2025, 1, 1)
MARK = "SIMULATED.json"
"""Beside the files: says that they are simulated, and by which settings and code."""
_CLOCK = tuple(f"{hour:02d}:{minute:02d}:00" for hour in range(24) for minute in range(0, 60, 5))
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _File:
    path: str
    make: Callable[[], bytes]


def write_archives(
    market: EmbeddedMarket, folder: Path, *, start: datetime, end: datetime, progress: Progress = silent
) -> list[Path]:
    """Write the zip files that hold [start, end), each with its `.CHECKSUM`, as Binance Vision lays them out.

    Daily metrics (open interest every 5 minutes), monthly 1 h klines of perps and spot, monthly funding rates; the
    klines of a month that `end` cuts come as daily files, its funding not at all (there are no daily ones). Only whole
    files of the past are written: nothing at or after `end`. Same market, same bytes; a file that is right is kept.

    Args:
        market: the simulated market.
        folder: root under which `futures/um/...` and `spot/...` are laid.
        start: first instant wanted; files begin at its day or month, but not before the market's origin.
        end: where the archive stops, usually now.
        progress: told after each file.

    Returns:
        Every zip that holds part of the window, oldest first within its kind, written now or before.

    Raises:
        ConfigError: for an empty window, or a folder that cannot be written.
    """
    start, end = max(require_utc(start, "start"), market.origin), require_utc(end, "end")
    if start >= end:
        raise ConfigError("the archive's window is empty", expected="start before end", got=f"{start} to {end}")
    files = [*_metrics_files(market, start, end), *_monthly_files(market, start, end)]
    fingerprint = digest([market.settings.model_dump(mode="json"), code_version("")])
    try:
        known = _fingerprint(folder) == fingerprint
        paths = []
        for done, file in enumerate(files):
            path = folder / file.path
            if not (known and _intact(path)):
                _write(path, file.make())
            paths.append(path)
            progress(done + 1, len(files), path.name)
        _replace(folder / MARK, json.dumps({"simulated": True, "settings_and_code": fingerprint}).encode() + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write archives to {folder}: {error.strerror}", do="choose another folder") from error
    return paths


def _fingerprint(folder: Path) -> str | None:
    try:
        found = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("settings_and_code") if isinstance(found, dict) else None


def _intact(path: Path) -> bool:
    """Whether the zip is there and its checksum file says so."""
    try:
        return _checksum(path, path.read_bytes()) == path.with_name(path.name + ".CHECKSUM").read_text()
    except OSError:
        return False


def _checksum(path: Path, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.exists() and path.read_bytes() == content):
        _replace(path, content)
    _replace(path.with_name(path.name + ".CHECKSUM"), _checksum(path, content).encode())


def _replace(path: Path, content: bytes) -> None:
    """Write atomically: a killed run leaves no half file under a real name."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _zipped(name: str, text: bytes) -> bytes:
    """Return a zip with one csv, the same bytes whenever it is made."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo(f"{name}.csv", _EPOCH)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, text, zipfile.ZIP_DEFLATED, 1)
    return out.getvalue()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _metrics_files(market: EmbeddedMarket, start: datetime, end: datetime) -> Iterator[_File]:
    """One file per day and symbol, for the days over before `end`; days outside, so that a day's grid is made once."""
    if PERP not in market.settings.perps:
        return
    day = _midnight(start.date())
    while day + DAY <= end:
        for asset in market.assets:
            name = f"{asset}USDT-metrics-{day:%Y-%m-%d}"
            yield _File(
                f"futures/um/daily/metrics/{asset}USDT/{name}.zip",
                lambda asset=asset, day=day, name=name: _zipped(name, _metrics(market, asset, day)),  # type: ignore[misc]
            )
        day += DAY


def _monthly_files(market: EmbeddedMarket, start: datetime, end: datetime) -> Iterator[_File]:
    """Klines of both markets by month, or by day where `end` cuts the month, and funding rates by month."""
    kinds = [(kind, place) for kind, place, venues in (
        ("perp", "futures/um", market.settings.perps), ("spot", "spot", market.settings.spots)
    ) if {"perp": PERP, "spot": SPOT}[kind] in venues]  # fmt: skip
    for asset in market.assets:
        for kind, place in kinds:
            for first, stop, period, label in _periods(start, end):
                name = f"{asset}USDT-1h-{label}"
                yield _File(
                    f"{place}/{period}/klines/{asset}USDT/1h/{name}.zip",
                    lambda a=asset, k=kind, f=first, s=stop, n=name: _zipped(n, _klines(market, a, k, f, s)),  # type: ignore[misc]
                )
        for first, stop, period, label in _periods(start, end):
            if period == "monthly" and PERP in market.settings.perps:
                name = f"{asset}USDT-fundingRate-{label}"
                yield _File(
                    f"futures/um/monthly/fundingRate/{asset}USDT/{name}.zip",
                    lambda a=asset, f=first, s=stop, n=name: _zipped(n, _funding(market, a, f, s)),  # type: ignore[misc]
                )


def _periods(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, str, str]]:
    """Yield (first, stop, `monthly` or `daily`, label) of the files that hold [start, end)."""
    month = _midnight(start.date().replace(day=1))
    while month < end:
        following = _midnight((month + timedelta(days=32)).date().replace(day=1))
        if following <= end:
            yield month, following, "monthly", f"{month:%Y-%m}"
        else:
            day = max(month, _midnight(start.date()))
            while day + DAY <= end:
                yield day, day + DAY, "daily", f"{day:%Y-%m-%d}"
                day += DAY
        month = following


def _metrics(market: EmbeddedMarket, asset: str, day: datetime) -> bytes:
    """The 288 snapshots after `day`'s midnight up to the next; ratios are drawn around the crowding of that moment."""
    step = timedelta(minutes=5)
    oi = market.open_interest(asset, PERP, day + step, day + DAY, step="5m")
    ratios = day_ratios(market, asset, PERP, day)
    frame = {
        "create_time": _labels(day.date()),
        "symbol": [f"{asset}USDT"] * oi.height,
        "sum_open_interest": oi["oi_base"],
        "sum_open_interest_value": oi["oi_usd"],
        "count_toptrader_long_short_ratio": ratios["top_accounts"],
        "sum_toptrader_long_short_ratio": ratios["top_positions"],
        "count_long_short_ratio": ratios["accounts"],
        "sum_taker_long_short_vol_ratio": ratios["taker_volume"],
    }
    return _csv(pl.DataFrame(frame), header=True)


def _labels(day: date) -> list[str]:
    """The create_time of the day's 288 rows, by the convention of its date."""
    if day >= START_LABELS:
        return [f"{day} {clock}" for clock in _CLOCK]
    return [*(f"{day} {clock}" for clock in _CLOCK[1:]), f"{day + DAY} {_CLOCK[0]}"]


def _klines(market: EmbeddedMarket, asset: str, kind: str, first: datetime, stop: datetime) -> bytes:
    """Hourly klines of one month or day: perps with a header in ms, spot without one, in us since 2025."""
    spot = kind == "spot"
    rows = market.bars(asset, SPOT if spot else PERP, "spot" if spot else "perp", first, stop)
    micro = spot and first.date() >= SPOT_MICROSECONDS
    unit = 1 if micro else 1000
    opened = pl.col("ts").dt.epoch("us") // unit
    mean = (pl.col("open") + pl.col("high") + pl.col("low") + pl.col("close")) / 4
    taker = 0.5 + (pl.col("close") / pl.col("open")).log().clip(-0.02, 0.02) * 5
    frame = rows.select(
        opened.alias("open_time"), "open", "high", "low", "close", "volume",
        (opened + 3_600_000_000 // unit - 1).alias("close_time"),
        (pl.col("volume") * mean).round(4).alias("quote_volume"),
        (pl.col("volume") * mean / 2500).ceil().cast(pl.Int64).alias("count"),
        (pl.col("volume") * taker).round(4).alias("taker_buy_volume"),
        (pl.col("volume") * taker * mean).round(4).alias("taker_buy_quote_volume"),
        pl.lit(0).alias("ignore"),
    )  # fmt: skip
    return _csv(frame, header=not spot)


def _funding(market: EmbeddedMarket, asset: str, first: datetime, stop: datetime) -> bytes:
    rows = market.funding(asset, PERP, first, stop - timedelta(microseconds=1))
    frame = rows.select(
        pl.col("ts").dt.epoch("ms").alias("calc_time"),
        pl.col("interval_h").cast(pl.Int64).alias("funding_interval_hours"),
        pl.col("rate").map_elements(lambda rate: f"{rate:.8f}", return_dtype=pl.String).alias("last_funding_rate"),
    )
    return _csv(frame, header=True)


def _csv(frame: pl.DataFrame, *, header: bool) -> bytes:
    return frame.write_csv(include_header=header).encode()
