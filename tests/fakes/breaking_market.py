"""The embedded market's own loopback server, with some of its answers broken on the way out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fakes.loopback_venue import Reply
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Breaks = Callable[[str, bytes], Reply | None]
"""What goes out instead of the right body of a request (its path, parameters and body), None for the right one."""


class BreakingMarket:
    """Context manager around an ASGI app; `breaks` may be exchanged at any time, `requests` lists what was asked."""

    def __init__(self, app: ASGIApp, breaks: Breaks | None = None) -> None:
        self._app, self.breaks = app, breaks
        self.requests: list[str] = []

    def __enter__(self) -> BreakingMarket:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            self._break, interface="asgi3", log_level="critical", access_log=False, lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=5)

    async def _break(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: dict[str, Any] = {}
        parts: list[bytes] = []
        asked = bytearray()

        async def hear() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, hear, hold)
        request = f"{scope['path']}?{scope['query_string'].decode()} {asked.decode()}"
        self.requests.append(request)
        body = b"".join(parts)
        reply = self.breaks(request, body) if self.breaks else None
        if reply is None:
            reply = Reply(start["status"], body)
        headers = {"content-type": "application/json", **{k.lower(): v for k, v in reply.headers.items()}}
        headers["content-length"] = str(len(reply.body) + (100 if reply.cut else 0))
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
        await send({"type": "http.response.body", "body": reply.body, "more_body": reply.cut})
        if reply.cut:
            raise ConnectionResetError("cut on purpose")
