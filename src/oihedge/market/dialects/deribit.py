"""Deribit: its volatility index DVOL and its option chain."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import ccxt
import numpy as np
import polars as pl

from oihedge.core.tables import UTC_TIME
from oihedge.market.dialects.answers import BAR, Answer, Dialect, Query, instants, listed, numbers, table

_NAME = re.compile(r"^([A-Z]+)-(\d{1,2}[A-Z]{3}\d{2})-(\d+(?:d\d+)?)-([CP])$")
_GREEKS = ("delta", "gamma", "vega", "theta")
_PERCENT = 100.0
_EXPIRES_AT = "0800"
_FIRST_YEAR = 2009


def _volatility(q: Query) -> dict[str, Any]:
    return {
        "currency": q.id,
        "resolution": str(q.step // 1000),
        "start_timestamp": q.since,
        "end_timestamp": q.until - 1,
    }


def _read_volatility(body: Any, q: Query) -> Answer:
    found = table(body["result"]["data"], 0, (1, 2, 3, 4), width=5)
    return replace(found, values=found.values / _PERCENT)


def read_chain(body: Any, currency: str) -> tuple[pl.DataFrame, int]:
    """Return the options of `currency` and the venue's own instant in ms.

    Columns: name (the venue's), symbol (ccxt's), expiry, strike, option_type, mark_price, mark_iv, oi_base,
    underlying_price. Options that settle in another currency are left out.

    Raises:
        ccxt.BadResponse: for a row of another currency or shape, or one option twice.
    """
    rows = listed(body["result"])
    for row in rows:
        if row.get("base_currency", currency) != currency:
            raise ccxt.BadResponse(f"asked for options on {currency}, answered with {str(row['base_currency'])[:20]}")
    named = [(row, match) for row in rows if (match := _NAME.match(str(row["instrument_name"])))]
    for _, match in named:
        if match[1] != currency:
            raise ccxt.BadResponse(f"asked for options on {currency}, answered with {match[0][:40]}")
    us = body.get("usOut")
    said = int(instants([float(numbers([us])[0]) // 1000])[0]) if us is not None else 0
    if not named:
        raise ccxt.BadResponse(f"deribit sent no option on {currency} among {len(rows)} rows")
    columns = {
        name: numbers([row.get(sent) for row, _ in named], blanks=True)
        for name, sent in (("mark_price", "mark_price"), ("mark_iv", "mark_iv"), ("oi_base", "open_interest"),
                           ("underlying_price", "underlying_price"))
    }  # fmt: skip
    frame = pl.DataFrame([_terms(match) for _, match in named], orient="row", schema=_TERMS).with_columns(
        pl.Series(name, values).fill_nan(None) for name, values in columns.items()
    )
    if (twice := frame.filter(pl.col("symbol").is_duplicated())).height:
        raise ccxt.BadResponse(f"deribit sent option {twice['name'][0]} twice")
    return frame.with_columns(pl.col("mark_iv") / _PERCENT), said


_TERMS: dict[str, pl.DataType] = {
    "name": pl.String(),
    "symbol": pl.String(),
    "expiry": UTC_TIME,
    "strike": pl.Float64(),
    "option_type": pl.String(),
}


def _terms(match: re.Match[str]) -> tuple[str, str, datetime, float, str]:
    base, day, strike, side = match.groups()
    try:
        expiry = datetime.strptime(day + _EXPIRES_AT, "%d%b%y%H%M").replace(tzinfo=UTC)
    except ValueError as error:
        raise ccxt.BadResponse(f"option {match.group()} has no date: {error}") from None
    if expiry.year < _FIRST_YEAR:  # two digits end with 2068
        raise ccxt.BadResponse(f"option {match.group()} expires in {expiry.year}")
    price = float(numbers([strike.replace("d", ".")])[0])
    symbol = (
        f"{base}/USD:{base}-{expiry:%y%m%d}-{price:g}-{side}"
        if price < 1e6
        else f"{base}/USD:{base}-{expiry:%y%m%d}-{price:.0f}-{side}"
    )
    return match.group(), symbol, expiry, price, "call" if side == "C" else "put"


def greeks_of(body: Any, name: str) -> dict[str, float | str | None]:
    """Return an option's name, delta, gamma, vega and theta from its ticker.

    Raises:
        ccxt.BadResponse: if the ticker is another option's, or has no greeks.
    """
    row = body["result"]
    if row["instrument_name"] != name:
        raise ccxt.BadResponse(f"asked for {name}, answered with {str(row['instrument_name'])[:40]}")
    values = numbers([row["greeks"][greek] for greek in _GREEKS], blanks=True)
    return {
        "name": name,
        **{greek: None if np.isnan(v) else float(v) for greek, v in zip(_GREEKS, values, strict=True)},
    }


SERIES = {("option", "implied_vol"): Dialect(_volatility, _read_volatility, BAR[:4])}
