"""Units, intervals and pages, on small frames and fake answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import ccxt
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.market.clients import _date
from oihedge.market.dialects.answers import Answer, instants, iso_instants, numbers, single
from oihedge.market.live import _line
from oihedge.market.pager import HOUR_MS, Span, checked, read_events, read_grid, read_numbered, spans
from oihedge.market.rows import priced, with_intervals

T0 = datetime(2025, 1, 1, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")


def at(*hours: float) -> pl.Series:
    return pl.Series("ts", [T0 + timedelta(hours=hour) for hour in hours], dtype=UTC_US)


def bars(*hours: float, opens: list[float], closes: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"ts": at(*hours), "open": opens, "close": closes})


def test_open_interest_takes_the_close_before_and_else_the_open_at_its_instant():
    coins = pl.DataFrame({"ts": at(1, 2, 9), "oi_base": [2.0, 2.0, 2.0]})
    out = priced(coins, bars(0, 2, opens=[10.0, 30.0], closes=[11.0, 31.0]))
    assert out["oi_usd"].to_list() == [22.0, 60.0, None]
    assert [source.split("; ")[1] for source in out["unit_source"]] == [
        "USD = coins x close of the perp bar before ts",
        "USD = coins x open of the perp bar at ts",
        "no price for USD",
    ]


def test_the_future_of_the_bar_at_ts_never_changes_its_value():
    coins = pl.DataFrame({"ts": at(1), "oi_base": [2.0]})
    known = priced(coins, bars(0, 1, opens=[10.0, 11.0], closes=[11.0, 12.0]))
    other_future = priced(coins, bars(0, 1, 2, opens=[10.0, 11.0, 99.0], closes=[11.0, 99.0, 99.0]))
    assert known.equals(other_future)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ([0, 8, 16, 24], [8, 8, 8, 8]),
        ([0, 8, 16, 20, 24], [8, 8, 8, 4, 4]),  # the interval shortens
        ([0, 4, 8, 16, 24], [4, 4, 4, 8, 8]),  # and lengthens
        ([0, 8, 24, 32], [8, 8, 8, 8]),  # a lost payment is no longer interval
        ([0, 1, 3, 4], [1, 1, 1, 1]),
        ([0, 1, 2, 4], [1, 1, 1, 1]),  # the last one too, as long as no further payment confirms it
        ([0, 8, 16, 40], [8, 8, 8, 8]),
        ([0, 1, 2, 4, 7], [1, 1, 1, 1, 1]),
        ([0, 1, 2, 4, 6], [1, 1, 1, 2, 2]),
        ([5], [8]),
    ],
)
def test_the_interval_is_the_time_since_the_payment_before(hours, expected):
    assert with_intervals(pl.DataFrame({"ts": at(*hours)}), 8.0)["interval_h"].to_list() == expected


def test_a_lost_payment_at_the_end_of_one_series_is_not_confirmed_by_another():
    frame = pl.DataFrame({"of": [*"aaaabb"], "ts": at(0, 1, 2, 4, 0, 2)})
    assert with_intervals(frame, 8.0, ["of"])["interval_h"].to_list() == [1, 1, 1, 1, 2, 2]


def test_intervals_of_two_series_do_not_mix():
    frame = pl.DataFrame({"of": ["a", "a", "b", "b"], "ts": at(0, 8, 1, 2)})
    assert with_intervals(frame, 8.0, ["of"])["interval_h"].to_list() == [8, 8, 1, 1]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5000), st.integers(1, 900))
def test_spans_cover_the_range_once_and_never_exceed_the_width(since, length, width):
    parts = spans(since, since + length, width)
    assert parts[0].since == since
    assert parts[-1].until == since + length
    assert all(a.until == b.since for a, b in pairwise(parts))
    assert max(part.until - part.since for part in parts) <= width


async def calls(ask):
    return await ask()


def answer(rows) -> Answer:
    at = np.array([row[0] for row in rows], dtype=np.int64)
    return Answer(at, np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), -1 if rows else 1))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(2, 9), st.permutations(range(12)), st.integers(0, HOUR_MS - 1))
def test_whatever_order_a_venue_answers_in_the_grid_comes_out_sorted_and_complete(length, cap, order, shift):
    since, until = shift, length * HOUR_MS

    async def ask(a: int, b: int):
        inside = [(h * HOUR_MS, float(h)) for h in range(length) if a <= h * HOUR_MS < b]
        shuffled = [inside[n] for n in order if n < len(inside)]
        return answer(shuffled + inside[:1] + [(until + 5 * HOUR_MS, 1.0)])

    page = asyncio.run(read_grid(ask, calls, since, until, cap))
    assert page.rows.at.tolist() == list(range(-(-since // HOUR_MS) * HOUR_MS, until, HOUR_MS))
    assert page.missing == []


@settings(deadline=None)
@given(st.sets(st.integers(0, 40)), st.integers(2, 7))
def test_missing_instants_are_told_exactly(lost, cap):
    async def ask(a: int, b: int):
        return answer([(h * HOUR_MS, 1.0) for h in range(41) if h not in lost and a <= h * HOUR_MS < b])

    page = asyncio.run(read_grid(ask, calls, 0, 41 * HOUR_MS, cap))
    told = {at // HOUR_MS for span in page.missing for at in range(span.since, span.until, HOUR_MS)}
    assert told == lost


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=60), st.integers(3, 8), st.booleans())
def test_payments_are_all_found_whatever_their_intervals_and_the_cap(steps, cap, newest_first):
    hours = [sum(steps[:n]) for n in range(len(steps))]
    end = (hours[-1] + 1) * HOUR_MS

    async def ask(a: int, b: int):
        found = [(h * HOUR_MS + 31, 0.1) for h in hours if a <= h * HOUR_MS + 31 < b]
        return answer(found[-cap:] if newest_first else found[:cap])

    page = asyncio.run(read_events(ask, calls, 0, end, cap, 8 * HOUR_MS))
    assert page.rows.at.tolist() == [h * HOUR_MS for h in hours]


def paid(*hours: int, sent: list[tuple[int, ...]]):
    """Read what a venue paid over 160 hours in one window, whose n-th answer holds only the hours `sent[n]`."""
    asked = []

    async def ask(a: int, b: int):
        asked.append((a, b))
        return answer([(h * HOUR_MS, 0.1) for h in sent[min(len(asked), len(sent)) - 1]])

    page = asyncio.run(read_events(ask, calls, 0, 160 * HOUR_MS, 100, 8 * HOUR_MS))
    assert [at // HOUR_MS for at in page.rows.at.tolist()] == list(hours)
    return [(span.since // HOUR_MS, span.until // HOUR_MS) for span in page.missing], len(asked)


ALL = tuple(range(0, 160, 8))


@pytest.mark.parametrize("first", [ALL[:-4], ALL[4:], (*ALL[:5], *ALL[9:]), ()])
def test_a_page_that_lacks_a_day_of_payments_is_asked_for_once_more(first):
    assert paid(*ALL, sent=[first, ALL]) == ([], 2)
    assert paid(*ALL, sent=[first, tuple(set(ALL) - set(first))]) == ([], 2)


@pytest.mark.parametrize(
    ("lasting", "missing"),
    [
        (ALL[:-4], [(121, 160)]),
        (ALL[4:], [(0, 32)]),
        ((*ALL[:5], *ALL[9:]), [(33, 72)]),
        ((), [(0, 160)]),
        ((*ALL[:5], *ALL[7:]), []),  # less than a day
    ],
)
def test_payments_that_stay_away_are_told(lasting, missing):
    assert paid(*lasting, sent=[lasting])[0] == missing


def test_a_hole_that_lies_across_two_windows_is_told():
    async def ask(a: int, b: int):
        return answer([(h * HOUR_MS, 0.1) for h in ALL if not 64 <= h < 96 and a <= h * HOUR_MS < b])

    page = asyncio.run(read_events(ask, calls, 0, 160 * HOUR_MS, 12, 8 * HOUR_MS))
    assert [(span.since // HOUR_MS, span.until // HOUR_MS) for span in page.missing] == [(57, 96)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(1800_000, 1.0)], "off the grid"),
        ([(0, 1.0), (0, 2.0)], "two different rows"),
    ],
)
def test_a_page_that_cannot_be_right_is_refused(rows, says):
    with pytest.raises(ccxt.BadResponse, match=says):
        checked(answer(rows), Span(0, 10 * HOUR_MS), HOUR_MS)


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 4, 8]), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 200))
def test_payments_on_numbered_pages_are_all_found_back_to_the_start(steps, size, since_h):
    hours = [sum(steps[: n + 1]) for n in range(len(steps))]
    newest_first, asked = [(h * HOUR_MS + 7, 0.1) for h in reversed(hours)], []

    async def ask(page: int):
        asked.append(page)
        return answer(newest_first[(page - 1) * size : page * size])

    page = asyncio.run(read_numbered(ask, calls, since_h * HOUR_MS, 10**12))
    assert page.rows.at.tolist() == [h * HOUR_MS for h in hours if h >= since_h]
    needed = -(-sum(h > since_h for h in hours) // size)
    assert len(asked) <= needed + 1


def test_payments_of_a_span_far_behind_the_first_numbered_page_are_found():
    async def ask(page: int):
        return answer([(h * HOUR_MS, 0.1) for h in range(8000 - 80 * page, 8080 - 80 * page, 8)])

    page = asyncio.run(read_numbered(ask, calls, 4000 * HOUR_MS, 4080 * HOUR_MS))
    assert page.rows.at.tolist() == [h * HOUR_MS for h in range(4000, 4080, 8)]


def test_a_venue_that_ignores_the_page_number_is_refused():
    async def ask(page: int):
        return answer([(8 * HOUR_MS, 0.1)])

    with pytest.raises(ccxt.BadResponse, match="the same payments"):
        asyncio.run(read_numbered(ask, calls, 0, 100 * HOUR_MS))


@pytest.mark.parametrize("odd", ["NaN", "inf", "-Infinity", "1_000", "1,5", "", None, True, [1], {}, "0x10", 10**400])
def test_what_is_no_finite_number_is_refused(odd):
    with pytest.raises((ccxt.BadResponse, TypeError)):
        numbers(["1.5", odd])


def test_numbers_come_from_numbers_and_their_text_and_blanks_only_where_they_may_be():
    assert numbers(["1.5", 2, 3.25, "-1e-3"]).tolist() == [1.5, 2.0, 3.25, -0.001]
    assert np.isnan(numbers([None, "", "7"], blanks=True)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "odd",
    ["now", "today", "NaT", "2025", "2025-01-01T00:00:00", "2025-13-01T00:00:00Z", 5, None, "2025-01-01T00:00+01Z",
     "2025-01-01 00:00:00Z", "\u0662025-01-01T00:00:00Z", "2008-12-31T23:59:59Z", "2200-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_instant_is_refused(odd):
    with pytest.raises(ccxt.BadResponse):
        iso_instants([odd])
    with pytest.raises((ccxt.BadResponse, TypeError)):
        instants([odd, 0.5])


@pytest.mark.parametrize("odd", ["1e30", 1e300, 10**17, 2**53 - 1, -1, 0, 1_230_767_999_999, 7_258_118_400_000])
def test_an_instant_outside_the_years_of_markets_is_refused(odd):
    with pytest.raises(ccxt.BadResponse, match="2009 to 2199"):
        instants([odd])
    with pytest.raises(ccxt.BadResponse):
        single(odd, 1.0)


def test_instants_of_those_years_are_read_and_a_clock_that_says_nothing_is_zero():
    assert instants([1_230_768_000_000, "7258118399999"]).tolist() == [1_230_768_000_000, 7_258_118_399_999]
    assert instants([1_230_768_000], 1000).tolist() == [1_230_768_000_000]
    assert iso_instants(["2009-01-01T00:00:00Z", "2025-01-01T00:00:00.250Z"]).tolist() == [
        1_230_768_000_000, 1_735_689_600_250
    ]  # fmt: skip
    assert single(None, 1.0).at.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "hour"), [("Tue, 01 Jul 2025 00:05:00 -0000", 0), ("Tue, 01 Jul 2025 00:05:00 +0200", 22), ("", None),
                       ("Fri, 31 Dec 9999 23:59:59 -2359", None), ("Tue, 01 Jul 2025 00:05:00 +99999999999999", None)],
)  # fmt: skip
def test_a_date_header_is_utc_or_nothing(text, hour):
    found = _date(text)
    assert (found and (found.hour, found.tzinfo)) == (None if hour is None else (hour, UTC))


def test_a_failure_is_one_short_line_that_steers_no_terminal():
    line = _line(ccxt.BadResponse("sent \x1b[2J\u202e\n" + "\x07" * 900))
    assert line.startswith(r"BadResponse: sent \x1b[2J\u202e \x07")
    assert line.isprintable()
    assert len(line) < 260
