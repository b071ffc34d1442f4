"""The option chain of the simulated Deribit: which expiries and strikes are listed, and what each is worth now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from oihedge.simulator.implied import BASIS, Quote, black_76, level, previous_midnight, smile, years_between
from oihedge.simulator.market import DAY, STEP
from oihedge.simulator.noise import generator
from oihedge.simulator.parameters import keep
from oihedge.simulator.view import View

CURRENCIES = ("BTC", "ETH")
"""What coin-settled options there are of, where the market has it."""
CONTRACT, TICK = 1.0, 0.0001
_EXPIRES_AT = timedelta(hours=8)
_FRIDAY = 4
_NOISE = 0.004
"""Log noise of one option's volatility, drawn each hour."""


@dataclass(frozen=True)
class Option:
    """One listed option; `listed` is when its expiry opened for trading."""

    asset: str
    expiry: datetime
    strike: float
    call: bool
    listed: datetime

    @property
    def name(self) -> str:
        """Deribit's instrument name, e.g. `BTC-27SEP24-40000-C`."""
        return f"{self.asset}-{label(self.expiry)}-{self.strike:.0f}-{'C' if self.call else 'P'}"


@dataclass(frozen=True)
class Priced:
    """One option at the present; prices in coins, rounded to ticks (bid and ask), volatilities in per cent."""

    option: Option
    quote: Quote
    n: int
    """Its place in the quote's arrays."""
    index: float
    """Fair price, USD."""
    open_interest: float
    bid: float
    ask: float


def label(expiry: datetime) -> str:
    """Write an expiry as Deribit does: 5JAN24, 27SEP24."""
    return f"{expiry.day}{expiry:%b%y}".upper()


def expiries(now: datetime) -> dict[datetime, datetime]:
    """Return the expiries listed at `now`, each with when it was listed, soonest first.

    Tomorrow and the day after, the next three Fridays, and the last Fridays of three months, all at 08:00 UTC.
    """
    today = (now - _EXPIRES_AT).replace(hour=0, minute=0, second=0, microsecond=0)
    found = {today + n * DAY: today + (n - 2) * DAY for n in (1, 2)}
    friday = previous_midnight(today, _FRIDAY)
    found |= {friday + 7 * n * DAY: friday + (7 * n - 28) * DAY for n in (1, 2, 3)}
    month = today.replace(day=1)
    ends: list[datetime] = []
    while len(ends) < 3:
        following = (month + 32 * DAY).replace(day=1)
        last = previous_midnight(following - DAY, _FRIDAY)
        if last > today:
            ends.append(last)
        month = following
    found |= {last: last - 98 * DAY for last in ends}
    return {day + _EXPIRES_AT: found[day] + _EXPIRES_AT for day in sorted(found)}


def listed(view: View, asset: str) -> list[Option]:
    """Return every option of `asset` at the present: strikes are added as the price moves, and stay."""
    return [
        Option(asset, expiry, strike, call, max(since, view.market.origin))
        for expiry, since in expiries(view.now).items()
        for strike in _strikes(view, asset, expiry, since)
        for call in (True, False)
    ]


def _strikes(view: View, asset: str, expiry: datetime, since: datetime) -> list[float]:
    """Strikes around the price at the listing and at every later midnight that began a week (a day, for short ones)."""
    short = expiry - since <= 3 * DAY
    width, reach = (0.01, 6) if short else (0.025, 7) if expiry - since <= 28 * DAY else (0.05, 7)
    start = max(view.market.origin, since - _EXPIRES_AT)
    bars = view.market.bars(asset, "*", "index", start, view.now, "1h").filter(pl.col("ts").dt.hour() == 0)
    bars = bars.filter((pl.col("ts") == start) | (pl.col("ts").dt.weekday() == 1) | short)
    usual = view.market.settings.assets[asset].start_price
    strikes: set[float] = set()
    opens: list[float] = bars["open"].to_list()
    for price in opens or [usual]:
        step = _nice(price * width)
        centre = round(price / step)
        strikes |= {(centre + n) * step for n in range(-reach, reach + 1) if centre + n > 0}
    return sorted(strikes)


def _nice(value: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above `value`."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(power * n for n in (1.0, 2.0, 5.0) if power * n <= value * (1.0 + 1e-9)))


def priced(view: View, options: list[Option]) -> list[Priced]:
    """Return the options with what they are worth at the present, in their order."""
    out: dict[str, Priced] = {}
    fair = {asset: view.price(asset, "*", "index") for asset in {option.asset for option in options}}
    for asset, expiry in dict.fromkeys((option.asset, option.expiry) for option in options):
        group = [option for option in options if (option.asset, option.expiry) == (asset, expiry)]
        quote = _quote(view, group, fair[asset])
        for n, option in enumerate(group):
            price, spread = float(quote.price[n]), max(TICK, 0.01 * float(quote.price[n]))
            bid, ask = np.floor((price - spread) / TICK), np.ceil((price + spread) / TICK)
            prices = max(0.0, float(bid)) * TICK, float(ask) * TICK
            out[option.name] = Priced(option, quote, n, fair[asset], _open_interest(view, option), *prices)
    return [out[option.name] for option in options]


def _quote(view: View, group: list[Option], fair: float) -> Quote:
    """Value the options of one asset and expiry."""
    asset, years = group[0].asset, years_between(view.now, group[0].expiry)
    forward = fair * float(np.exp(BASIS * years))
    strikes = np.array([option.strike for option in group])
    money = level(view.market, asset, view.now, years * 8760.0)
    hour, seed = (view.now - view.market.origin) // STEP["1h"], view.market.settings.seed
    own = [generator(seed, f"{o.asset} {o.expiry} {o.strike:.0f} iv", hour, "grid").standard_normal() for o in group]
    iv = np.round(smile(money, forward, strikes, years) * np.exp(_NOISE * np.array(own)), 4)
    return black_76(forward, strikes, np.array([1.0 if option.call else -1.0 for option in group]), iv, years)


def _open_interest(view: View, option: Option) -> float:
    """Coins, by the strike's own size; it grows from the listing on."""
    stream = generator(view.market.settings.seed, f"{option.name} oi", 0, "grid")
    size = 400.0 if option.asset == "BTC" else 4000.0
    grown = 1.0 - keep(4.0) ** max((view.now - option.listed) / DAY, 0.0)
    return round(size * float(np.exp(0.8 * stream.standard_normal())) * float(grown), 1)
