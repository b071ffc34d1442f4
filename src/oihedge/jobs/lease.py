"""One live process per piece of work: a lease that the kernel drops when its holder dies, kill -9 included."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from oihedge.config import Config
from oihedge.core.errors import BusyError


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: the process, and what it says it is doing."""

    pid: int
    doing: str


@contextmanager
def lease(config: Config, name: str, *, doing: str, wait_s: float = 0) -> Iterator[None]:
    """Hold the lease `name` of this home for the length of the block.

    Args:
        config: whose home and data folder.
        name: the work, e.g. `ingest`; at most one process per home does it at a time.
        doing: how a process that finds it taken names this one.
        wait_s: how long to wait for another holder.

    Raises:
        BusyError: if another live process still holds it after `wait_s`; the message names that process.
    """
    folder = config.path(config.run.data) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock", timeout=wait_s)
    try:
        lock.acquire()
    except Timeout:
        holder = held_by(folder / f"{name}.json")
        who = f"process {holder.pid} ({holder.doing})" if holder else "another process"
        raise BusyError(
            f"{name} is already under way in {config.home}", do=f"{who} holds it: wait until it ends, or stop it"
        ) from None
    try:
        _sign(folder / f"{name}.json", Holder(os.getpid(), doing))
        yield
    finally:
        lock.release()


def held_by(note: Path) -> Holder | None:
    """Return who signed last; only a hint for messages, the lock alone decides."""
    try:
        return Holder(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _sign(note: Path, holder: Holder) -> None:
    fresh = note.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(holder)))
    fresh.replace(note)
