"""Pages through a venue's history in windows of its own, and accepts only what stands up to a check.

ccxt's own paging silently moves the start, drops edge rows or returns one window, depending on the venue; here every
request has an explicit since and until and never spans more rows than the venue's cap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import ccxt

HOUR_MS = 3_600_000
JITTER_MS = 60_000
"""Payments are stamped up to some milliseconds beside their hour; anything further is another instant."""
EMPTY_MS = 24 * HOUR_MS
"""An empty stretch of payments this long is told as a gap."""

Row = tuple[float | int | None, ...]
"""The instant in ms, then the values."""
Ask = Callable[[int, int], Awaitable[list[Row]]]
"""Return the venue's rows with since <= instant < until (ms); what lies outside is dropped by the pager."""
Calls = Callable[[Callable[[], Awaitable[list[Row]]]], Awaitable[list[Row]]]
"""Runs one request under the retry policy."""


@dataclass(frozen=True)
class Span:
    """Instants in ms, `until` excluded."""

    since: int
    until: int


@dataclass(frozen=True)
class Page:
    """Accepted rows by rising instant, and the spans for which the venue sent none."""

    rows: list[Row] = field(default_factory=list)
    missing: list[Span] = field(default_factory=list)


def spans(since: int, until: int, width: int) -> list[Span]:
    """Split [since, until) into spans of at most `width` ms."""
    return [Span(at, min(at + width, until)) for at in range(since, until, width)]


async def read_grid(ask: Ask, calls: Calls, since: int, until: int, cap: int, step: int = HOUR_MS) -> Page:
    """Read rows that stand on a time grid: bars and snapshots.

    A window in which instants are missing is asked for once more; what stays missing is told, not invented.

    Args:
        ask: one request.
        calls: the retry policy around it.
        since: first instant, ms.
        until: end, ms, excluded.
        cap: most rows per request.
        step: the grid, ms.

    Raises:
        ccxt.BadResponse: when a venue keeps sending instants off the grid or two values for one instant.
    """
    since = -(-since // step) * step

    async def window(span: Span) -> Page:
        async def once() -> list[Row]:
            return checked(await ask(span.since, span.until), span, step)

        expected = (span.until - span.since + step - 1) // step
        rows = await calls(once)
        if len(rows) < expected:
            again = await calls(once)
            rows = again if len(again) >= len(rows) else rows
        return Page(rows, _holes([int(row[0] or 0) for row in rows], span, step))

    return _joined(await asyncio.gather(*(window(span) for span in spans(since, until, cap * step))))


async def read_events(ask: Ask, calls: Calls, since: int, until: int, cap: int, usual_step: int) -> Page:
    """Read payments, whose interval differs by symbol and changes over time.

    A full page may hide more rows than the cap, so its window is halved and asked for again.

    Raises:
        ccxt.BadResponse: when a venue keeps sending two values for one payment or instants beside the hour.
    """

    async def window(span: Span) -> Page:
        splits = span.until - span.since > HOUR_MS

        async def once() -> list[Row]:
            # jitter may put a payment a little before or after its hour: look a minute around
            found = await ask(span.since - JITTER_MS, span.until + JITTER_MS)
            if splits and len(found) >= cap:
                return found
            return checked([(_on_hour(row[0]), *row[1:]) for row in found], span, HOUR_MS)

        rows = await calls(once)
        if not rows and span.until - span.since >= EMPTY_MS:
            rows = await calls(once)
        if splits and len(rows) >= cap:
            middle = span.since + max(1, (span.until - span.since) // 2 // HOUR_MS) * HOUR_MS
            return _joined(await asyncio.gather(window(Span(span.since, middle)), window(Span(middle, span.until))))
        return Page(rows, [span] if not rows and span.until - span.since >= EMPTY_MS else [])

    width = max(1, cap - 2) * usual_step
    return _joined(await asyncio.gather(*(window(span) for span in spans(since, until, width))))


def checked(rows: Sequence[Row], span: Span, step: int) -> list[Row]:
    """Return the rows of `span` by rising instant, each once.

    Raises:
        ccxt.BadResponse: for an instant off the grid, two different rows for one instant, or a missing value.
    """
    kept: dict[int, Row] = {}
    for row in rows:
        if row[0] is None or row[1] is None:
            raise ccxt.BadResponse(f"a row lacks its instant or value: {row!r}")
        at = int(row[0])
        if not span.since <= at < span.until:
            continue
        if at % step:
            raise ccxt.BadResponse(f"instant {at} ms is off the grid of {step} ms")
        if kept.setdefault(at, row) != row:
            raise ccxt.BadResponse(f"two different rows for instant {at} ms")
    return [kept[at] for at in sorted(kept)]


def _on_hour(stamp: float | int | None) -> int:
    at = int(stamp or 0)
    nearest = (at + HOUR_MS // 2) // HOUR_MS * HOUR_MS
    if abs(at - nearest) > JITTER_MS:
        raise ccxt.BadResponse(f"payment at {at} ms is not on an hour")
    return nearest


def _holes(instants: Sequence[int], span: Span, step: int) -> list[Span]:
    holes, expected = [], span.since
    for at in [*instants, -(-span.until // step) * step]:
        if at > expected:
            holes.append(Span(expected, at))
        expected = at + step
    return holes


def _joined(pages: Sequence[Page]) -> Page:
    rows = [row for page in pages for row in page.rows]
    missing: list[Span] = []
    for span in (span for page in pages for span in page.missing):
        if missing and missing[-1].until == span.since:
            missing[-1] = Span(missing[-1].since, span.until)
        else:
            missing.append(span)
    return Page(rows, missing)
