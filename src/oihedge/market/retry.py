"""When a venue is asked again, how long it is left alone, and when it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeVar

import ccxt
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from oihedge.core.errors import VenueError
from oihedge.market.settings import Market

T = TypeVar("T")
MALFORMED = (IndexError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What escapes from parsers, ccxt's and ours, when a body is valid JSON of an unexpected shape."""


class Gate:
    """One venue's entrance: bounded requests in flight, pauses for all of them, and a circuit that opens."""

    def __init__(self, venue: str, concurrency: int, max_pause_s: float) -> None:
        self.venue = venue
        self.answers = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._max_pause_s = max_pause_s
        self._resume_at = 0.0
        self._closed_because: str | None = None

    def pause(self, seconds: float) -> None:
        """Let no request in for `seconds`; a pause beyond the setting gives the venue up for this run."""
        if seconds > self._max_pause_s:
            self.give_up(f"it asks for a pause of {seconds:.0f} s, market.max_pause_s is {self._max_pause_s:.0f}")
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + seconds)

    def give_up(self, why: str) -> None:
        """Open the circuit: every later request of this run fails at once."""
        self._closed_because = self._closed_because or why

    async def through(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Run `ask` once the venue may be asked.

        Raises:
            VenueError: if the venue was given up.
        """
        async with self._slots:
            while (wait := self._resume_at - asyncio.get_running_loop().time()) > 0 and not self._closed_because:
                await asyncio.sleep(wait)
            if self._closed_because:
                raise VenueError(f"{self.venue} is given up for this run: {self._closed_because}")
            return await ask()


async def call(gate: Gate, settings: Market, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until it answers, by the policy of this module.

    5xx, refused or dropped connections, time-outs and malformed bodies: exponential back-off with jitter. Rate limits:
    the whole venue pauses, as long as Retry-After says. Maintenance: the venue is given up for this run; the next
    scheduled one asks again. Wrong symbols, bad requests and refusals: never again.

    Raises:
        VenueError: if the venue was given up.
        ccxt.BaseError: the last error, when it must not be retried or `settings.attempts` are used up.
    """
    backoff = _backoff(settings.max_backoff_s, settings.backoff_s)

    def wait(state: RetryCallState) -> float:
        seconds = backoff(state)
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
            gate.pause(seconds)
            return 0.0
        return seconds

    async for attempt in AsyncRetrying(
        stop=stop_after_attempt(settings.attempts), wait=wait, retry=retry_if_exception(is_passing), reraise=True
    ):
        with attempt:
            return await gate.through(lambda: _guarded(gate, ask))
    raise AssertionError("unreachable: reraise=True")


@cache
def _backoff(most_s: float, base_s: float) -> wait_exponential_jitter:
    """Made once: tenacity draws a random generator's whole state for it, which takes as long as reading an answer."""
    return wait_exponential_jitter(max=most_s, jitter=base_s, multiplier=base_s)


async def _guarded(gate: Gate, ask: Callable[[], Awaitable[T]]) -> T:
    try:
        return await ask()
    except ccxt.OnMaintenance as error:
        gate.give_up("it is under maintenance")
        raise VenueError(f"{gate.venue} is given up for this run: it is under maintenance") from error
    except MALFORMED as error:
        raise ccxt.BadResponse(f"{gate.venue} sent a body of another shape: {type(error).__name__} {error}") from error


def is_passing(error: BaseException) -> bool:
    """Tell whether `error` may go away by itself."""
    if isinstance(error, ccxt.OnMaintenance):
        return False
    if isinstance(error, ccxt.NetworkError | ccxt.BadResponse):
        return True
    # ccxt calls a connection that breaks in the middle of a body a plain ExchangeError
    return isinstance(error, ccxt.ExchangeError) and type(error.__cause__).__module__.startswith("aiohttp")
