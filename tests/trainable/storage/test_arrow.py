import threading
from pathlib import Path

import pytest
from pyarrow import fs

from trainable.errors import StorageError
from trainable.storage.arrow import ArrowStorage
from trainable.storage.storage import MissingObjectError, NoPermissionError, Storage, is_remote, open_storage, split_uri


@pytest.fixture(params=["file", "memory", "mock"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """The same verbs over pyarrow's local file system, one of fsspec's, and pyarrow's mock."""
    if request.param == "mock":
        return ArrowStorage("mock://", fs._MockFileSystem())
    place = {"file": tmp_path.as_uri(), "memory": f"memory://{tmp_path.name}"}[request.param]
    return open_storage(f"{place}/results/")


def test_what_is_put_is_read_listed_and_deleted(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w" * 10)
    storage.put("demo/a.json", b"{}")
    storage.put_file("demo/last/weights", tmp_path / "weights")

    assert storage.get("demo/a.json") == b"{}"
    assert storage.sizes("demo/") == {"demo/a.json": 2, "demo/last/weights": 10}
    assert storage.sizes("demo/la") == {"demo/last/weights": 10}
    assert storage.sizes("demonstration/") == {}

    storage.get_file("demo/last/weights", tmp_path / "copies" / "w")
    assert (tmp_path / "copies" / "w").read_bytes() == b"w" * 10

    storage.delete(["demo/a.json", "demo/never"])
    assert list(storage.sizes()) == ["demo/last/weights"]


def test_an_absent_object_is_told_apart_and_leaves_no_file(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="must exist"):
        storage.get("nothing")
    with pytest.raises(MissingObjectError):
        storage.get_file("nothing", tmp_path / "copies" / "nothing")

    assert storage.hold("nothing") is None
    assert not list((tmp_path / "copies").iterdir())


def test_an_object_is_created_once_and_replaced_only_in_the_version_that_was_read(storage: Storage) -> None:
    assert storage.create("lease", b"mine")
    assert not storage.create("lease", b"yours")
    held = storage.hold("lease")
    assert held is not None
    assert held.data == b"mine"

    assert storage.replace("lease", b"mine again", held.version)
    assert not storage.replace("lease", b"yours", held.version)
    assert storage.get("lease") == b"mine again"


def test_a_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    whole = {bytes([n]) * 1_000_000 for n in (1, 2)}
    storage.put("x", min(whole))
    seen: set[bytes] = set()
    writer = threading.Thread(target=lambda: [storage.put("x", data) for _ in range(20) for data in whole])
    writer.start()
    while writer.is_alive():
        seen.add(storage.get("x"))
    writer.join()

    assert seen <= whole


def test_a_place_that_may_not_be_written_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        type_name = "gcs"

        def open_output_stream(self, path: str) -> None:
            raise PermissionError("forbidden")

    storage = open_storage(tmp_path.as_uri())
    monkeypatch.setattr(storage, "_files", Refusing())
    monkeypatch.setattr(storage, "_whole_at_once", True)

    with pytest.raises(NoPermissionError, match="credentials"):
        storage.put("x", b"")


def test_an_address_that_nothing_installed_can_open_is_refused() -> None:
    with pytest.raises(StorageError, match="pyarrow or an installed package of fsspec"):
        open_storage("nosuchscheme://place/x")


def test_an_experiments_address_has_a_place_and_a_name() -> None:
    assert split_uri("s3://bucket/results/demo/") == ("s3://bucket/results", "demo")
    assert split_uri("s3://bucket/demo") == ("s3://bucket", "demo")
    with pytest.raises(StorageError, match="like s3://"):
        split_uri("s3://bucket")


@pytest.mark.parametrize(("place", "remote"), [("s3://b/x", True), ("gs://b", True), ("results", False), ("/x", False)])
def test_an_address_is_told_from_a_folder(place: str, remote: bool) -> None:
    assert is_remote(place) is remote
