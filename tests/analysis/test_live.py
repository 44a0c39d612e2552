import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from analysis.live import Live, serve
from search.ledger import LedgerWriter
from trainable.errors import ConfigError
from trainable.storage.mirror import Mirror
from trainable.storage.storage import open_storage
from trainable.storage.uploader import Uploader

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(live, host="127.0.0.1"):
    """Asks a server of `live`: path and headers -> status, headers, text."""
    with serve(live, host, 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask(path="/", method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def state(ask):
    return json.loads(ask("/state")[2])


def report_more(path, epoch, value):
    """A further report of the first trial."""
    with LedgerWriter(path / "ledger.jsonl") as ledger:
        ledger.report(next(iter(ledger.trials)), {"epoch": epoch, "val_accuracy": value})


def test_the_page_follows_the_ledger_and_is_drawn_only_when_that_grew(make):
    path = make(trials=3, until_seconds=8)
    live = Live([str(path)])
    with serving(live) as ask:
        assert "Nothing to show yet" in ask()[2]
        assert live.look()
        first = state(ask)
        assert first["running"]
        assert f'SHOWN = "{first["version"]}"' in ask()[2]
        assert not live.look()
        report_more(path, 3, 0.987)
        assert live.look()
        assert state(ask)["version"] != first["version"]
        assert "0.987" in ask()[2]


def test_the_served_page_may_ask_its_server_and_nobody_else(demo):
    live = Live([str(demo)])
    live.look()
    with serving(live) as ask:
        status, headers, html = ask()
    assert (status, headers["Cache-Control"], headers["X-Frame-Options"]) == (200, "no-store", "DENY")
    assert "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'" in html
    assert html.count("Content-Security-Policy") == 1
    assert 'fetch("state"' in html
    assert "Access-Control-Allow-Origin" not in headers


def test_a_search_that_ends_says_so_and_stays_served(make):
    path = make(trials=2, until_seconds=5)
    live = Live([str(path)])
    live.look()
    assert live.shown.note == "the search runs"
    with LedgerWriter(path / "ledger.jsonl") as ledger:
        ledger.search_ended("TIME_BUDGET")
    with serving(live) as ask:
        assert live.look()
        assert (state(ask)["note"], state(ask)["running"]) == ("the search has ended: time budget", False)
        assert ask()[0] == 200


def test_a_search_that_has_not_begun_is_waited_for(make, tmp_path):
    live = Live([str(tmp_path / "later")])
    live.look()
    assert "must hold experiment.json" in live.shown.note
    assert "Nothing to show yet" in live.shown.html
    make("later", trials=2)
    assert live.look()
    assert live.shown.note == "the search has ended: completed"


def test_a_torn_line_costs_nothing_and_a_broken_one_keeps_the_last_page(make):
    path = make(trials=2, until_seconds=9)
    live = Live([str(path)])
    live.look()
    before = live.shown
    ledger = path / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"event": "repo')
    live.look()
    assert live.shown.note == "the search runs"
    ledger.write_bytes(whole + b'{"event": "repo\n' + whole.splitlines(keepends=True)[-1])
    live.look()
    assert "but line" in live.shown.note
    assert live.shown.html.partition("<main>")[2][:200] == before.html.partition("<main>")[2][:200]
    ledger.write_bytes(whole)
    live.look()
    assert live.shown.note == "the search runs"


@pytest.mark.parametrize("path", ["/../experiment.json", "/experiment.json", "/%2e%2e/ledger.jsonl", "//etc/passwd"])
def test_no_path_leads_to_a_file(demo, path):
    live = Live([str(demo)])
    with serving(live) as ask:
        assert ask(path)[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("192.168.7.7:80", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_a_name_of_elsewhere_is_refused(demo, host, status):
    with serving(Live([str(demo)])) as ask:
        found, _, text = ask("/", Host=host)
        assert found == status
        assert status == 200 or "open that address" in text
        assert ask("/state", Host=host)[0] == status


def test_only_reading_is_served(demo):
    with serving(Live([str(demo)])) as ask:
        assert ask(method="POST")[0] == 501
        status, headers, text = ask(method="HEAD")
        assert (status, text) == (200, "")
        assert int(headers["Content-Length"]) > 100


def test_several_experiments_are_served_side_by_side(make):
    live = Live([str(make("a", trials=2)), str(make("b", trials=2, seed=5))])
    live.look()
    assert "Glance comparison" in live.shown.html


def test_an_experiment_in_a_bucket_is_looked_at_seldom(demo, s3):
    mirror = Mirror(open_storage("s3://glance/results"), "demo", demo, Uploader(), without=("report.html", "figures"))
    mirror.close(30)
    live = Live(["s3://glance/results/demo"])
    assert live.look()
    assert live.shown.note == "the search has ended: completed"
    assert live.pause >= 15
    assert not live.look()


def test_an_address_that_cannot_be_had_is_a_sentence(demo):
    live = Live([str(demo)])
    with serve(live, "127.0.0.1", 0) as server, pytest.raises(ConfigError, match="must be free on this machine"):
        serve(live, "127.0.0.1", server.server_port)
    with pytest.raises(ConfigError, match="must be free on this machine"):
        serve(live, "no.such.host.invalid", 0)


def heed_ctrl_c():
    """A process in the background inherits that it is to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.e2e
def test_the_command_serves_until_ctrl_c_and_exits_0(make, eventually):
    path = make(trials=2, until_seconds=5)
    command = [sys.executable, "analysis/report.py", str(path), "--watch"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ, preexec_fn=heed_ctrl_c
    ) as process:
        try:
            address = process.stdout.readline().split()[1]
            assert address.startswith("http://127.0.0.1:")
            port = int(address.rstrip("/").rpartition(":")[2])

            def ask(path):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", path)
                return connection.getresponse().read().decode()

            assert eventually(lambda: json.loads(ask("/state"))["note"] == "the search runs")
            before = json.loads(ask("/state"))["version"]
            report_more(path, 3, 0.9)
            assert eventually(lambda: json.loads(ask("/state"))["version"] != before)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not (path / "report.html").exists()
