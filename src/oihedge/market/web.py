"""One web service over HTTP: patient, bounded, and silent about its key."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from functools import cache
from threading import Lock
from types import TracebackType
from typing import Any, Self

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from oihedge.core.errors import ConfigError, VenueError
from oihedge.market.inputs.settings import Patience

_SLOWEST = 10.0
"""A body may take this many time-outs in all: a server that drips bytes would never time out otherwise."""
_PASSING = {408, 425, 429}
_LONGEST_KEY = 4096


class Refused(VenueError):
    """The service said no, and asking again would not help; `status` is HTTP's."""

    def __init__(self, what: str, status: int, *, do: str = "") -> None:
        super().__init__(what, got=f"HTTP {status}", do=do)
        self.status = status


class _Passing(Exception):
    """What may go away by itself; `pause_s` is how long the service asks to be left alone."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Web:
    """A service below one root URL; redirects, other hosts and the environment's proxies are not followed."""

    def __init__(
        self,
        name: str,
        url: str,
        patience: Patience,
        *,
        headers: Mapping[str, str] | None = None,
        pace_s: float = 0.0,
    ) -> None:
        """Make ready; nothing is sent.

        Args:
            name: how errors call the service.
            url: its root.
            patience: time-outs, attempts and sizes.
            headers: sent with every request; values may be secret and are shown nowhere.
            pace_s: least time between two requests.

        Raises:
            ConfigError: if a header's value cannot be one.
        """
        for header, value in (headers or {}).items():
            if not (value.isascii() and value.isprintable() and len(value) < _LONGEST_KEY):
                raise ConfigError(f"{name}: the value of header {header} (its key) is no plain printable text")
        self.name, self._patience, self._pace_s = name, patience, pace_s
        self._base = httpx.URL(url)
        self._resume_at, self._lock = 0.0, Lock()
        self._client = httpx.Client(
            base_url=url,
            timeout=patience.timeout_s,
            headers=dict(headers or {}),
            follow_redirects=False,
            trust_env=False,
            verify=_tls(),
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        self._client.close()

    def json(self, path: str, params: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Return the JSON that the service answers; a body makes it a POST.

        Args:
            path: below the root, or a whole URL of the same host.
            params: query parameters.
            body: sent as JSON.

        Raises:
            VenueError: if it stays unreachable, refuses, answers no strict JSON or points to another host.
        """
        return self._patiently(lambda: self._parsed(self._body(path, params, body)))

    def file(self, path: str) -> bytes | None:
        """Return the bytes of a file, None where the service has none (404).

        Raises:
            VenueError: if it stays unreachable or refuses.
        """
        try:
            content: bytes = self._patiently(lambda: self._body(path, None, None))
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return content

    def _patiently(self, ask: Any) -> Any:
        told = self._patience
        backoff = wait_exponential_jitter(max=told.max_backoff_s, jitter=told.backoff_s, multiplier=told.backoff_s)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(backoff(state), error.pause_s if isinstance(error, _Passing) else 0.0)

        tries = Retrying(
            stop=stop_after_attempt(told.attempts),
            wait=wait,
            retry=retry_if_exception_type(_Passing),
            reraise=True,
        )
        try:
            return tries(ask)
        except _Passing as error:
            raise VenueError(f"{self.name} could not be read in {told.attempts} attempts: {error}") from None

    def _body(self, path: str, params: Mapping[str, str] | None, body: Any) -> bytes:
        url = self._url(path)
        self._wait_turn()
        method = "GET" if body is None else "POST"
        began = time.monotonic()
        try:
            with self._client.stream(method, url, params=dict(params) if params else None, json=body) as answer:
                self._check(answer)
                return self._read(answer, began)
        except httpx.TimeoutException as error:
            raise _Passing(f"no answer in time ({type(error).__name__})") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Passing(f"the connection failed ({type(error).__name__})") from None

    def _url(self, path: str) -> httpx.URL | str:
        if "://" not in path:
            return path
        try:
            url = httpx.URL(path)
        except httpx.InvalidURL:
            raise VenueError(f"{self.name} points to what is no address") from None
        if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
            raise VenueError(f"{self.name} points to another host", expected=self._base.host, got=url.host[:80])
        return url

    def _wait_turn(self) -> None:
        if self._pace_s == 0:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._resume_at)
            self._resume_at = turn + self._pace_s
        time.sleep(turn - now)

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status == 200:
            return
        if status in _PASSING or status >= 500:
            pause = _retry_after(answer.headers.get("retry-after", ""))
            if pause > self._patience.max_pause_s:
                most = self._patience.max_pause_s
                raise VenueError(f"{self.name} asks for a pause of {pause:.0f} s", expected=f"at most {most:.0f}")
            raise _Passing(f"HTTP {status}", pause)
        doubts = "check its key and plan" if status in (401, 402, 403) else "check its settings"
        raise Refused(f"{self.name} refuses the request", status, do="" if status == 404 else doubts)

    def _read(self, answer: httpx.Response, began: float) -> bytes:
        most, body = int(self._patience.max_mb * 2**20), bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > most:
                raise VenueError(f"{self.name} sends more than {self._patience.max_mb:g} MB", do="ask for less")
            if time.monotonic() - began > _SLOWEST * self._patience.timeout_s:
                raise _Passing("the answer takes too long")
        return bytes(body)

    @staticmethod
    def _parsed(body: bytes) -> Any:
        try:
            return json.loads(body.decode("utf8"), parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise _Passing("the answer is no JSON") from None


@cache
def _tls() -> ssl.SSLContext:
    """The trusted certificates, read once: it takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)


def _retry_after(text: str) -> float:
    """Seconds that Retry-After asks for; a date or nonsense counts as none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
