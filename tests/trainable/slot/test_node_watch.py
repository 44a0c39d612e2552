"""The watch over a node, against a metadata server that this process serves."""

import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainable.slot.cloud_notice import AWS, GOOGLE, Taken, find_cloud
from trainable.slot.node_watch import NodeWatch
from trainable.slot.notice import Notice

VARIABLES = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED", "GCE_METADATA_HOST", "http_proxy")
ACTION = "/latest/meta-data/spot/instance-action"
PREEMPTED = "/computeMetadata/v1/instance/preempted"
NONE = Path("/nonexistent")


class Server:
    """Answers what `answers` holds by path, 404 to all else; AWS's only with the token that it gave."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []
        self.server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                wants_token = "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
                self.reply("a-token" if self.path == "/latest/api/token" and wants_token else None)

            def do_GET(self) -> None:
                server.asked.append(self.path)
                trusted = self.headers.get("X-aws-ec2-metadata-token") == "a-token" or (
                    self.headers.get("Metadata-Flavor") == "Google"
                )
                self.reply(server.answers.get(self.path) if trusted else None)

            def reply(self, text: str | None) -> None:
                self.send_response(404 if text is None else 200)
                self.end_headers()
                self.wfile.write((text or "").encode())

            def log_message(self, *_: Any) -> None: ...

        return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_aws_says_what_it_will_do_and_when(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{server.host}/")
    cloud = find_cloud(NONE)
    assert cloud is not None
    assert cloud() is None

    server.answers[ACTION] = json.dumps({"action": "terminate", "time": "2026-11-24T12:00:00Z"})
    noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC).timestamp()
    assert cloud() == Taken("AWS will terminate its instance at 2026-11-24T12:00:00Z", noon)
    server.answers[ACTION] = "soon"
    assert cloud() == Taken("AWS will take its instance back: soon")


def test_google_says_whether(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", server.host)
    cloud = find_cloud(NONE)
    assert cloud is not None

    server.answers[PREEMPTED] = "FALSE"
    assert cloud() is None
    server.answers[PREEMPTED] = "TRUE"
    assert cloud() == Taken("Google Cloud takes its instance back")


def test_only_a_machine_of_a_cloud_asks_one(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = tmp_path / "sys_vendor"
    found = []
    for text in ("LENOVO\n", f"{AWS}\n", f"{GOOGLE}\n"):
        vendor.write_text(text)
        found.append(find_cloud(vendor) is not None)
    assert found == [False, True, True]
    assert find_cloud(NONE) is None

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    vendor.write_text(AWS)
    assert find_cloud(vendor) is None


def watch(notice: Notice, **more: Any) -> tuple[NodeWatch, list[Taken]]:
    drained: list[Taken] = []
    parts = {"draining": lambda: None, "cloud": None, "drain": drained.append, **more}
    return NodeWatch(notice, **parts), drained


def test_what_the_cloud_says_is_the_notice_and_is_passed_on_to_ray(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{server.host}")
    notice, waits = Notice(), []
    watcher, drained = watch(notice, cloud=find_cloud(NONE))

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            server.answers[ACTION] = json.dumps({"action": "stop", "time": "2026-11-24T12:00:00Z"})

    watcher.run(wait)

    assert notice.reason == "AWS will stop its instance at 2026-11-24T12:00:00Z"
    assert [taken.reason for taken in drained] == [notice.reason]
    assert server.asked == [ACTION] * 4


def test_a_node_that_ray_drains_gives_notice_and_is_not_drained_again() -> None:
    notice = Notice()
    watcher, drained = watch(notice, draining=lambda: "Ray drains its node")
    watcher.run()

    assert (notice.reason, drained) == ("Ray drains its node", [])


def test_who_does_not_answer_is_asked_again() -> None:
    answers = iter([OSError("timed out"), Taken("Google Cloud takes its instance back")])

    def cloud() -> Taken:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def gone(*_: Any) -> None:
        raise RuntimeError("Ray's server is away")

    notice = Notice()
    watcher, _ = watch(notice, draining=gone, cloud=cloud, drain=gone)
    watcher.look()
    assert notice.reason is None
    watcher.look()
    assert notice.reason == "Google Cloud takes its instance back"
