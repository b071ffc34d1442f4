"""Pages through a venue's history in windows of its own, and accepts only what stands up to a check.

ccxt's own paging silently moves the start, drops edge rows or returns one window, depending on the venue; here every
request has an explicit since and until and never spans more rows than the venue's cap.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import ccxt
import numpy as np

from oihedge.market.dialects.answers import Answer, Instants, Unreadable, readable
from oihedge.market.rows import JITTER_MS

HOUR_MS = 3_600_000
EMPTY_MS = 24 * HOUR_MS
"""An empty stretch of payments this long is told as a gap."""
MOST_PAGES = 1000
WHOLE = 12
"""An answer of at least so many rows of which not one can be read is of another shape, not a venue's bad hour."""

Ask = Callable[[int, int], Awaitable[Answer]]
"""Return the venue's rows with since <= instant < until (ms); what lies outside is dropped by the pager."""
Calls = Callable[[Callable[[], Awaitable[Answer]]], Awaitable[Answer]]
"""Runs one request under the retry policy."""


@dataclass(frozen=True)
class Span:
    """Instants in ms, `until` excluded."""

    since: int
    until: int


@dataclass(frozen=True)
class Page:
    """Accepted rows by rising instant, the spans for which the venue sent none, and those of rows without numbers."""

    rows: Answer
    missing: list[Span] = field(default_factory=list)
    unread: list[Span] = field(default_factory=list)


def spans(since: int, until: int, width: int) -> list[Span]:
    """Split [since, until) into spans of at most `width` ms."""
    return [Span(at, min(at + width, until)) for at in range(since, until, width)]


async def read_grid(ask: Ask, calls: Calls, since: int, until: int, cap: int, step: int = HOUR_MS) -> Page:
    """Read rows that stand on a time grid: bars and snapshots.

    A window in which instants are missing is asked for once more; what stays missing is told, not invented. So is what
    no attempt could read.

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
        async def once() -> Answer:
            return readable(checked(await ask(span.since, span.until), span, step))

        expected = (span.until - span.since + step - 1) // step
        rows = await at_last(calls, once)
        if rows.size + rows.unread.size < expected:
            rows = _both(await at_last(calls, once), rows, span, step)
        return grid_page(rows, span, step)

    return _joined(await asyncio.gather(*(window(span) for span in spans(since, until, cap * step))))


async def read_events(ask: Ask, calls: Calls, since: int, until: int, cap: int, usual_step: int) -> Page:
    """Read payments, whose interval differs by symbol and changes over time.

    A full page may hide more rows than the cap, so its window is halved and asked for again. A window with a day or
    more without a payment is asked for once more; such stretches are told where they stay, before the series began too.

    Raises:
        ccxt.BadResponse: when a venue keeps sending two values for one payment or instants beside the hour.
    """

    async def window(span: Span) -> Page:
        splits = span.until - span.since > HOUR_MS

        async def once() -> Answer:
            # jitter may put a payment a little before or after its hour: look a minute around
            found = await ask(span.since - JITTER_MS, span.until + JITTER_MS)
            if overflows(found):
                return found
            return readable(checked(on_hour(found), span, HOUR_MS))

        def overflows(found: Answer) -> bool:
            return splits and found.size + found.unread.size >= cap

        rows = await at_last(calls, once)
        if not overflows(rows) and unpaid(rows, span):
            again = await at_last(calls, once)
            rows = again if overflows(again) else _both(again, rows, span, HOUR_MS)
        if overflows(rows):
            middle = span.since + max(1, (span.until - span.since) // 2 // HOUR_MS) * HOUR_MS
            return _joined(await asyncio.gather(window(Span(span.since, middle)), window(Span(middle, span.until))))
        return Page(rows)

    width = max(1, cap - 2) * usual_step
    rows = _joined(await asyncio.gather(*(window(span) for span in spans(since, until, width)))).rows
    return _paid(rows, Span(since, until))


async def read_numbered(ask: Callable[[int], Awaitable[Answer]], calls: Calls, since: int, until: int) -> Page:
    """Read payments from a venue that numbers its pages, newest first, until one reaches past `since`.

    Raises:
        ccxt.BadResponse: as `read_events`, or when the pages do not go further back.
    """
    found: list[Answer] = []
    oldest = sys.maxsize
    for page in range(1, MOST_PAGES):
        rows = await at_last(calls, partial(_numbered, ask, page))
        if not rows.seen.size:
            break
        if int(rows.seen.min()) >= oldest:
            raise ccxt.BadResponse("page after page, the venue sends the same payments")
        oldest = int(rows.seen.min())
        found.append(rows)
        if oldest <= since:
            break
    return _paid(checked(joined(found), Span(since, until), HOUR_MS), Span(since, until))


async def _numbered(ask: Callable[[int], Awaitable[Answer]], page: int) -> Answer:
    return readable(on_hour(await ask(page)))


async def at_last(calls: Calls, once: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the rows of `once` under the retry policy; what no attempt could read stays `unread` in them.

    Raises:
        Unreadable: for WHOLE rows or more without one that can be read.
    """
    try:
        return await calls(once)
    except Unreadable as error:
        if not error.rest.size and error.rest.unread.size >= WHOLE:
            raise
        return error.rest


