"""The ways in which a venue's answer can be broken, each made into a `Fault` for a `faults.Rule`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from oihedge.simulator.faults import Fault, Reply, Rule

PAGE = b"<html><body>We are under maintenance</body></html>"
_NAMES = {"symbol", "s", "coin", "instId", "contract", "ticker", "market", "product_id", "instrument_name", "pair"}


def refused(status: int, retry_after: str | float | None = None, body: bytes = b"") -> Fault:
    """Answer with a status: 429 (too many), 418 (banned), 500, 502, 503; `retry_after` in seconds or as a date."""
    more = {} if retry_after is None else {"retry-after": str(retry_after)}
    return lambda right: Reply(status, body, _kept(right) | {"content-type": "text/plain"} | more)


def page(status: int = 200) -> Fault:
    """Answer with an HTML page, as during maintenance."""
    return lambda right: Reply(status, PAGE, _kept(right) | {"content-type": "text/html"})


def maintenance(start: datetime, length: timedelta, where: str = "") -> Rule:
    """Return the rule of a maintenance window: every answer in it is an HTML page with status 503."""
    return Rule(where, page(503), times=None, during=(start, start + length))


def slow(seconds: float) -> Fault:
    """Answer rightly, but late."""
    return lambda right: replace(right, wait_s=seconds)


def truncated(share: float = 0.5) -> Fault:
    """End the body early, with a length that fits: broken JSON in a whole answer."""
    return lambda right: replace(right, body=right.body[: int(len(right.body) * share)])


def reset(share: float = 0.5) -> Fault:
    """Drop the connection in the middle of the body."""
    return lambda right: replace(right, cut=share)


def skewed(seconds: float, now: datetime) -> Fault:
    """Say in the Date header that it is `seconds` later than `now`."""
    date = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
    return lambda right: replace(right, headers=right.headers | {"date": date})


def empty() -> Fault:
    """Leave the rows out."""
    return _rewritten(lambda rows: [])


def duplicated() -> Fault:
    """Send the first half of the rows twice."""
    return _rewritten(lambda rows: [*rows, *rows[: (len(rows) + 1) // 2]])


def unsorted() -> Fault:
    """Send every second row first."""
    return _rewritten(lambda rows: [*rows[1::2], *rows[::2]])


def spoiled(value: Any, column: str | int, every: int = 7) -> Fault:
    """Put `value` (`NaN`, a word, null, a negative number) in one column of every seventh row, the first one included.

    Args:
        value: what is written instead of the number; a float NaN becomes the bare word, as some venues send it.
        column: key of a row that is an object, place in one that is a list.
        every: how many rows apart.
    """

    def spoil(rows: list[Any]) -> list[Any]:
        for row in rows[::every]:
            row[column] = value
        return rows

    return _rewritten(spoil)


def wrong_symbol(name: str) -> Fault:
    """Speak of another symbol wherever the answer names one."""

    def fault(right: Reply) -> Reply:
        return replace(right, body=json.dumps(_renamed(json.loads(right.body), name)).encode())

    return fault


def _kept(right: Reply) -> dict[str, str]:
    return {name: value for name, value in right.headers.items() if name == "date"}


def _renamed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {
            key: name if key in _NAMES and isinstance(part, str) else _renamed(part, name)
            for key, part in value.items()
        }
    return [_renamed(part, name) for part in value] if isinstance(value, list) else value


def _rewritten(change: Callable[[list[Any]], list[Any]]) -> Fault:
    """Change the rows of an answer, wherever the venue puts them."""

    def fault(right: Reply) -> Reply:
        answer = json.loads(right.body)
        if isinstance(answer, list):
            return replace(right, body=json.dumps(change(answer)).encode())
        holder, key = _rows(answer)
        holder[key] = change(holder[key])
        return replace(right, body=json.dumps(answer).encode())

    return fault


def _rows(answer: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Find the list of rows in an answer: the list nearest to its root; returns what holds it, and its key."""
    level = [answer]
    while level:
        for part in level:
            for key, value in part.items():
                if isinstance(value, list):
                    return part, key
        level = [value for part in level for value in part.values() if isinstance(value, dict)]
    raise ValueError("the answer has no rows to break; let the rule's `where` name a path that has")
