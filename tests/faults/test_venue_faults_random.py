"""Random answers, through real clients and through every reader: never a wrong row, never a silent loss."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta

import ccxt
import numpy as np
import pytest
from fakes.loopback_venue import Broken, LoopbackVenue, Reply
from fakes.market_settings import market, venue
from fakes.venue_payloads import MARKETS, PAYLOADS, T0, T1
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oihedge.core.errors import VenueError
from oihedge.market.dialects import dialect
from oihedge.market.dialects.answers import Answer, Query
from oihedge.market.pager import Span, checked
from oihedge.market.read import Fetched, fetch
from oihedge.market.retry import MALFORMED

NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
START = NOW - timedelta(hours=9)
BYBIT = market(venue("bybit", symbols={"BTC": "BTC/USDT:USDT"}), attempts=2, backoff_s=0.001, max_backoff_s=0.002)
TABLES = {"ohlcv": "market/kline", "open_interest": "market/open-interest", "funding": "funding/history"}
ODD = st.sampled_from([None, True, "NaN", "Infinity", "-inf", "1e999", "", " ", "abc", "1_0", [], {}, [[1]], {"a": 1}])
KEYS = st.sampled_from(["retCode", "result", "list", "symbol", "data", "code", "candles", "0"]) | st.text(max_size=4)
JSON = st.recursive(
    ODD | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def change(draw):
    """Return what happens to a right body: something that can be told from a right one, or changes no value."""
    kind = draw(
        st.sampled_from(["json", "bytes", "cut", "leaf", "drop", "repeat", "shuffle", "key", "symbol", "shift"])
    )
    at, odd, body = draw(st.integers(0, 10**6)), draw(ODD), draw(JSON if kind == "json" else st.binary(max_size=40))
    rows = draw(st.permutations(range(12)))
    return lambda right: _changed(kind, right, at, odd, body, rows)


def _changed(kind, right: bytes, at: int, odd, body, rows) -> bytes:
    if kind == "json":
        return json.dumps(body).encode()
    if kind == "bytes":
        return body
    if kind == "cut":
        return right[: at % len(right)]
    if kind == "symbol":
        return right.replace(b'"BTCUSDT"', b'"XRPUSDT"')
    answer = json.loads(right)
    if kind in ("leaf", "key"):
        found = list(leaves(answer))
        path = found[at % len(found)]
        holder = answer
        for key in path[:-1]:
            holder = holder[key]
        if kind == "leaf":
            holder[path[-1]] = odd
        else:
            del holder[path[-1]]
        return json.dumps(answer).encode()
    holder = next((inner for inner in lists(answer) if inner and isinstance(inner[0], list | dict)), None)
    if holder is None:
        return right
    if kind == "drop":
        del holder[at % len(holder)]
    elif kind == "repeat":
        holder.extend(copy.deepcopy(holder[: 1 + at % len(holder)]))
    elif kind == "shuffle":
        holder[:] = [holder[n] for n in rows if n < len(holder)]  # and may lose some
    else:
        holder.append(shifted(holder[at % len(holder)], 1 + at % 3_599_998))
    return json.dumps(answer).encode()


def shifted(row, by: int):
    """Return the row a little later, off the grid."""
    moved = copy.deepcopy(row)
    for key in [0] if isinstance(moved, list) else ("timestamp", "fundingRateTimestamp"):
        if (isinstance(moved, list) or key in moved) and float(moved[key]) > 1e9:  # an instant, no price
            moved[key] = str(int(moved[key]) + by)
    return moved


def leaves(value, path=()):
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    elif path:
        yield path


def lists(value):
    if isinstance(value, list):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from lists(inner)


@pytest.fixture(scope="module")
def loopback():
    with LoopbackVenue(int(NOW.timestamp() * 1000)) as served:
        yield served


@pytest.fixture(scope="module")
def right(loopback) -> dict[str, Fetched]:
    return {name: read(loopback, name) for name in TABLES}


def read(loopback, table: str) -> Fetched:
    return fetch(BYBIT, start=START, end=NOW, now=NOW, base_url=loopback.url, tables=[table])


def never_wrong(loopback, right, table, changes, lasts):
    loopback.broken = [Broken(TABLES[table], lambda body: Reply(body=changes(body)), times=99 if lasts else 1)]
    try:
        fetched = read(loopback, table)
    except VenueError as error:
        lines, got, gaps = [str(error)], right[table].rows[table].clear(), []
    else:
        lines, got, gaps = fetched.failures, fetched.rows[table], fetched.gaps
    wanted = right[table].rows[table]
    if table == "funding" and got.height < wanted.height:  # beside lost payments nobody can tell what an interval was
        got, wanted = got.drop("interval_h"), wanted.drop("interval_h")
    extra = got.join(wanted, on=wanted.columns, how="anti", nulls_equal=True)
    assert extra.is_empty(), extra
    assert all("\n" not in line and len(line) < 400 for line in lines)
    if got.height < wanted.height and table != "funding":
        lost = wanted.join(got, on="ts", how="anti")["ts"]
        assert lines or all(any(gap.start <= ts < gap.end for gap in gaps) for ts in lost)
    if not lasts and table != "funding":
        assert got.height == wanted.height or lines


CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
ASKED = (st.sampled_from(list(TABLES)), change(), st.booleans())


@settings(max_examples=60, **CHECKS)
@given(*ASKED)
def test_whatever_a_venue_answers_no_row_is_wrong_and_none_is_lost_in_silence(loopback, right, table, changes, lasts):
    never_wrong(loopback, right, table, changes, lasts)


@pytest.mark.long
@settings(max_examples=10_000, **CHECKS)
@given(*ASKED)
def test_ten_thousand_answers_and_no_row_is_wrong(loopback, right, table, changes, lasts):
    never_wrong(loopback, right, table, changes, lasts)


def reads_nothing_wrong(offer, changes):
    """Whatever becomes of any venue's answer, its reader gives its right rows, fewer, or one error."""
    body, rows = PAYLOADS[offer]
    where, kind, name = offer
    try:
        changed = json.loads(changes(json.dumps(body).encode()))
        found = dialect(where, kind, name).read(changed, Query(MARKETS[where, kind], T0, T1, 100, "1h", T0))
        if name not in ("depth", "funding") and not name.endswith("_now"):
            found = checked(found, Span(T0, T1), T1 - T0)
    except (ccxt.BaseError, UnicodeDecodeError, RecursionError, *MALFORMED):
        return
    assert isinstance(found, Answer)
    assert set(found.unread.tolist()) <= {row[0] for row in rows}
    blank = name.endswith("_now")  # some venues do not say all of the present; no history gives a missing value
    for values in found.values.tolist():
        assert any(
            all(
                (np.isnan(a) and (blank or b is None)) or (b is not None and a == pytest.approx(b))
                for a, b in zip(values, right[1:], strict=True)
            )
            for right in rows
        ), (offer, values)


@settings(max_examples=200, **CHECKS)
@given(st.sampled_from(sorted(PAYLOADS)), change())
def test_no_reader_of_any_venue_makes_a_wrong_row(offer, changes):
    reads_nothing_wrong(offer, changes)


@pytest.mark.long
@settings(max_examples=20_000, **CHECKS)
@given(st.sampled_from(sorted(PAYLOADS)), change())
def test_no_reader_of_any_venue_makes_a_wrong_row_in_twenty_thousand(offer, changes):
    reads_nothing_wrong(offer, changes)
