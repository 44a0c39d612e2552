import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.quiet import Quiet


def test_what_is_written_to_the_descriptors_goes_to_the_log_and_the_terminal_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Quiet(tmp_path) as quiet:
        os.write(1, b"from C++\n")
        os.write(2, b"and from stderr\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        print("the search", file=quiet.terminal)
        quiet.keep(tmp_path / "ray.log")
        os.write(2, b"later\n")
    print("afterwards")

    captured = capfd.readouterr()
    assert captured.out == "the search\nafterwards\n"
    assert captured.err == ""
    assert (tmp_path / "ray.log").read_text() == "from C++\nand from stderr\nfrom a child\nlater\n"


def test_a_log_is_kept_on_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def across_file_systems(path: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "replace", across_file_systems)
    with Quiet(tmp_path) as quiet:
        os.write(1, b"first\n")
        quiet.keep(tmp_path / "ray.log")
        os.write(2, b"later\n")

    assert [path.name for path in tmp_path.iterdir()] == ["ray.log"]
    assert (tmp_path / "ray.log").read_text() == "first\nlater\n"


def test_a_log_that_nobody_keeps_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), Quiet(tmp_path):
        raise ValueError("broken")

    assert list(tmp_path.iterdir()) == []


def test_an_error_that_passes_through_is_printed_to_the_terminal(tmp_path: Path) -> None:
    script = f"from search.quiet import Quiet\nwith Quiet(__import__('pathlib').Path({str(tmp_path)!r})):\n    1 / 0"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "ZeroDivisionError" in done.stderr
