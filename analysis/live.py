"""The report over HTTP, refreshed while the search runs.

The page that is served is the offline one with a script that asks the server for news, and a policy that lets it. Two
paths are served, both from memory, so that no path leads to a file; and only to whoever asks by an address or a name of
this machine, so that no page of elsewhere can have its own name lead here (DNS rebinding).
"""

import json
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from threading import Thread
from urllib.parse import urlsplit

from analysis.sources import opened
from analysis.templating import asset, render_template
from trainable.errors import ConfigError, GlanceError
from trainable.files import user_path
from trainable.storage.storage import is_remote, open_storage, split_uri

LOOK_SECONDS = 1.0
"""Between two looks at a folder."""
LOOK_FAR_SECONDS = 15.0
"""Between two looks at a storage."""
REST_SECONDS = 3.0
"""At least so long after a page was drawn, and as long as that took, no other is."""
_POLICY = "default-src 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Shown:
    """What is served."""

    version: str
    """Differs between any two pages, also of two servers."""
    html: str
    running: bool
    note: str
    """How the search stands, or what is the matter."""

    @property
    def state(self) -> str:
        """What the page asks for, as JSON."""
        return json.dumps({"version": self.version, "running": self.running, "note": self.note}, ensure_ascii=False)


class Live:
    """The page of one experiment, or of several side by side, as they are now."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = list(places)
        self._seen: object = None
        self._begun, self._drawn = time.time_ns(), 0
        self.pause = 0.0
        """How long to wait before the next look, in seconds."""
        self.shown = self._waiting("reading the experiment")

    def look(self) -> bool:
        """Draw the page anew where an experiment has changed; says whether what is shown is another.

        Where an experiment has not begun, or cannot be read just now, the last page stays, with a note that says why.
        """
        before, start = self.shown, time.monotonic()
        far = any(map(is_remote, self._places))
        try:
            seen = [_traces(place) for place in self._places]
            if seen != self._seen:
                self.shown = self._draw()
                self._seen = seen
            elif before.note != self._note:
                self.shown = replace(before, note=self._note)
        except (GlanceError, OSError) as error:
            self._seen = None
            self.shown = replace(before, note=str(error)) if self._drawn else self._waiting(str(error))
        took = time.monotonic() - start
        rest = max(REST_SECONDS, took) if self.shown.version != before.version else LOOK_SECONDS
        self.pause = max(rest, LOOK_FAR_SECONDS) if far else rest
        return self.shown != before

    def _draw(self) -> Shown:
        html, states = _page(self._places)
        self._drawn += 1
        running = any(state in ("PENDING", "RUNNING") for state in states)
        ended = ", ".join(dict.fromkeys(state.lower().replace("_", " ") for state in states))
        self._note = "the search runs" if running else f"the search has ended: {ended}"
        version = f"{self._begun}-{self._drawn}"
        return Shown(version, _asking(html, version), running, self._note)

    def _waiting(self, note: str) -> Shown:
        version = f"{self._begun}-0"
        html = render_template("waiting.html", (), places=self._places, note=note)
        return Shown(version, _asking(html, version), True, note)


def watch(places: Sequence[str], host: str, port: int) -> int:
    """Serve the report until Ctrl-C; port 0 is a free one. Raises `ConfigError` where the address cannot be had."""
    live = Live(places)
    with serve(live, host, port) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        print(f"serving  {server.url}  (Ctrl-C ends it)", flush=True)
        try:
            told = ""
            while True:
                live.look()
                if live.shown.note != told:
                    print(told := live.shown.note, flush=True)
                time.sleep(live.pause)
        except KeyboardInterrupt:
            print(flush=True)
        finally:
            server.shutdown()
            thread.join()
    return 0


def serve(live: Live, host: str, port: int) -> "Server":
    """A server that listens, and has still to be run; raises `ConfigError` where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return Server(live, host, port, family)
    except OSError as error:
        raise ConfigError(
            f"--host and --port must be free on this machine, but {host}:{port}: {error.strerror}. Try --port 0."
        ) from error


class Server(ThreadingHTTPServer):
    """Serves what `Live` shows."""

    daemon_threads = True

    def __init__(self, live: Live, host: str, port: int, family: socket.AddressFamily) -> None:
        self.address_family = family
        self.live = live
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def knows(self, asked: str | None) -> bool:
        """Whether a Host header is an address, or a name of this machine: a name of elsewhere never is."""
        try:
            name = urlsplit(f"//{asked or ''}").hostname or ""
            return name in self._names or bool(ip_address(name))
        except ValueError:
            return False

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page, or with how the search stands."""
        shown, path = self.server.live.shown, urlsplit(self.path).path
        if not self.server.knows(self.headers.get("Host")):
            text = f"This report is served at {self.server.url} only: open that address."
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", text)
        elif path == "/":
            self._answer(HTTPStatus.OK, "text/html", shown.html)
        elif path == "/state":
            self._answer(HTTPStatus.OK, "application/json", shown.state)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "Only the report is served here, at /.")

    def do_HEAD(self) -> None:
        """The same without the content."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        headers = {**_HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing of each request."""


def _traces(place: str) -> object:
    """What differs when an experiment has changed: names, sizes and times of what it is made of."""
    if is_remote(place):
        parent, name = split_uri(place)
        sizes = open_storage(parent).sizes(f"{name}/")
        return {key: size for key, size in sizes.items() if ".json" in key.removeprefix(f"{name}/").partition("/")[0]}
    files = [path for path in sorted(user_path(place).glob("*.json*")) if path.name != "report.json"]
    return [(path.name, status.st_size, status.st_mtime_ns) for path in files for status in [path.stat()]]


def _page(places: Sequence[str]) -> tuple[str, list[str]]:
    """The page, and the state of each experiment."""
    from analysis.comparison import compare
    from analysis.formats import comparison_of, report_of

    with ExitStack() as stack:
        experiments = [stack.enter_context(opened(place)) for place in places]
        if len(experiments) == 1:
            report = report_of(experiments[0], "html")
        else:
            report = comparison_of(compare(experiments), "html")
        return next(iter(report.files.values())).decode(), [one.state for one in experiments]


def _asking(html: str, version: str) -> str:
    """A page that asks where it came from for news, and may."""
    head, policy, rest = html.partition(_POLICY)
    body, end, tail = rest.rpartition("</body>")
    script = f'<script>const SHOWN = "{version}";\n{asset("live.js")}</script>'
    return f"{head}{policy}; connect-src 'self'{body}{script}{end}{tail}"
