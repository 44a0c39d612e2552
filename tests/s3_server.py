"""moto's S3 server, and a proxy before it that fails as it is told: requests at random, or all for a while."""

import contextlib
import random
import socket
import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "glance"


class Proxy:
    """Passes requests on to a server.

    Of those, a `share` fails: half are answered with 503 and do not reach the server, half reach it and their answers
    are lost. While it is `down`, nobody listens at its port, and connections that are open are cut.
    """

    def __init__(self, host: str, port: int) -> None:
        self.share = 0.0
        self.failed = 0
        self.passed: list[tuple[str, str]] = []
        """Method and path of each request that was answered."""
        self.refused = 0
        """Connections cut, or requests refused, while it was down."""
        self._server = (host, port)
        self._draw = random.Random(0)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._down = threading.Event()
        self._listener = self._listen(0)
        self.port = self._listener.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def go_down(self) -> None:
        """Stop listening, and cut what is open."""
        self._down.set()
        self._listener.shutdown()
        self._listener.server_close()
        with self._lock:
            for connection in self._open:
                self.refused += 1
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def come_up(self) -> None:
        self._down.clear()
        self._listener = self._listen(self.port)

    def close(self) -> None:
        if not self._down.is_set():
            self.go_down()

    def fate(self) -> str:
        """`pass`, `refuse` or `lose`, for the next request."""
        with self._lock:
            drawn = self._draw.random()
            if drawn >= self.share:
                return "pass"
            self.failed += 1
            return "refuse" if drawn < self.share / 2 else "lose"

    def _listen(self, port: int) -> "_Listener":
        server = _Listener(("127.0.0.1", port), _Handler)
        server.proxy = self
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


class _Listener(ThreadingHTTPServer):
    """The port of a proxy."""

    daemon_threads = True
    proxy: Proxy


class _Handler(BaseHTTPRequestHandler):
    """One connection to a proxy."""

    server: _Listener
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.server.proxy._lock:
            self.server.proxy._open.add(self.connection)

    def finish(self) -> None:
        with self.server.proxy._lock:
            self.server.proxy._open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def _pass_on(self) -> None:
        proxy, body = self.server.proxy, self._read_body()
        fate = "refuse" if proxy._down.is_set() else proxy.fate()
        if fate == "refuse":
            self._answer(503, [], b"")
            return
        connection = HTTPConnection(*proxy._server, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            headers.pop("Transfer-Encoding", None)
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException):
            self._answer(502, [], b"")
            return
        finally:
            connection.close()
        if fate == "lose":
            self.close_connection = True
            return
        with proxy._lock:
            proxy.passed.append((self.command, self.path))
        self._answer(response.status, response.getheaders(), answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        told = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", told if self.command == "HEAD" and told else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass
