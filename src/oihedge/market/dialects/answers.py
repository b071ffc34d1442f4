"""What every dialect shares: a question, an answer as arrays, and reading that refuses what is no number or instant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from operator import itemgetter
from typing import Any

import ccxt
import numpy as np
import numpy.typing as npt
import polars as pl

from oihedge.core.clock import EARLIEST, LATEST
from oihedge.market.venues import RECENT_ROWS, STEPS

Floats = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]
BAR = ("open", "high", "low", "close", "volume")
NOW = ("rate", "interval_h", "pays_at", "mark_price", "index_price")
LEVEL = ("price", "size")
_ZULU = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z")
_FIRST_MS, _END_MS = (int(instant.timestamp()) * 1000 for instant in (EARLIEST, LATEST))


@dataclass(frozen=True)
class Query:
    """One request: rows of `market` (ccxt's structure) with since <= instant < until, in ms; at most `cap` of them."""

    market: Mapping[str, Any]
    since: int
    until: int
    cap: int
    timeframe: str
    now: int
    page: int = 1

    @property
    def id(self) -> str:
        """Return the venue's own name of the market."""
        return str(self.market["id"])

    @property
    def step(self) -> int:
        """Return the grid, in ms."""
        return STEPS[self.timeframe] // timedelta(milliseconds=1)

    @property
    def rows(self) -> int:
        """Return how many grid points the window has."""
        return -(-(self.until - self.since) // self.step)

    @property
    def is_old(self) -> bool:
        """Return whether the window begins before the venue's recent rows."""
        return self.since < self.now - (RECENT_ROWS - 1) * self.step

    @property
    def contract_size(self) -> float:
        """Return the coins in one contract."""
        return contract_size(self.market)


def _no_instants() -> Instants:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Answer:
    """Rows of one answer: instants (n,) in ms, values (n, k) with NaN for what may be missing and is.

    `unread` are the instants of rows in which no number stood where one belongs, `fault` tells the first of them.
    """

    at: Instants
    values: Floats
    unread: Instants = field(default_factory=_no_instants)
    fault: str = ""

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self.at.size)

    @property
    def seen(self) -> Instants:
        """Return the instants of all rows that came, read or not; where `at` rises, so do they."""
        return np.union1d(self.at, self.unread) if self.unread.size else self.at

    def __getitem__(self, chosen: Any) -> Answer:
        """Return the chosen rows, and all that were not read."""
        return replace(self, at=self.at[chosen], values=self.values[chosen])


class Unreadable(ccxt.BadResponse):  # type: ignore[misc]
    """Some rows hold no number where one belongs; `rest` are the others, and the instants of these."""

    def __init__(self, rest: Answer) -> None:
        super().__init__(rest.fault)
        self.rest = rest


def readable(found: Answer) -> Answer:
    """Return `found` if every row of it could be read.

    Raises:
        Unreadable: otherwise; it carries what could.
    """
    if found.unread.size:
        raise Unreadable(found)
    return found


@dataclass(frozen=True)
class Dialect:
    """`ask` makes a request's parameters, `read` turns the decoded body into rows whose columns are `names`.

    Where an offer names two methods, `read` gets the list of both bodies.
    """

    ask: Callable[[Query], dict[str, Any]]
    read: Callable[[Any, Query], Answer]
    names: tuple[str, ...]


def numbers(values: Sequence[Any], *, blanks: bool = False) -> Floats:
    """Return finite numbers from JSON numbers or their text; None and "" become NaN where `blanks` may be.

    Raises:
        ccxt.BadResponse: for anything else, NaN and infinities included.
    """
    if blanks and any(value is None or value == "" for value in values):
        present = np.array([value not in (None, "") for value in values], dtype=bool)
        out = np.full(len(values), np.nan)
        out[present] = numbers([value for value in values if value not in (None, "")])
        return out
    try:
        # All texts in one pass: quicker than float(), which also takes "1_0" and " 1".
        found = _read(pl.Series(values, dtype=pl.String))
    except TypeError:  # not all are texts
        kinds = set(map(type, values))
        if not kinds <= {str, int, float}:
            odd = next(value for value in values if type(value) not in (str, int, float))
            raise ccxt.BadResponse(f"expected a number, got {str(odd)[:40]!r}") from None
        found = _read(pl.Series(list(map(str, values)), dtype=pl.String)) if str in kinds else _floats(values)
    except (UnicodeError, OverflowError) as error:
        raise ccxt.BadResponse(f"expected a number: {error}") from None
    if not np.isfinite(found).all():
        raise ccxt.BadResponse("expected finite numbers, got NaN or infinity")
    return found


def _floats(values: Sequence[Any]) -> Floats:
    try:
        return np.fromiter(map(float, values), np.float64, len(values))
    except OverflowError as error:
        raise ccxt.BadResponse(f"expected a number: {error}") from None


def _read(texts: pl.Series) -> Floats:
    found = texts.cast(pl.Float64, strict=False)
    if found.null_count():
        raise ccxt.BadResponse(f"expected a number, got {str(texts.filter(found.is_null())[0])[:40]!r}")
    return found.to_numpy()


def instants(values: Sequence[Any], unit_ms: int = 1) -> Instants:
    """Return whole counts of `unit_ms` since the epoch as ms.

    Raises:
        ccxt.BadResponse: for what is no whole number, or outside the years 2009 to 2199.
    """
    counts = numbers(values)
    if ((counts < _FIRST_MS / unit_ms) | (counts >= _END_MS / unit_ms)).any():
        raise ccxt.BadResponse("expected instants of the years 2009 to 2199")
    found = counts * unit_ms
    if (found != np.floor(found)).any():
        raise ccxt.BadResponse("expected whole instants")
    return found.astype(np.int64)


def iso_instants(values: Sequence[Any]) -> Instants:
    """Return texts such as 2025-01-01T00:00:00.000Z as ms.

    Raises:
        ccxt.BadResponse: for any other text, or outside the years 2009 to 2199.
    """
    for text in values:
        if not isinstance(text, str) or not _ZULU.fullmatch(text):
            raise ccxt.BadResponse(f"expected an instant such as 2025-01-01T00:00:00Z, got {str(text)[:40]!r}")
    try:
        found = np.array([text[:-1] for text in values], dtype="datetime64[ms]").astype(np.int64)
    except ValueError as error:
        raise ccxt.BadResponse(f"expected an instant: {error}") from None
    return instants(found.tolist())


def contract_size(market: Mapping[str, Any]) -> float:
    """Return the coins in one contract of `market` (ccxt's structure).

    Raises:
        ccxt.BadResponse: if the venue's list of markets does not say it.
    """
    size: Any = market.get("contractSize")
    if type(size) not in (int, float) or not 0 < size < math.inf:
        raise ccxt.BadResponse(f"expected a contractSize > 0 of {market.get('id')}, got {str(size)[:40]!r}")
    return float(size)


def table(
    rows: Any,
    at: int | str,
    picks: Sequence[int | str],
    *,
    width: int = 0,
    unit_ms: int = 1,
    blank: Sequence[int | str] = (),
) -> Answer:
    """Return columns `picks` of a list of rows, each a list or an object, with their instants in column `at`.

    Rows without names must have the `width` that the venue documents: in a shorter one columns may have moved. A row
    that holds no number in a column stays out, as one of the answer's `unread`.

    Raises:
        ccxt.BadResponse: for no list, or rows that lack a column or an instant.
    """
    rows = listed(rows)
    if not rows:
        return Answer(_no_instants(), np.empty((0, len(picks))))
    try:
        stamps, *found = columns(rows, (at, *picks), width)
    except (KeyError, IndexError, TypeError) as error:
        raise ccxt.BadResponse(f"a row of another shape: {type(error).__name__} {error}") from None
    stood = instants(stamps, unit_ms)
    blanks = [name in blank for name in picks]
    try:
        if any(blanks):
            values = [numbers(column, blanks=may) for column, may in zip(found, blanks, strict=True)]
        else:  # all at once
            values = np.split(numbers(list(chain.from_iterable(found))), len(picks))
    except ccxt.BadResponse as error:
        return _partly(stood, found, blanks, str(error))
    return Answer(stood, np.column_stack(values))


def _partly(at: Instants, found: Sequence[Sequence[Any]], blanks: Sequence[bool], fault: str) -> Answer:
    """Return the rows in which every column holds a number, and the instants of the others."""
    values = np.full((at.size, len(found)), np.nan)
    wrong = np.zeros(at.size, dtype=bool)
    for (n, column), may in zip(enumerate(found), blanks, strict=True):
        for row, value in enumerate(column):
            try:
                values[row, n] = numbers([value], blanks=may)[0]
            except ccxt.BadResponse:
                wrong[row] = True
    return Answer(at[~wrong], values[~wrong], at[wrong], fault)


def columns(rows: Sequence[Any], picks: Sequence[int | str], width: int) -> list[list[Any]]:
    """Return the picked columns; a row without names must be a list of at least `width` values.

    Raises:
        ccxt.BadResponse: for a shorter row.
        KeyError, IndexError, TypeError: for a row that lacks a column.
    """
    if width and (set(map(type, rows)) != {list} or min(map(len, rows)) < width):
        raise ccxt.BadResponse(f"expected rows of {width} columns")
    return [list(map(itemgetter(name), rows)) for name in picks]


def listed(rows: Any) -> list[Any]:
    """Return `rows`.

    Raises:
        ccxt.BadResponse: if it is no list.
    """
    if not isinstance(rows, list):
        raise ccxt.BadResponse(f"expected a list of rows, got {str(rows)[:60]!r}")
    return rows


def of_one(rows: Any, name: str, wanted: str) -> list[Any]:
    """Return `rows` once every one of them says that it is `wanted`.

    Raises:
        ccxt.BadResponse: naming another symbol that came.
    """
    for row in listed(rows):
        if not isinstance(row, dict) or row.get(name) != wanted:
            got = row.get(name) if isinstance(row, dict) else row
            raise ccxt.BadResponse(f"asked for {wanted}, answered with {str(got)[:40]}")
    return list(rows)


def the_one(rows: Any, name: str, wanted: str) -> dict[str, Any]:
    """Return the single row about `wanted`.

    Raises:
        ccxt.BadResponse: if there is none, or more, or of another symbol.
    """
    found = of_one(rows, name, wanted)
    if len(found) != 1:
        raise ccxt.BadResponse(f"expected one row about {wanted}, got {len(found)}")
    return dict(found[0])


def single(at: Any, *values: Any, blanks: bool = True) -> Answer:
    """Return one row about the present; `at` is the venue's own instant in ms, or None where it says none (0)."""
    stamp = instants([at]) if at is not None else np.zeros(1, np.int64)
    row = np.concatenate([numbers([value], blanks=blanks and n > 0) for n, value in enumerate(values)])
    return Answer(stamp, row.reshape(1, -1))


def _levels(rows: list[Any], price: int | str, size: int | str, width: int) -> Floats:
    found = columns(rows, (price, size), width) if rows else []
    return np.column_stack([numbers(column) for column in found]) if found else np.empty((0, 2))


def book(
    at: Any,
    bids: Any,
    asks: Any,
    price: int | str = 0,
    size: int | str = 1,
    contract: float = 1.0,
    *,
    width: int = 2,
) -> Answer:
    """Return an order book as rows (price, size), sizes in coins, negative for bids; each side from the best price on.

    Levels without names must have the `width` that the venue documents.

    Raises:
        ccxt.BadResponse: if a side is empty, not sorted, or the sides cross.
    """
    sides = []
    for rows, sign in ((bids, -1.0), (asks, 1.0)):
        levels = _levels(listed(rows), price, size, 0 if isinstance(price, str) else width)
        if not len(levels) or (levels <= 0).any() or (np.diff(levels[:, 0]) * sign < 0).any():
            raise ccxt.BadResponse("a side of the order book is empty, not sorted or not positive")
        sides.append(levels * (1.0, sign * contract))
    if sides[0][0, 0] >= sides[1][0, 0]:
        raise ccxt.BadResponse("the order book's sides cross")
    levels = np.concatenate(sides)
    stamp = instants([at])[0] if at is not None else 0
    return Answer(np.full(len(levels), stamp, np.int64), levels)
