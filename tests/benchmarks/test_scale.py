"""The arithmetic of docs/scale.md against what it stands for."""

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import Checkpoint, Sink, requests_of
from trainable.storage import s3
from trainable.storage.s3 import S3Storage

PART = 5 << 20
"""The least that S3 takes as a part."""


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a server that stands in for S3 is asked, with small parts."""
    asked: list[str] = []

    class Counting(Sink):
        def _answer(self, text: str) -> None:
            asked.append(self.command)
            super()._answer(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    for module in (scale, s3):
        monkeypatch.setattr(module, "PART_BYTES", PART)
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("size", [1, PART - 1, PART, 2 * PART + 1])
def test_an_epoch_is_counted_as_as_many_requests_as_its_uploads_make(
    size: int, requests: list[str], tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").write_bytes(b"0" * size)
    (tmp_path / "weights").write_bytes(b"0" * (size // 3))
    storage = S3Storage("s3://bucket/experiment")
    storage.put_file("last", tmp_path / "checkpoint")
    storage.put("state.json", b"{}")
    storage.put_file("best", tmp_path / "weights")
    deletes = 1

    checkpoint = Checkpoint(towers="x", parameters=1, checkpoint_bytes=size, weights_bytes=size // 3, measured=False)
    counted = requests_of(checkpoint, slots=1, best_share=1.0, epoch_seconds=1.0)
    assert counted.puts_per_second == len(requests) + deletes
    assert counted.node_megabytes_per_second == pytest.approx(8 * (size + size // 3) / 1e6)
