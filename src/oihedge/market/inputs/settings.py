"""Settings of the other inputs and of downloads, filled from conf/market/inputs/ and conf/market/vision/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from oihedge.core.settings import Count, Positive, Settings

NotNegative = Annotated[float, Field(ge=0)]
SourceName = Literal[
    "coinmetrics", "alternative", "blockchain", "glassnode", "cryptoquant", "santiment", "lunarcrush"
]  # fmt: skip


class Patience(Settings):
    """How long a web service is waited for, and how much it may send."""

    timeout_s: Positive = 15.0
    attempts: Count = 4
    backoff_s: Positive = 0.5
    max_backoff_s: Positive = 20.0
    max_pause_s: Positive = 60.0
    """A service that asks for a longer pause than this (Retry-After) is given up for this run."""
    max_mb: Positive = 32.0
    """A longer answer is refused."""


def _web(url: str) -> str:
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise ValueError(f"url {url!r} is not safe, expected https://...")
    return url.rstrip("/")


class InputSource(Settings):
    """One source: what is asked of it, and when its value of a day could first be known."""

    use: bool
    url: str
    assets: dict[str, str]
    """Our asset to the source's name for it; `*` speaks of the whole market."""
    metrics: dict[str, str]
    """The source's metric to its unit, as rows carry it."""
    delay_h: NotNegative
    """Hours from the end of a day (UTC) until its value is taken as published."""
    history: Literal["as_published", "from_now"]
    """as_published: a value of the past is taken to be what was published then. from_now: the source changes its past
    (addresses get labelled later), so what is first seen today counts as known from today."""
    pace_s: NotNegative = 0.0
    """Least time between two requests."""
    parameters: dict[str, str] = Field(default_factory=dict)
    """Further fixed parameters of every request; never a key."""

    _url = field_validator("url")(_web)


class Inputs(Settings):
    """On-chain, sentiment and events: `oihedge inputs` always reads them, `oihedge ingest` if `enabled`."""

    enabled: bool = False
    events: Path = Path("conf/events")
    """Folder of *.yaml calendars that the user edits."""
    history_days: Count = 730
    """How far back a first fetch goes."""
    reread_days: Count = 14
    """How many days before the newest it has a fetch asks again, so that revisions are seen."""
    patience: Patience = Patience()
    sources: dict[SourceName, InputSource] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _told(self) -> Self:
        for name, source in self.sources.items():
            if source.use and not (source.assets and source.metrics):
                raise ValueError(f"sources.{name} is in use but names no assets or no metrics")
        return self


class Vision(Settings):
    """Where Binance Vision's archive files are downloaded from."""

    url: str = "https://data.binance.vision/data"
    concurrency: Count = 8
    patience: Patience = Patience(timeout_s=30.0, max_mb=512.0)

    _url = field_validator("url")(_web)
