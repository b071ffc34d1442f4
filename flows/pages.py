"""Prefect's own server, answering its own pages and clients only; started as a process of its own by servers/."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from fastapi import FastAPI
from prefect.server.api.server import create_app
from prefect.settings import PREFECT_API_URL
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")


class OwnOrigin:
    """Refuse what a page of another origin sends: CORS would only hide the answer, after the deed."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or one opening of a websocket."""
        origin = Headers(scope=scope).get("origin") if scope["type"] in ("http", "websocket") else None
        if origin is None or origin in self._origins:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("requests of other origins are refused", 403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def serve() -> FastAPI:
    """Return Prefect's application behind a check of the Host (against rebound names) and of the Origin."""
    os.environ["PREFECT__SERVER_FINAL"] = "1"
    app = create_app(final=True)
    port = urlsplit(str(PREFECT_API_URL.value())).port
    app.add_middleware(OwnOrigin, origins=frozenset(f"http://{host}:{port}" for host in LOOPBACK))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK), www_redirect=False)
    return app
