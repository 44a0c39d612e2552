"""What a search says of a bucket that it cannot use, before Ray is started."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.bucket import WITHOUT, BucketPlace, scratch_folder, working_folder
from search.command_line import parse_options
from search.experiment import Experiment
from search.place import FolderPlace
from search.run import main
from tests.s3_server import Proxy
from trainable.errors import ExperimentError
from trainable.storage.lease import Lease
from trainable.storage.storage import open_storage

PLACE = "s3://glance/results"
MANIFEST = {"options": {}, "dataset": {"name": "faces"}, "algorithm": "random"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Proxy) -> None:
    monkeypatch.setenv("GLANCE_CACHE", str(tmp_path / "cache"))


def test_a_bucket_that_is_not_there_ends_the_command_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--storage", "s3://nosuchbucket/results", "--trials", "1"]) == 2
    assert "but there is no 'nosuchbucket'" in capsys.readouterr().err


def test_a_bucket_that_nobody_serves_ends_the_command_with_a_sentence(
    s3: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.go_down()
    assert main(["--storage", PLACE, "--trials", "1"]) == 2
    assert f"reachable at {s3.url}" in capsys.readouterr().err


def test_credentials_that_are_missing_end_the_command_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["--storage", PLACE, "--trials", "1"]) == 2
    assert "needs credentials" in capsys.readouterr().err


def test_a_name_that_the_bucket_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    open_storage(PLACE).put("x/experiment.json", b"{}")

    assert main(["--storage", PLACE, "--name", "x", "--trials", "1"]) == 2
    assert f"{PLACE}/x holds one" in capsys.readouterr().err


def test_a_search_that_goes_on_asks_what_the_bucket_says_it_was_asked() -> None:
    asked = parse_options(["--storage", PLACE, "--trials", "7", "--seed", "3"])
    manifest = {"options": {**asked.to_dict(), "name": "x"}}
    open_storage(PLACE).put("x/experiment.json", json.dumps(manifest).encode())
    options = parse_options(["--resume", f"{PLACE}/x/", "--trials", "9"])

    assert (options.trials, options.seed, options.storage, options.name) == (9, 3, PLACE, "x")
    assert options.resume == str(working_folder(PLACE) / "x")
    with pytest.raises(ExperimentError, match="has none"):
        parse_options(["--resume", f"{PLACE}/nothing"])


@pytest.mark.parametrize("manifest", [b"{", b"[]"])
def test_a_garbled_manifest_in_a_bucket_is_a_sentence(manifest: bytes) -> None:
    open_storage(PLACE).put("x/experiment.json", manifest)
    with pytest.raises(ExperimentError, match=f"{PLACE}/x/experiment.json must hold a JSON object, but"):
        parse_options(["--resume", f"{PLACE}/x/"])


def test_a_search_that_another_one_writes_to_is_not_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    asked = parse_options(["--storage", PLACE])
    storage = open_storage(PLACE)
    storage.put("x/experiment.json", json.dumps({"options": {**asked.to_dict(), "name": "x"}}).encode())
    lease = Lease(storage, "x/lease.json", print)

    assert main(["--resume", f"{PLACE}/x"]) == 2
    assert "only one search may write" in capsys.readouterr().err
    lease.release()


def test_a_search_that_lost_its_bucket_to_another_uploads_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    signals: list[int] = []
    monkeypatch.setattr("search.bucket.os.kill", lambda pid, number: signals.append(number))
    place = BucketPlace(PLACE)
    place.require_usable("x")
    experiment = Experiment.create(place.folder, "x", MANIFEST)
    storage = open_storage(PLACE)
    with place.mirrored(experiment, said.append):
        assert place._lease is not None
        storage.put("x/lease.json", b'{"id": "another"}')
        place._lease.renew()
        (experiment.path / "ledger.jsonl").write_text("{}\n")
    place.close()

    assert len(signals) == 1
    assert "another search has taken s3://glance/results/x; this one ends" in said[0]
    assert "x/ledger.jsonl" not in storage.sizes("x/")
    assert storage.get("x/lease.json") == b'{"id": "another"}'


def test_what_could_not_be_uploaded_is_said_with_where_it_lies(
    s3: Proxy, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    monkeypatch.setattr("search.bucket.QUIET_SECONDS", 0.2)
    monkeypatch.setattr("search.bucket.PATIENCE_SECONDS", 0.2)
    said: list[str] = []
    place = BucketPlace(PLACE)
    experiment = Experiment.create(place.folder, "x", MANIFEST)
    with place.mirrored(experiment, said.append):
        assert eventually(lambda: "x/experiment.json" in open_storage(PLACE).sizes("x/"))
        s3.go_down()
        (experiment.path / "ledger.jsonl").write_text("{}\n")
    s3.come_up()
    place.close()

    assert "could not be delivered to s3://glance/results/x" in said[-1]
    assert f"they lie in {experiment.path}" in said[-1]
    again = BucketPlace(PLACE)
    again.go_on_with("x")
    assert (experiment.path / "ledger.jsonl").read_text() == "{}\n"
    again.close()


def test_late_uploads_of_trials_that_ended_are_tidied_away() -> None:
    place = BucketPlace(PLACE)
    storage = open_storage(PLACE)
    experiment = Experiment(place.folder / "x")
    for trial in ("kept", "lost", "going"):
        for key in ("state.json", "last/v/c", "best/v/m"):
            storage.put(f"x/checkpoints/{trial}/{key}", b"")
    place.tidy(["kept"], ["going"], experiment)

    left = sorted(key.removeprefix("x/checkpoints/") for key in storage.sizes("x/"))
    assert left == ["going/best/v/m", "going/last/v/c", "going/state.json", "kept/best/v/m", "kept/state.json"]


def test_a_folder_asks_nothing_more_of_anybody(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "results" / "x")
    place = FolderPlace(tmp_path / "results")

    assert place.slot_settings(experiment)["checkpoints"] == str(experiment.checkpoints)
    assert "desk" not in place.slot_settings(experiment)
    assert place.address(experiment) == str(experiment.path)
    with place.connected(print), place.mirrored(experiment, print):
        place.gather([], experiment)
        place.tidy([], [], experiment)
    assert not experiment.path.exists()


def test_checkpoints_are_no_part_of_the_mirror_and_lie_in_one_folder_on_every_node(tmp_path: Path) -> None:
    settings = BucketPlace(PLACE).slot_settings(Experiment(tmp_path / "x"))

    assert "checkpoints" in WITHOUT
    assert settings["prefix"] == "x/checkpoints"
    assert Path(settings["checkpoints"]).parent == scratch_folder()
    assert settings["checkpoints"] != BucketPlace(f"{PLACE}2").slot_settings(Experiment(tmp_path / "x"))["checkpoints"]
