"""A small HTTP server on 127.0.0.1 in a thread of its own; what it answers is its subclass's business."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class HttpService:
    """Context manager; `url` is its address."""

    def __enter__(self) -> Self:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or each answer waits for a delayed ACK

            def do_GET(self) -> None:
                service.serve(self, b"")

            def do_POST(self) -> None:
                service.serve(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request by `send`."""
        raise NotImplementedError

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, *, cut: bool
    ) -> None:
        """Send an answer; `cut` promises more bytes than are sent, then hangs up."""
        handler.send_response_only(status)
        for name, value in ({"Date": handler.date_time_string()} | headers).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) + (100 if cut else 0)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()
        handler.close_connection = handler.close_connection or cut
