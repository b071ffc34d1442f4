"""A small HTTP service on 127.0.0.1 whose answers a test writes down: by path, or in turn and the last for ever."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from fakes.http_service import HttpService


@dataclass(frozen=True)
class Reply:
    """What goes over the wire; `cut` promises more bytes than are sent, `wait_s` comes before the first of them."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    wait_s: float = 0.0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class WebService(HttpService):
    """Context manager; `requests` lists (path with parameters, headers, body) of what was asked."""

    def __init__(self, *replies: Reply, paths: dict[str, bytes] | None = None) -> None:
        """Answer with `replies` in turn, or serve `paths` and 404 for every other."""
        self.replies, self.paths = list(replies), paths
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._lock = threading.Lock()

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, without parameters."""
        return [path.split("?")[0] for path, _, _ in self.requests]

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            self.requests.append((handler.path, dict(handler.headers), body))
            reply = self._reply(handler.path.split("?")[0])
        time.sleep(reply.wait_s)
        self.send(handler, reply.status, reply.headers, reply.content, cut=reply.cut)

    def _reply(self, path: str) -> Reply:
        if self.paths is not None:
            return Reply(self.paths[path]) if path in self.paths else Reply(b"none", 404)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
