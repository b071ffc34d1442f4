"""What venues say about the present: open interest, the next funding, the order book, the option chain.

The instant of such a row is ours (`now`), and the venue's own clock must confirm it: a run that is late, or a
venue whose clock is off, leaves a gap instead of a row with a wrong time. It is known when the venue said it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import ccxt
import polars as pl

from oihedge.core.tables import UTC_TIME, conform, table
from oihedge.market.dialects.answers import Answer
from oihedge.market.dialects.deribit import greeks_of, read_chain
from oihedge.market.read import Gap
from oihedge.market.rows import depth_table, finished, from_ms, interest_table
from oihedge.market.series import Read, Series, framed, ms
from oihedge.market.units import converted
from oihedge.market.venues import table_of

ONLY_NOW = "the venue gives only the present: recorded from now on; only an archive can give the past"
PAYS_WITHIN_MS = 48 * 3_600_000
"""A next payment further from now than this is a mistake of the venue's: none pays more seldom than daily."""


async def read_interest_now(series: Series, since: datetime) -> Read:
    """Read the present open interest; where the venue has no history of it, the past of the span is a gap."""
    offer = series.reach.offers["open_interest_now"]
    rows, gaps = await _present(series, "open_interest_now", since)
    if "open_interest" in series.reach.offers:
        gaps = [gap for gap in gaps if gap.why != ONLY_NOW]
    if rows is None:
        return nothing("open_interest"), gaps
    assert offer.unit is not None, "every open_interest offer has a unit"
    frame = framed(rows, series.names("open_interest_now")).with_columns(ts=pl.lit(series.now, UTC_TIME))
    made = converted(frame, offer.unit, series.contract_size(offer.unit))
    return interest_table(made, series.instrument, series.known(int(rows.at[0])) - series.now), gaps


async def read_funding_now(series: Series, since: datetime) -> Read:
    """Read the rate quoted for the next payment."""
    rows, gaps = await _present(series, "funding_now", since)
    if rows is None:
        return nothing("funding_now"), gaps
    frame = framed(rows, series.names("funding_now")).with_columns(
        ts=pl.lit(series.now, UTC_TIME), pays_at=from_ms("pays_at")
    )
    return finished(frame, "funding_now", series.instrument, pl.lit(series.known(int(rows.at[0])), UTC_TIME)), gaps


async def read_depth(series: Series, since: datetime) -> Read:
    """Read the order book's best prices and what rests near them."""
    rows, gaps = await _present(series, "depth", since)
    if rows is None:
        return nothing("depth"), gaps
    book = depth_table(framed(rows, ("price", "size")), series.instrument, series.now)
    return book.with_columns(available_at=pl.lit(series.known(int(rows.at[0])), UTC_TIME)), gaps


async def read_options(series: Series, since: datetime, greeks: int) -> Read:
    """Read every option of a currency; the `greeks` options nearest to the money get theirs by a request each."""
    past = _past(series, "option_chain", since)
    if series.end < series.now:
        return nothing("option_chain"), past
    offer, currency = series.reach.offers["option_chain"], str(series.market["id"])
    asked = {"currency": currency, "kind": "option"}

    async def ask() -> tuple[pl.DataFrame, int]:
        return read_chain(await series.raw(offer.method, asked), currency)

    chain, said = await series.calls(ask)
    if why := series.skew(said):
        return nothing("option_chain"), [*past, _late(series, "option_chain", why)]
    chain = chain.filter(pl.col("expiry") > series.now)
    apart = (pl.col("strike") / pl.col("underlying_price")).log().abs()
    near = chain.drop_nulls("underlying_price").sort(apart, "expiry", "name").head(greeks)["name"].to_list()

    async def ticker(name: str) -> dict[str, float | str | None]:
        async def one() -> dict[str, float | str | None]:
            return greeks_of(await series.raw(offer.also, {"instrument_name": name}), name)

        found: dict[str, float | str | None] = await series.calls(one)
        return found

    schema = {"name": pl.String, **dict.fromkeys(("delta", "gamma", "vega", "theta"), pl.Float64)}
    greek = pl.DataFrame(await asyncio.gather(*map(ticker, near)), schema=schema)
    frame = chain.join(greek, on="name", how="left").with_columns(ts=pl.lit(series.now, UTC_TIME)).drop("name")
    rows = frame.with_columns(
        venue=pl.lit(series.instrument.venue),
        asset=pl.lit(series.instrument.asset),
        available_at=pl.lit(series.known(said), UTC_TIME),
    )
    return conform(rows, table("option_chain"), stamps=False), past


async def _present(series: Series, name: str, since: datetime) -> tuple[Answer | None, list[Gap]]:
    """Return the rows about the present, None where the span ends before it or the venue's clock is another."""
    to, past = table_of(name), _past(series, table_of(name), since)
    if series.end < series.now:
        return None, past
    now = ms(series.now)

    async def once() -> Answer:
        found = await series.ask(name, series.query(series.reach.offers[name], now, now))
        if not found.size:
            raise ccxt.BadResponse(f"{series.instrument.venue} sent nothing about the present")
        if "pays_at" in (names := series.names(name)):
            pays_at = found.values[0, names.index("pays_at")]
            if abs(pays_at - now) > PAYS_WITHIN_MS:  # never so for NaN, where the venue does not say it
                raise ccxt.BadResponse(f"{series.instrument.venue} says the next payment is at {pays_at:g} ms")
        return found

    rows = await series.calls(once)
    if why := series.skew(int(rows.at[0])):
        return None, [_late(series, to, f"{why}: {ONLY_NOW}", since)]
    return rows, past


def _past(series: Series, to: str, since: datetime) -> list[Gap]:
    """Tell what is lost where other venues have a history; the other tables are about the present by their nature."""
    if to != "open_interest":
        return []
    return [series.gap(to, since, min(series.end, series.now), ONLY_NOW)]


def _late(series: Series, to: str, why: str, since: datetime | None = None) -> Gap:
    return series.gap(to, since or series.now, series.now, why)


def nothing(name: str) -> pl.DataFrame:
    """Return no rows of a table."""
    spec = table(name)
    columns = {**spec.columns, "available_at": spec.schema["available_at"]}
    return conform(pl.DataFrame(schema=columns), spec, stamps=False)
