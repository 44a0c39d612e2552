"""The served report in a real browser: it refreshes itself when the ledger grows, and stays as the reader left it."""

import json
import shutil
import subprocess
from dataclasses import replace
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from analysis import live
from search.ledger import LedgerWriter

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")]

PROBE = """<script>
addEventListener("error", (event) => fetch("state?error=" + encodeURIComponent(event.message)));
addEventListener("securitypolicyviolation", (event) => fetch("state?error=" + encodeURIComponent(event.blockedURI)));
const told = () => ({
  version: SHOWN,
  top: scrollY,
  theme: document.documentElement.dataset.theme,
  sorted: document.querySelector("table.sortable").tHead.rows[0].cells[1].ariaSort,
  found: document.querySelector("#found").textContent,
});
if (!sessionStorage.getItem("first")) {
  sessionStorage.setItem("first", SHOWN);
  document.querySelector("table.sortable").tHead.rows[0].cells[1].firstElementChild.click();
  document.querySelector("button.theme").click();
  scrollTo({ top: 700, behavior: "instant" });
}
fetch("state?told=" + encodeURIComponent(JSON.stringify(told())));
</script>"""


class Probed(live.Live):
    """A report with a script that tells the server what the reader sees."""

    def _draw(self):
        shown = super()._draw()
        head, end, tail = shown.html.rpartition("</body>")
        return replace(shown, html=f"{head}{PROBE}{end}{tail}")


def test_it_refreshes_itself_and_stays_where_it_was(make, tmp_path, monkeypatch, eventually):
    asked = []
    monkeypatch.setattr(
        live._Handler, "log_request", lambda self, *_: asked.append(parse_qs(urlsplit(self.path).query))
    )
    path = make(trials=6, until_seconds=20)
    report = Probed([str(path)])
    report.look()

    def told():
        return [json.loads(query["told"][0]) for query in asked if "told" in query]

    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,800"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0"]
    with live.serve(report, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        browser = subprocess.Popen([*command, server.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert eventually(told, 120)
            with LedgerWriter(path / "ledger.jsonl") as ledger:
                ledger.report(next(iter(ledger.trials)), {"epoch": 7, "val_accuracy": 0.95})
            report.look()
            assert eventually(lambda: len(told()) > 1, 120)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
            thread.join()
    first, second = told()[:2]
    assert second == {**first, "version": report.shown.version, "found": second["found"]}
    assert first["top"] == 700
    assert first["theme"] in ("light", "dark")
    assert first["sorted"] == "ascending"
    assert "had not ended" in first["found"]
    assert "glance-report" not in first["found"]
    assert not [query for query in asked if "error" in query]
