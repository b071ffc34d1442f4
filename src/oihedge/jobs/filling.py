"""Work through chunks, all venues side by side, oldest first within each; every chunk is written before it counts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event

from oihedge.core.errors import VenueError
from oihedge.core.protocols import Progress
from oihedge.market.plan import Chunk
from oihedge.market.read import Fetched

Ask = Callable[[Chunk, Progress], Fetched]
"""Fetches one chunk; called from a thread of its venue."""
Land = Callable[[Chunk, Fetched], int]
"""Writes what came and returns its rows; called from one thread, one chunk at a time."""


class _Stopped(Exception):
    """The work ends before this venue was through."""


@dataclass
class _Lane:
    """One venue's way through its chunks, and its figures so far."""

    name: str
    waiting: deque[Chunk]
    began: float
    total: int = 0
    days: int = 0
    rows: int = 0
    calls: int = 0
    planned: int = 0
    """Calls that the finished chunks were to take; with `ahead` it tells the time left."""
    ahead: int = field(default=0)

    def told(self, chunk: Chunk, fetched: Fetched, rows: int) -> str:
        """Take a finished chunk into the figures and say how it goes."""
        self.days += len(chunk.days)
        self.rows, self.calls = self.rows + rows, self.calls + fetched.calls
        self.planned, self.ahead = self.planned + chunk.calls, self.ahead - chunk.calls
        elapsed = time.monotonic() - self.began
        left = timedelta(seconds=round(elapsed * self.ahead / max(1, self.planned)))
        pace = self.rows / max(elapsed, 1e-3)
        return f"{chunk.label}: {self.rows:,} rows, {pace:,.0f} rows/s, {self.calls:,} calls, {left} left"


def work_through(chunks: Sequence[Chunk], ask: Ask, land: Land, progress: Progress) -> list[str]:
    """Ask for every chunk and land it; a venue that cannot be read stops, the others go on.

    A venue has one chunk under way while the one before is written, so memory does not grow with the work.

    Returns:
        One line for each venue that stopped early.
    """
    lanes = _lanes(chunks)
    failures: list[str] = []
    stop = Event()

    def heard(done: int, total: int, what: str, lane: str = "") -> None:
        if stop.is_set():
            raise _Stopped

    pool = ThreadPoolExecutor(max(1, len(lanes)), thread_name_prefix="backfill")
    under_way: dict[Future[Fetched], tuple[_Lane, Chunk]] = {}

    def next_of(lane: _Lane) -> None:
        if lane.waiting:
            chunk = lane.waiting.popleft()
            under_way[pool.submit(ask, chunk, heard)] = (lane, chunk)

    try:
        for lane in lanes:
            progress(0, lane.total, "", lane=lane.name)
            next_of(lane)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                lane, chunk = under_way.pop(future)
                try:
                    fetched = future.result()
                except VenueError as error:
                    failures.append(f"{lane.name} stopped at {chunk.label}: {error}")
                    continue
                if not _given_up(fetched):
                    next_of(lane)
                text = lane.told(chunk, fetched, land(chunk, fetched))
                progress(lane.days, lane.total, text, lane=lane.name)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return failures


def _given_up(fetched: Fetched) -> bool:
    """Whether the venue asked to be left alone: the chunks after this one would ask it again at once."""
    return any("is given up for this run" in failure for failure in fetched.failures)


def _lanes(chunks: Sequence[Chunk]) -> list[_Lane]:
    by_venue: dict[str, deque[Chunk]] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.start):
        by_venue.setdefault(f"{chunk.venue.id} {chunk.venue.kind}", deque()).append(chunk)
    now = time.monotonic()
    return [
        _Lane(name, mine, now, total=sum(len(one.days) for one in mine), ahead=sum(one.calls for one in mine))
        for name, mine in by_venue.items()
    ]
