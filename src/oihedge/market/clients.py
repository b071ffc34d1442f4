"""ccxt clients whose answers are checked before ccxt reads them, optionally pointed at a loopback server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import ccxt
import ccxt.async_support
from ccxt.base.exchange import json_parser

from oihedge.market.retry import Gate
from oihedge.market.settings import Market, Venue
from oihedge.market.venues import reach

_HOST = re.compile(r"^[a-z]+://[^/]+")
_PASSING_4XX = {408, 418, 425, 429}
_FAILED_SERVER = {"10000", "10016", "50000", "50001", "50004", "50013", "50026", "40725", "45001"}
"""Codes in a body with status 200 by which Bybit, OKX and Bitget say that their server failed or is busy."""

MOST_BYTES = 64 * 2**20
"""More than any list of markets or page of rows needs."""


class BoundedResponse(aiohttp.ClientResponse):
    """An answer that points nowhere else and of which no more than MOST_BYTES are read, after decompression."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head; one that sends us to another address is refused, for aiohttp would follow it to any host."""
        await super().start(connection)
        if 300 <= self.status < 400:
            raise ccxt.BadRequest(f"{self.url.host} answers {self.status}, to be asked at another address")
        return self

    async def read(self) -> bytes:
        """Return the body; too long a one is refused, and its connection closed."""
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > MOST_BYTES:
                    self.close()
                    raise ccxt.BadResponse(f"{self.url.host} sent more than {MOST_BYTES} bytes")
            self._body = bytes(body)
        return await super().read()


class StrictBody:
    """Mixin that goes before a ccxt class: bodies that are no JSON, or say that the server failed, are errors.

    ccxt itself takes an HTML page or a truncated body with status 200 for an empty history. The body is decoded here,
    once; `parse_json`, which ccxt calls right after, hands that on.
    """

    id: str
    gate: Gate
    session: Any
    raw: bool = False
    """Whether raw bodies are wanted as they are; ccxt's own parsers want numbers as text."""
    served_at: datetime | None = None
    """The venue's own clock in its newest answer."""
    _decoded: Any = None

    def open(self, lazy: bool = False) -> None:
        """Bound what is read by the session that ccxt opens."""
        super().open(lazy)  # type: ignore[misc]
        self.session._response_class = BoundedResponse

    def on_rest_response(
        self, code: int, reason: str, url: str, method: str,
        response_headers: dict[str, str], response_body: str, request_headers: Any, request_body: str | None,
    ) -> str:  # fmt: skip
        """Check one answer and hand its body on; ccxt calls this for every response."""
        self.gate.answers += 1
        headers = {name.lower(): value for name, value in response_headers.items()}
        self.served_at = _served(headers)
        if code in (418, 429, 503) and (seconds := _retry_after(headers)) is not None:
            self.gate.pause(seconds)
        self._decoded = None
        if code >= 300:
            return response_body
        try:
            body = json_parser.loads(response_body)
        except (ValueError, RecursionError):
            raise ccxt.BadResponse(f"{self.id} sent no JSON: {response_body[:60]!r}") from None
        if not isinstance(body, dict | list):
            raise ccxt.BadResponse(f"{self.id} sent neither an object nor a list: {response_body[:60]!r}")
        if isinstance(body, dict) and {str(body.get("retCode")), str(body.get("code"))} & _FAILED_SERVER:
            raise ccxt.ExchangeNotAvailable(f"{self.id} {response_body[:200]}")
        self._decoded = body
        return response_body

    def parse_json(self, http_response: str) -> Any:
        """Return what the hook decoded, or let ccxt decode for its own parsers."""
        decoded, self._decoded = self._decoded, None
        return decoded if self.raw and decoded is not None else super().parse_json(http_response)  # type: ignore[misc]

    def handle_errors(self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *rest: Any) -> None:
        """Tell what passes from what ccxt calls a mere ExchangeError because it does not know the body's words."""
        try:
            super().handle_errors(code, reason, url, method, headers, body, *rest)  # type: ignore[misc]
        except ccxt.ExchangeError as error:
            if type(error) is not ccxt.ExchangeError:
                raise
            text = f"{self.id} {code} {reason} {body[:100]}"
            if code in (418, 429):
                raise ccxt.RateLimitExceeded(text) from error
            if code >= 500:
                raise ccxt.ExchangeNotAvailable(text) from error
            if code < 300:  # what ccxt has no word for is rather a broken answer than a refusal
                raise ccxt.BadResponse(text) from error
            raise

    def handle_http_status_code(self, code: int, reason: str, url: str, method: str, body: str) -> None:
        """Refuse for good what ccxt takes for passing: a 4xx that is neither a time-out nor a rate limit."""
        too_frequent = code == 403 and "access too frequent" in body.lower()
        if 400 <= code < 500 and code not in _PASSING_4XX and not too_frequent:
            raise ccxt.BadRequest(f"{self.id} refuses {method} {url}: {code} {reason} {body[:100]}")
        super().handle_http_status_code(code, reason, url, method, body)  # type: ignore[misc]


def open_client(venue: Venue, settings: Market, gate: Gate, base_url: str | None) -> Any:
    """Make the ccxt client of `venue`; every URL is moved to `base_url` when there is one."""
    plain = getattr(ccxt.async_support, venue.id)
    types = list(reach(venue.id, venue.kind).market_types)
    client = type(f"Strict{plain.__name__}", (StrictBody, plain), {})(
        {
            "timeout": int(settings.timeout_s * 1000),
            "enableRateLimit": base_url is None,  # a loopback needs no pacing
            "options": {"fetchMarkets": {"types": types}} if types else {},
        }
    )
    client.gate = gate
    client.has = {**client.has, "fetchCurrencies": False}  # one request less; nothing here reads currencies
    if base_url is not None:
        client.urls["api"] = _moved(client.urls["api"], base_url.rstrip("/"))
        client.timeout_on_exit = 0
        client.verify = not base_url.startswith("http://")  # spares making a TLS context
    return client


def _moved(urls: Any, base_url: str) -> Any:
    if isinstance(urls, dict):
        return {name: _moved(url, base_url) for name, url in urls.items()}
    return _HOST.sub(base_url, urls) if isinstance(urls, str) else urls


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
        # "-0000" gives an instant without a zone, which means UTC
        return found and (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _served(headers: dict[str, str]) -> datetime | None:
    """Return the instant of an answer; one from a cache still carries the date when it was made."""
    date, age = _date(headers.get("date")), headers.get("age", "")
    return date + timedelta(seconds=int(age)) if date and age.isascii() and age.isdigit() and len(age) < 7 else date


def _retry_after(headers: dict[str, str]) -> float | None:
    """Return the seconds a Retry-After header asks for; it may be a number or a date."""
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        until, served = _date(text), _date(headers.get("date"))
        return max(0.0, (until - served).total_seconds()) if until and served else None
