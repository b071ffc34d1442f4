"""Binance Vision's files brought into a folder: verified, none fetched twice, a replaced one kept beside the new."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from oihedge.core.clock import require_utc
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.protocols import Progress, silent
from oihedge.market.archive import BARS, USUAL, check_choice, instruments
from oihedge.market.settings import Market
from oihedge.market.web import Web

DAY = timedelta(days=1)
MARK = "SIMULATED.json"
"""What the embedded market leaves beside its archive files; it must come along, so that no lake mixes the two."""
_SHA = re.compile(r"[0-9a-f]{64}")
_TRIES = 2


@dataclass
class Downloaded:
    """What became of the files of a span: paths below the folder."""

    fetched: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Already there with the hash that the source tells."""
    replaced: list[str] = field(default_factory=list)
    """There with another hash: the source has changed them. The file of before stays, its hash in its name."""
    missing: list[str] = field(default_factory=list)
    """What the source does not have."""


@dataclass(frozen=True)
class _Wanted:
    """A month's file, or the days' files in its place; without days there is no other."""

    monthly: str | None
    daily: tuple[str, ...]


def download(
    folder: Path,
    settings: Market,
    *,
    start: datetime,
    end: datetime,
    kinds: Sequence[str] = USUAL,
    timeframe: str = "1h",
    base_url: str | None = None,
    progress: Progress = silent,
) -> Downloaded:
    """Bring the files that hold [start, end) of the configured Binance symbols into `folder`, in the bucket's layout.

    Whole months come as monthly files, where there are none (metrics, a month not yet over) as daily ones. Run again,
    it continues where it stopped: a file with the hash of its `.CHECKSUM` at the source is not fetched again.

    Args:
        folder: where they go; made if it is not there.
        settings: symbols, and market.vision.
        start: first instant.
        end: end of the span, excluded, no later than now.
        kinds: which of archive.KINDS.
        timeframe: of the bars.
        base_url: a loopback server that serves the files below /vision, instead of market.vision.url.
        progress: told after every file or month.

    Raises:
        ConfigError: for an empty span, a kind or timeframe there is none of, no Binance symbol, or a folder that cannot
            be written.
        DataError: if a file does not have the hash that the source tells.
        VenueError: if the source cannot be read.
    """
    start, end = require_utc(start, "start"), require_utc(end, "end")
    if start >= end:
        raise ConfigError("the archive span is empty", expected="start before end", got=f"{start} .. {end}")
    check_choice(kinds, timeframe)
    wanted = list(_plan(settings, kinds, timeframe, start.date(), (end - timedelta(microseconds=1)).date()))
    if not wanted:
        raise ConfigError("there is nothing to download", expected="venue binanceusdm or binance in market.venues")
    told, done = settings.vision, Downloaded()
    url = told.url if base_url is None else f"{base_url}/vision"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Web("Binance Vision", url, told.patience) as web, ThreadPoolExecutor(told.concurrency) as pool:
            if url.startswith("http://127.") and (mark := web.file(f"/{MARK}")) is not None:
                _replace(folder / MARK, mark)
            tasks = [pool.submit(_bring, web, folder, one, done) for one in wanted]
            try:
                for count, (task, one) in enumerate(zip(tasks, wanted, strict=True), 1):
                    task.result()
                    progress(count, len(wanted), (one.monthly or one.daily[-1]).rsplit("/", 1)[-1])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except OSError as error:
        raise ConfigError(f"cannot write archives to {folder}: {error.strerror}", do="choose another folder") from None
    for paths in (done.fetched, done.kept, done.replaced, done.missing):
        paths.sort()
    return done


def _plan(settings: Market, kinds: Sequence[str], timeframe: str, first: date, last: date) -> Iterator[_Wanted]:
    """Name the files that hold the days first..last; metrics end with the next midnight, so begin a day before."""
    for (place, symbol), _ in sorted(instruments(settings).items(), key=lambda item: item[0]):
        for kind in kinds:
            if place == "spot" and kind != "klines":
                continue
            if kind == "metrics":
                days = _each(first - DAY, last)
                yield from (_Wanted(None, (_path(place, "daily", kind, symbol, "metrics", f"{d}"),)) for d in days)
                continue
            label = timeframe if kind in BARS else kind
            for month in sorted({day.replace(day=1) for day in _each(first, last)}):
                within = [day for day in _each(first, last) if day.replace(day=1) == month] if kind in BARS else []
                daily = tuple(_path(place, "daily", kind, symbol, label, f"{day}") for day in within)
                yield _Wanted(_path(place, "monthly", kind, symbol, label, f"{month:%Y-%m}"), daily)


def _each(first: date, last: date) -> Iterator[date]:
    yield from (first + n * DAY for n in range((last - first) // DAY + 1))


def _path(place: str, every: str, kind: str, symbol: str, label: str, when: str) -> str:
    step = f"{label}/" if kind in BARS else ""
    return f"{place}/{every}/{kind}/{symbol}/{step}{symbol}-{label}-{when}.zip"


def _bring(web: Web, folder: Path, wanted: _Wanted, done: Downloaded) -> None:
    if wanted.monthly is not None and _bring_file(web, folder, wanted.monthly, done):
        return
    brought = [_bring_file(web, folder, path, done) for path in wanted.daily]
    done.missing += [path for path, there in zip(wanted.daily, brought, strict=True) if not there]
    if not wanted.daily and wanted.monthly is not None:
        done.missing.append(wanted.monthly)


def _bring_file(web: Web, folder: Path, name: str, done: Downloaded) -> bool:
    """Fetch one file unless it is there; False where the source has none."""
    path = folder / name
    for attempt in range(_TRIES):
        note = web.file(f"/{name}.CHECKSUM")
        if note is None:
            return False
        told = _hash_in(note, name)
        before = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if before == told:
            _replace(_note(path), note)
            done.kept.append(name)
            return True
        content = web.file(f"/{name}")
        if content is not None and hashlib.sha256(content).hexdigest() == told:
            if before is not None:
                path.replace(path.with_name(f"{path.name}.replaced-{before[:12]}"))
            _replace(path, content)
            _replace(_note(path), note)
            (done.fetched if before is None else done.replaced).append(name)
            return True
        # the source may have replaced it between the two requests: its checksum is read once more
        if attempt + 1 == _TRIES:
            got = "no file" if content is None else hashlib.sha256(content).hexdigest()
            raise DataError(f"{name} is not what its checksum tells", expected=told, got=got, do="try again later")
    return False


def _hash_in(note: bytes, name: str) -> str:
    words = note.decode("utf8", errors="replace").lower().split()
    if not words or not _SHA.fullmatch(words[0]):
        raise DataError(f"{name}.CHECKSUM tells no sha256", do="try again later")
    return words[0]


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.CHECKSUM")


def _replace(path: Path, content: bytes) -> None:
    """Write atomically: a killed run leaves no half file under a real name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
