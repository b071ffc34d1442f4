"""A small HTTP service on 127.0.0.1 whose answers a test writes down: by path, or in turn and the last for ever."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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


class WebService:
    """Context manager; `requests` lists (path with parameters, headers, body) of what was asked."""

    def __init__(self, *replies: Reply, paths: dict[str, bytes] | None = None) -> None:
        """Answer with `replies` in turn, or serve `paths` and 404 for every other."""
        self.replies, self.paths = list(replies), paths
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> WebService:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or each answer waits for a delayed ACK

            def do_GET(self) -> None:
                service._serve(self, b"")

            def do_POST(self) -> None:
                service._serve(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, without parameters."""
        return [path.split("?")[0] for path, _, _ in self.requests]

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            self.requests.append((handler.path, dict(handler.headers), body))
            reply = self._reply(handler.path.split("?")[0])
        time.sleep(reply.wait_s)
        handler.send_response(reply.status)
        handler.send_header("Content-Length", str(len(reply.content) + (50 if reply.cut else 0)))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.content)
        handler.wfile.flush()
        if reply.cut:
            handler.close_connection = True

    def _reply(self, path: str) -> Reply:
        if self.paths is not None:
            return Reply(self.paths[path]) if path in self.paths else Reply(b"none", 404)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
