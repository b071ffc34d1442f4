"""ccxt clients whose answers are checked before ccxt reads them, optionally pointed at a loopback server."""

from __future__ import annotations

import json
import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import ccxt
import ccxt.async_support

from oihedge.market.retry import Gate
from oihedge.market.settings import Market, Venue
from oihedge.market.venues import reach

_HOST = re.compile(r"^[a-z]+://[^/]+")
_PASSING_4XX = {408, 418, 425, 429}


class StrictBody:
    """Mixin that goes before a ccxt class: bodies that are no JSON, or speak of another symbol, are errors.

    ccxt itself takes an HTML page or a truncated body with status 200 for an empty history.
    """

    id: str
    gate: Gate
    served_at: datetime | None = None
    """The venue's own clock in its newest answer."""

    def on_rest_response(
        self, code: int, reason: str, url: str, method: str,
        response_headers: dict[str, str], response_body: str, request_headers: Any, request_body: str | None,
    ) -> str:  # fmt: skip
        """Check one answer and hand its body on; ccxt calls this for every response."""
        headers = {name.lower(): value for name, value in response_headers.items()}
        self.served_at = _date(headers.get("date"))
        if code in (418, 429, 503) and (seconds := _retry_after(headers)) is not None:
            self.gate.pause(seconds)
        if code >= 300:
            return response_body
        try:
            body = json.loads(response_body)
        except ValueError:
            raise ccxt.BadResponse(f"{self.id} sent no JSON: {response_body[:60]!r}") from None
        if not isinstance(body, dict | list):
            raise ccxt.BadResponse(f"{self.id} sent neither an object nor a list: {response_body[:60]!r}")
        if isinstance(body, dict) and str(body.get("retCode")) in ("10000", "10016"):
            raise ccxt.ExchangeNotAvailable(f"{self.id} {response_body[:200]}")
        _check_symbol(self.id, _asked_symbol(url, request_body), body)
        return response_body

    def handle_http_status_code(self, code: int, reason: str, url: str, method: str, body: str) -> None:
        """Refuse for good what ccxt takes for passing: a 4xx that is neither a time-out nor a rate limit."""
        too_frequent = code == 403 and "access too frequent" in body.lower()
        if 400 <= code < 500 and code not in _PASSING_4XX and not too_frequent:
            raise ccxt.BadRequest(f"{self.id} refuses {method} {url}: {code} {reason} {body[:100]}")
        super().handle_http_status_code(code, reason, url, method, body)  # type: ignore[misc]


def open_client(venue: Venue, settings: Market, gate: Gate, base_url: str | None) -> Any:
    """Make the ccxt client of `venue`; every URL is moved to `base_url` when there is one."""
    plain = getattr(ccxt.async_support, venue.id)
    client = type(f"Strict{plain.__name__}", (StrictBody, plain), {})(
        {
            "timeout": int(settings.timeout_s * 1000),
            "enableRateLimit": base_url is None,  # a loopback needs no pacing
            "options": {"fetchMarkets": {"types": list(reach(venue.id, venue.kind).market_types)}},
        }
    )
    client.gate = gate
    if base_url is not None:
        client.urls["api"] = _moved(client.urls["api"], base_url.rstrip("/"))
        client.timeout_on_exit = 0
        client.verify = not base_url.startswith("http://")  # spares making a TLS context
    return client


def _moved(urls: Any, base_url: str) -> Any:
    if isinstance(urls, dict):
        return {name: _moved(url, base_url) for name, url in urls.items()}
    return _HOST.sub(base_url, urls) if isinstance(urls, str) else urls


def _asked_symbol(url: str, request_body: str | None) -> str | None:
    if request_body:
        asked = json.loads(request_body)
        name = asked.get("coin") or asked.get("req", {}).get("coin")
        return None if name is None else str(name)
    return parse_qs(urlsplit(url).query).get("symbol", [None])[0]


def _check_symbol(venue: str, asked: str | None, body: Any) -> None:
    if asked is None:
        return
    rows = body if isinstance(body, list) else [body.get("result")]
    for row in rows:
        if isinstance(row, dict) and (got := row.get("symbol") or row.get("coin") or row.get("s")) not in (None, asked):
            raise ccxt.BadResponse(f"{venue} was asked for {asked} and answered with {got}")


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _retry_after(headers: dict[str, str]) -> float | None:
    """Return the seconds a Retry-After header asks for; it may be a number or a date."""
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        until, served = _date(text), _date(headers.get("date"))
        return max(0.0, (until - served).total_seconds()) if until and served else None
