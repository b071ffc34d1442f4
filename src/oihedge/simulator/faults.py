"""Break the answers of a simulated venue on purpose, for tests and benchmarks: `Faults(create_app(...), plan)`.

The ways to break one are in `broken`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oihedge.core.clock import Clock


@dataclass(frozen=True)
class Reply:
    """What goes over the wire."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    """How long the venue keeps the client waiting first."""
    cut: float | None = None
    """Share of the body after which the connection drops, although all of it was announced."""


Fault = Callable[[Reply], Reply]
"""Makes the broken reply from the right one."""


@dataclass
class Rule:
    """Break answers to requests that contain `where` (`METHOD path?query body`).

    The first `after` matching requests are left alone, then `times` of them are broken (None: all). With `during` only
    what is asked in that window of the plan's clock counts.
    """

    where: str
    fault: Fault
    times: int | None = 1
    after: int = 0
    during: tuple[datetime, datetime] | None = None

    def strikes(self, asked: str, now: datetime | None) -> bool:
        """Return whether this request is broken, counting it."""
        if self.where not in asked or self.times == 0:
            return False
        if self.during is not None and (now is None or not self.during[0] <= now < self.during[1]):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Plan:
    """What goes wrong, in which order: the first rule that strikes wins. Remembers what was asked."""

    def __init__(self, *rules: Rule, clock: Clock | None = None) -> None:
        self.rules = list(rules)
        self.clock = clock
        self.requests: list[str] = []
        """`METHOD path?query body` of every request, in order."""
        self._lock = threading.Lock()

    def asked(self, where: str) -> int:
        """Return how many requests contained `where`."""
        return sum(where in request for request in self.requests)

    def fault(self, request: str) -> Fault | None:
        """Note a request and return what breaks its answer, if anything does."""
        with self._lock:
            self.requests.append(request)
            now = self.clock.now() if self.clock else None
            return next((rule.fault for rule in self.rules if rule.strikes(request, now)), None)


class Faults:
    """ASGI middleware that answers as `app` does, but for what `plan` breaks.

    With a clock in the plan every answer carries its time as the Date header, as venues do.
    """

    def __init__(self, app: ASGIApp, plan: Plan) -> None:
        self._app, self._plan = app, plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        query = scope["query_string"].decode()
        asked = f"{scope['method']} {scope['path']}{'?' + query if query else ''} {body.decode(errors='replace')}"
        reply = await self._right(scope, body)
        fault = self._plan.fault(asked.strip())
        await _send(reply if fault is None else fault(reply), send)

    async def _right(self, scope: Scope, body: bytes) -> Reply:
        """What the app answers."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, keep)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        headers.pop("content-length", None)
        if self._plan.clock:
            headers["date"] = format_datetime(self._plan.clock.now(), usegmt=True)
        return Reply(sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:]), headers)


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(reply: Reply, send: Send) -> None:
    if reply.wait_s:
        await asyncio.sleep(reply.wait_s)
    headers = reply.headers | {"content-length": str(len(reply.body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if reply.cut is None:
        await send({"type": "http.response.body", "body": reply.body})
        return
    part = reply.body[: int(len(reply.body) * reply.cut)]
    await send({"type": "http.response.body", "body": part, "more_body": True})  # and no more: the server hangs up
