import json
from pathlib import Path

import pytest

from trainable.files import write_atomically, write_json


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_written_readably(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"감정": 1})

    text = (tmp_path / "a" / "b.json").read_text(encoding="utf-8")
    assert "감정" in text
    assert json.loads(text) == {"감정": 1}
