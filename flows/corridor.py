"""What every flow does at its head: settings, its instant, its lease, and the runs that died holding that lease."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from oihedge.config import ROOT, Config, effective_as_of, load
from oihedge.core.errors import OihedgeError, VenueError
from oihedge.core.hashing import digest
from oihedge.core.protocols import Progress, silent
from oihedge.jobs.lease import lease

WAIT_S = 120.0
"""How long a flow waits for another process at the same work before it fails as busy."""
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
_progress: ContextVar[Progress] = ContextVar("progress", default=silent)


@dataclass(frozen=True)
class Visit:
    """One run of a flow: its settings and the instant it works at."""

    config: Config
    as_of: datetime


@contextmanager
def enter(
    name: str,
    *,
    overrides: Sequence[str],
    experiment: str | None,
    home: str | None,
    as_of: datetime | None,
    wait_s: float | None = None,
) -> Iterator[Visit]:
    """Load the settings once, take the lease `name` and declare dead what died holding it.

    The instant is `as_of`, else the settings' own, else this run's scheduled time: never the wall clock.

    Raises:
        ConfigError: for settings that are wrong.
        BusyError: if another live process is at the same work.
    """
    config = load(overrides, experiment=experiment, home=Path(home) if home else ROOT)
    instant = effective_as_of(config, as_of, plain_instant(runtime.flow_run.scheduled_start_time))
    patience = WAIT_S if wait_s is None else wait_s
    with lease(config, name, doing=f"flow run {runtime.flow_run.name}", wait_s=patience), _claim(config, name, instant):
        get_run_logger().info("%s as of %s (%s)", name, instant.isoformat(), config.run.label)
        yield Visit(config, instant)


def plain_instant(instant: datetime) -> datetime:
    """Return Prefect's kind of instant as the standard library's: their differences do not divide by a timedelta."""
    utc = instant.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, tzinfo=UTC)


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Send the progress of the flows called inside the block to `progress`."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def progress(done: int, total: int, what: str, lane: str = "") -> None:
    """Tell whoever listens (see `telling`) how far the work is; `lane` names which of several works side by side."""
    if lane:
        _progress.get()(done, total, what, lane)
    else:
        _progress.get()(done, total, what)


def begin(what: str) -> None:
    """Tell whoever listens that a step begins whose length is not known."""
    progress(0, 0, what)


def outside_world(_task: Any, _run: Any, state: Any) -> bool:
    """Say that a failed task is worth a retry: only what the outside world did is."""
    return isinstance(state.result(raise_on_failure=False), VenueError)


def lease_tag(config: Config, name: str) -> str:
    """Return the tag that a run carries exactly as long as it holds the lease `name` of this home."""
    return f"lease:{name}:{digest(str(config.path(config.run.data)), 8)}"


@contextmanager
def _claim(config: Config, name: str, instant: datetime) -> Iterator[None]:
    """Name this run after its instant and tag it as the holder of the lease.

    Whoever else still runs under that tag is dead: the kernel gave us its lease.
    """
    run_id = runtime.flow_run.id
    if run_id is None:
        yield
        return
    with get_client(sync_client=True) as client:
        for dead in bury(client, lease_tag(config, name)):
            get_run_logger().warning("run %s died without a word and is now marked Crashed", dead)
        tags = set(client.read_flow_run(run_id).tags)
        called = f"{runtime.flow_run.flow_name} {instant:%Y-%m-%dT%H:%M}"
        client.update_flow_run(run_id, name=called, tags=tags | {lease_tag(config, name)})
        try:
            yield
        finally:
            client.update_flow_run(run_id, tags=tags)


def bury(client: SyncPrefectClient, tag: str) -> list[str]:
    """Set Crashed every run that is still Running under `tag`; return their names.

    Only for the holder of that lease: without it a run found here may be alive.
    """
    states = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    dead = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=states))
    )
    for run in dead:
        client.set_flow_run_state(run.id, Crashed(message="its process died; the lease it held was free"), force=True)
        client.update_flow_run(run.id, tags=set(run.tags) - {tag})
    return [run.name for run in dead]


def drain() -> None:
    """Send the log lines that are still queued, before the server they are for is stopped."""
    for name in _RUN_LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.flush()


class OneLine(logging.Filter):
    """Keep the traceback of an expected error out of the logs: its one line says all there is to say."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Strip the traceback from `record` if it is of an oihedge error; pass everything."""
        if record.exc_info and isinstance(record.exc_info[1], OihedgeError):
            record.exc_info = None
        return True


for _logger in _RUN_LOGGERS:
    logging.getLogger(_logger).addFilter(OneLine())
