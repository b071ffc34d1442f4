"""Fetch every source that is on, all at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from pydantic import SecretStr

from oihedge.core.errors import OihedgeError
from oihedge.core.protocols import Progress, silent
from oihedge.core.tables import table
from oihedge.market.inputs.keyed import KEYED
from oihedge.market.inputs.keyless import KEYLESS
from oihedge.market.inputs.settings import Inputs, InputSource, SourceName
from oihedge.market.inputs.source import Source
from oihedge.market.web import Web

SOURCES: Mapping[SourceName, Source] = {source.name: source for source in (*KEYLESS, *KEYED)}


@dataclass(frozen=True)
class FetchedSource:
    """What one source gave: rows of its table (without ingested_at), and what failed, one line each."""

    source: str
    table: str
    rows: pl.DataFrame
    failures: tuple[str, ...]


def key_name(source: str) -> str:
    """Return the environment variable that holds a source's key."""
    return f"OIHEDGE_{source.upper()}_KEY"


def usable(settings: Inputs, keys: Mapping[str, SecretStr]) -> tuple[list[Source], list[str]]:
    """Split what the settings name into sources to ask and one line for each that is off.

    Args:
        settings: the sources.
        keys: by source; those without one are off.
    """
    on, off = [], []
    for name, told in settings.sources.items():
        if not told.use:
            off.append(f"{name} is off in the settings (market.inputs.sources.{name}.use)")
        elif SOURCES[name].needs_key and name not in keys:
            off.append(f"{name} is off: it needs a key in the environment, {key_name(name)}")
        else:
            on.append(SOURCES[name])
    return on, off


def fetch_sources(
    sources: list[Source],
    settings: Inputs,
    *,
    start: Callable[[Source], datetime],
    end: datetime,
    now: datetime,
    keys: Mapping[str, SecretStr],
    base_url: str | None = None,
    progress: Progress = silent,
) -> list[FetchedSource]:
    """Fetch the daily values of `sources` that were known at `now`.

    Args:
        sources: from `usable`.
        settings: what to ask each for.
        start: first day, per source.
        end: where days stop, excluded.
        now: the instant we stand at.
        keys: by source.
        base_url: a loopback server that speaks for all of them below /inputs/NAME, instead of the sources.
        progress: told after every source.

    Returns:
        One entry a source, in order; a source that fails is an entry without rows, and never an exception.
    """
    if not sources:
        return []

    def one(source: Source) -> FetchedSource:
        told = settings.sources[source.name]
        url = told.url if base_url is None else f"{base_url}/inputs/{source.name}"
        return _fetch(source, told, settings, url, keys.get(source.name), start(source), end, now)

    found: list[FetchedSource] = []
    with ThreadPoolExecutor(len(sources)) as pool:
        for done, fetched in enumerate(pool.map(one, sources), 1):
            found.append(fetched)
            progress(done, len(sources), fetched.source)
    return found


def _fetch(
    source: Source,
    told: InputSource,
    settings: Inputs,
    url: str,
    key: SecretStr | None,
    start: datetime,
    end: datetime,
    now: datetime,
) -> FetchedSource:
    spec = table(source.table)
    rows = [pl.DataFrame(schema={**spec.columns, "available_at": spec.schema["available_at"]})]
    failures: list[str] = []
    headers = source.header(key.get_secret_value()) if source.header and key else {}
    try:
        with Web(source.name, url, settings.patience, headers=headers, pace_s=told.pace_s) as web:
            for part in source.fetch(web, told, start, end, now):
                if isinstance(part, OihedgeError):
                    failures.append(str(part))
                else:
                    rows.append(part)
    except OihedgeError as error:
        failures.append(str(error))
    return FetchedSource(source.name, source.table, pl.concat(rows).sort(spec.key), tuple(failures))
