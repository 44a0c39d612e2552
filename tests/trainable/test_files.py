import json
from pathlib import Path

import pytest

from trainable.errors import ConfigError, ExperimentError
from trainable.files import link_or_copy, read_json, remove_folder, user_path, write_atomically, write_json


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


def test_a_file_has_the_permissions_of_any_new_file_whoever_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()

    def write_privately(temporary: Path) -> None:
        temporary.unlink()
        temporary.touch(mode=0o600)

    write_atomically(tmp_path / "written", write_privately)

    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_is_written_readably(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"감정": 1})

    text = (tmp_path / "a" / "b.json").read_text(encoding="utf-8")
    assert "감정" in text
    assert json.loads(text) == {"감정": 1}


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert user_path("~/run") == tmp_path / "run"
    assert user_path("run~") == Path("run~")


def test_the_home_of_nobody_is_named() -> None:
    with pytest.raises(ConfigError, match="'~nobody-of-that-name/run'"):
        user_path("~nobody-of-that-name/run")


def test_json_is_read_back_and_what_is_none_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    assert read_json(path) is None
    write_json(path, {"epoch": 3})
    assert read_json(path) == {"epoch": 3}
    for text, why in (("{", "but: Expecting"), ("[1]", "but holds a list"), ("\udcff", "but: ")):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ExperimentError, match=f"best.json must hold a JSON object, {why}"):
            read_json(path)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_second_name_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*names: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    first, second = tmp_path / "first", tmp_path / "second"
    write_json(first, {"epoch": 1})
    link_or_copy(first, second)
    assert first.samefile(second) == links
    write_json(first, {"epoch": 2})
    assert (read_json(first), read_json(second)) == ({"epoch": 2}, {"epoch": 1})


def test_a_file_that_is_gone_has_no_second_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "gone", tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_folder_that_is_gone_already_is_removed_without_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    remove_folder(tmp_path / "a")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