def checked(found: Answer, span: Span, step: int) -> Answer:
    """Return the rows of `span` by rising instant, each once; of an instant of `unread` none counts.

    Raises:
        ccxt.BadResponse: for an instant off the grid, or two different rows for one instant.
    """
    within = (found.at >= span.since) & (found.at < span.until)
    rows = found if within.all() else found[within]
    if found.unread.size:
        unread = np.unique(found.unread[(found.unread >= span.since) & (found.unread < span.until)])
        rows = replace(rows[~np.isin(rows.at, unread)], unread=unread)
    if (rows.seen % step).any():
        raise ccxt.BadResponse(f"instant {rows.seen[rows.seen % step != 0][0]} ms is off the grid of {step} ms")
    steps = np.diff(rows.at)
    if (steps > 0).all():
        return rows
    if (steps < 0).all():  # newest first, as many venues send them
        return rows[::-1]
    rows = rows[np.argsort(rows.at, kind="stable")]
    repeated = np.concatenate([[False], np.diff(rows.at) == 0])
    before = rows[np.flatnonzero(repeated) - 1]
    if not np.array_equal(rows[repeated].values, before.values, equal_nan=True):
        raise ccxt.BadResponse(f"two different rows for instant {rows.at[repeated][0]} ms")
    return rows[~repeated]


def on_hour(found: Answer) -> Answer:
    """Return payments moved onto the hour they stand beside, their own instant in ms as one more column.

    Raises:
        ccxt.BadResponse: for one that is further from it than a minute.
    """
    values = np.column_stack([found.values, found.at])
    return replace(found, at=_nearest(found.at), values=values, unread=_nearest(found.unread))


def _nearest(at: Instants) -> Instants:
    nearest = (at + HOUR_MS // 2) // HOUR_MS * HOUR_MS
    far = np.abs(at - nearest) > JITTER_MS
    if far.any():
        raise ccxt.BadResponse(f"payment at {at[far][0]} ms is not on an hour")
    return nearest


def holes(instants: Sequence[int], span: Span, step: int) -> list[Span]:
    """Return the spans of the grid in which none of `instants` stands."""
    found, expected = [], span.since
    for at in [*instants, -(-span.until // step) * step]:
        if at > expected:
            found.append(Span(expected, at))
        expected = at + step
    return found


def unpaid(rows: Answer, span: Span) -> list[Span]:
    """Return the stretches of `span` of a day or more in which no payment stands."""
    found = [Span(hole.since, min(hole.until, span.until)) for hole in holes(rows.seen.tolist(), span, HOUR_MS)]
    return [hole for hole in found if hole.until - hole.since >= EMPTY_MS]


def grid_page(rows: Answer, span: Span, step: int) -> Page:
    """Return the rows of a window as a page that tells what is missing and what could not be read."""
    whole = rows.size == (span.until - span.since + step - 1) // step
    return Page(rows, [] if whole else holes(rows.seen.tolist(), span, step), _stood(rows, step))


def _paid(rows: Answer, span: Span) -> Page:
    return Page(rows, unpaid(rows, span), _stood(rows, HOUR_MS))


def _stood(rows: Answer, step: int) -> list[Span]:
    return _merged([Span(at, at + step) for at in rows.unread.tolist()])


def _both(again: Answer, before: Answer, span: Span, step: int) -> Answer:
    """Return what either answer has, since neither need have all; where both could be read, the later counts."""
    rows = joined([again, before[~np.isin(before.at, again.at)]])
    return checked(replace(rows, unread=np.setdiff1d(rows.unread, rows.at)), span, step)


def joined(answers: Sequence[Answer]) -> Answer:
    """Return the rows of all answers, one after the other."""
    if not answers:
        return Answer(np.empty(0, np.int64), np.empty((0, 0)))
    return Answer(
        np.concatenate([one.at for one in answers]),
        np.concatenate([one.values for one in answers]),
        np.concatenate([one.unread for one in answers]),
        next((one.fault for one in answers if one.fault), ""),
    )


def _joined(pages: Sequence[Page]) -> Page:
    missing = _merged([span for page in pages for span in page.missing])
    unread = _merged([span for page in pages for span in page.unread])
    return Page(joined([page.rows for page in pages]), missing, unread)


def _merged(found: Sequence[Span]) -> list[Span]:
    """Return spans by rising instant with those joined that touch."""
    merged: list[Span] = []
    for span in found:
        if merged and merged[-1].until == span.since:
            merged[-1] = Span(merged[-1].since, span.until)
        else:
            merged.append(span)
    return merged
