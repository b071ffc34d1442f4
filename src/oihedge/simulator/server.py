"""The loopback server: the simulated market behind the venues' own REST paths, for unmodified ccxt clients.

It listens on 127.0.0.1 only. Every answer is cut at the clock it was given: under a fixed clock the market stands
still, under a running one it goes on without computing its past again.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from oihedge.core.clock import Clock, FixedClock
from oihedge.core.errors import ConfigError, OihedgeError
from oihedge.simulator import hyperliquid, inputs
from oihedge.simulator.asked import Asked, Malformed, Refused
from oihedge.simulator.binance import Answer
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.venues import VENUES
from oihedge.simulator.view import View

HOST = "127.0.0.1"
_LAST_SECOND = 253_402_300_799  # the year 9999


def create_app(market: EmbeddedMarket, clock: Clock, archive: Path | None = None) -> Starlette:
    """Return the ASGI application that serves `market` as it stands at `clock`.

    Binance spot and USD-M, Bybit v5 and Hyperliquid share one root: their paths do not collide. docs/market-model.md
    lists the paths with their caps. An unknown path is a 404, a bad request what that venue answers to it, in JSON.
    Below `/at/SECONDS` the same paths answer as at that instant (seconds since 1970), though never later than the
    clock: a flow that runs late reads the market as it stood when it was due. Below `/inputs` the on-chain and
    sentiment sources answer, below `/vision` the archive files that lie in the folder `archive`.
    """
    routes: list[BaseRoute] = []
    if archive is not None:
        routes.append(Mount("/vision", StaticFiles(directory=archive, check_dir=False)))
    for root in ("", "/at/{instant:int}"):
        for venue in VENUES:
            routes += [Route(root + path, _get(market, clock, answer, venue)) for path, answer in venue.PATHS.items()]
        routes.append(Route(f"{root}/info", _post(market, clock), methods=["POST"]))
        routes += inputs.routes(market, lambda request: _standing(clock, request), root)
    return Starlette(routes=routes, exception_handlers={HTTPException: _plain_error, Exception: _failed})


def _standing(clock: Clock, request: Request) -> Clock:
    instant = request.path_params.get("instant")
    if instant is None:
        return clock
    asked = datetime.fromtimestamp(min(instant, _LAST_SECOND), UTC)
    return FixedClock(min(asked, clock.now()))


def _answered(market: EmbeddedMarket, clock: Clock, answer: Answer, venue: Any, values: dict[str, Any]) -> JSONResponse:
    view = View.at(market, clock)
    try:
        if view.now < market.origin:
            raise Refused(503, {"code": -1000, "msg": f"the simulated market opens at {market.origin.isoformat()}"})
        return JSONResponse(answer(view, Asked(values)))
    except Malformed as error:
        refused = venue.refusal(error)
    except Refused as error:
        refused = error
    return JSONResponse(refused.body, status_code=refused.status)


def _get(market: EmbeddedMarket, clock: Clock, answer: Answer, venue: Any) -> Any:
    async def endpoint(request: Request) -> JSONResponse:
        at = _standing(clock, request)
        values = {**request.query_params, **request.path_params}
        values.pop("instant", None)
        return await run_in_threadpool(_answered, market, at, answer, venue, values)

    return endpoint


def _post(market: EmbeddedMarket, clock: Clock) -> Any:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            body = None
        values = body if isinstance(body, dict) else {}
        at = _standing(clock, request)
        return await run_in_threadpool(_answered, market, at, hyperliquid.info, hyperliquid, values)

    return endpoint


async def _plain_error(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"{request.method} {request.url.path}: {getattr(error, 'detail', 'error')}"
    return JSONResponse({"code": -1000, "msg": message}, status_code=status)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """A fault of the simulator itself: said in one line, without a traceback to the client."""
    what = error.what if isinstance(error, OihedgeError) else type(error).__name__
    return JSONResponse({"code": -1000, "msg": f"the simulated venue failed: {what}"}, status_code=500)


class LoopbackServer:
    """Serve a market on 127.0.0.1 from a thread of its own, for as long as the `with` block lasts."""

    def __init__(
        self,
        market: EmbeddedMarket,
        clock: Clock,
        port: int = 0,
        archive: Path | None = None,
    ) -> None:
        """Make ready; `port` 0 takes a free one, `archive` is the folder shown below /vision."""
        config = uvicorn.Config(
            create_app(market, clock, archive),
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=30,
        )
        self._server, self._port = uvicorn.Server(config), port
        self._market, self._clock = market, clock
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The root that ccxt's `urls['api']` is pointed at."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        """Bring the market up to the present, then start to listen.

        Raises:
            ConfigError: if the port is taken.
        """
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, self._port))
        except OSError as error:
            listening.close()
            raise ConfigError(
                f"the embedded market cannot listen on {HOST}:{self._port}: {error.strerror}", do="choose another port"
            ) from error
        self._socket, self._port = listening, listening.getsockname()[1]
        self._market.extend(self._clock.now())
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="embedded-market", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, at once also for clients that keep connections open."""
        self._server.should_exit = self._server.force_exit = True
        if self._thread:
            self._thread.join(timeout=5.0)
        if self._socket:
            self._socket.close()
