"""S3 against moto's server; what moto cannot answer is answered by botocore's stubber."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError
from botocore.stub import Stubber

from tests.s3_server import Proxy
from trainable.errors import StorageError
from trainable.storage.s3 import S3Storage
from trainable.storage.storage import (
    MissingObjectError,
    NoBucketError,
    NoConnectionError,
    NoPermissionError,
    ServerError,
    WrongRegionError,
    open_storage,
)

pytestmark = pytest.mark.usefixtures("s3")


@pytest.fixture
def storage() -> S3Storage:
    return S3Storage("s3://glance/results/")


@pytest.fixture
def stub(storage: S3Storage) -> Stubber:
    stubber = Stubber(storage._client)
    stubber.activate()
    return stubber


def test_what_is_put_is_read_listed_and_deleted(
    storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.storage.s3.PART_BYTES", 1 << 23)
    large = os.urandom(20_000_000)
    (tmp_path / "weights").write_bytes(large)
    storage.put("demo/눈빛 a=1.json", b"{}")
    storage.put_file("demo/last/weights", tmp_path / "weights")
    storage.get_file("demo/last/weights", tmp_path / "copies" / "w")

    assert storage.get("demo/눈빛 a=1.json") == b"{}"
    assert (tmp_path / "copies" / "w").read_bytes() == large
    assert storage.sizes("demo/") == {"demo/눈빛 a=1.json": 2, "demo/last/weights": len(large)}
    assert open_storage("s3://glance").sizes("results/demo/l") == {"results/demo/last/weights": len(large)}
    storage.delete(["demo/눈빛 a=1.json", "demo/last/weights", "demo/never"])
    assert storage.sizes() == {}


def test_more_objects_than_one_request_deletes(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.storage.s3.DELETE_AT_ONCE", 10)
    for number in range(25):
        storage.put(f"many/{number}", b"")

    assert len(storage.sizes("many/")) == 25
    storage.delete(list(storage.sizes("many/")))
    assert storage.sizes("many/") == {}


def test_an_object_is_created_once_and_replaced_only_in_the_version_that_was_read(storage: S3Storage) -> None:
    assert storage.create("lease", b"mine")
    assert not storage.create("lease", b"yours")
    held = storage.hold("lease")
    assert held is not None
    assert 0 <= held.age_seconds < 60
    assert storage.replace("lease", b"mine again", held.version)
    assert not storage.replace("lease", b"yours", held.version)
    assert storage.get("lease") == b"mine again"
    assert not storage.replace("nothing", b"", held.version)
    assert storage.hold("nothing") is None


def test_a_server_without_conditions_is_asked_what_lies_there(storage: S3Storage, stub: Stubber) -> None:
    stub.add_client_error("put_object", "NotImplemented", http_status_code=501)
    stub.add_client_error("get_object", "NoSuchKey")
    stub.add_response("put_object", {})

    assert storage.create("lease", b"mine")
    stub.assert_no_pending_responses()


def test_a_lost_answer_does_not_make_an_object_somebody_elses(storage: S3Storage, s3: Proxy) -> None:
    lost = iter(["lose"])
    s3.fate = lambda: next(lost, "pass")  # type: ignore[method-assign]

    assert storage.create("lease", b"mine")


@pytest.mark.parametrize(
    "verb",
    [
        lambda storage, path: storage.put("x", b""),
        lambda storage, path: storage.put_file("x", path),
        lambda storage, path: storage.sizes(),
        lambda storage, path: storage.create("x", b""),
        lambda storage, path: storage.get("x"),
    ],
)
def test_a_bucket_that_is_not_there_is_told_apart(verb: Callable[[S3Storage, Path], Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    with pytest.raises(NoBucketError, match="there is no 'nosuchbucket'"):
        verb(S3Storage("s3://nosuchbucket/results"), tmp_path / "file")


def test_a_missing_object_is_told_apart_and_leaves_no_file(storage: S3Storage, tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="results/nothing must exist"):
        storage.get("nothing")
    with pytest.raises(MissingObjectError):
        storage.get_file("nothing", tmp_path / "nothing")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_a_refusal_is_told_apart(storage: S3Storage, stub: Stubber, code: str) -> None:
    stub.add_client_error("put_object", code, "not you", http_status_code=403)

    with pytest.raises(NoPermissionError, match=r"reading, writing, listing and deleting.*not you"):
        storage.put("x", b"")


@pytest.mark.parametrize("code", ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
def test_a_bucket_of_another_region_is_told_apart(storage: S3Storage, stub: Stubber, code: str) -> None:
    stub.add_client_error("put_object", code, "expecting 'eu-west-1'", http_status_code=400)

    with pytest.raises(WrongRegionError, match=r"us-east-1.*eu-west-1.*AWS_REGION"):
        storage.put("x", b"")


def test_a_server_in_trouble_is_told_apart(storage: S3Storage, stub: Stubber) -> None:
    for _ in range(2):
        stub.add_client_error("put_object", "SlowDown", http_status_code=503)

    with pytest.raises(ServerError, match="cannot be served now"):
        storage.put("x", b"")


def test_nobody_who_answers_is_told_apart_and_found_again(storage: S3Storage, s3: Proxy, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    s3.go_down()
    for verb in (lambda: storage.put("x", b""), lambda: storage.put_file("x", tmp_path / "file"), storage.sizes):
        with pytest.raises(NoConnectionError, match=f"reachable at {s3.url}"):
            verb()
    s3.come_up()

    storage.put("x", b"")


def test_a_line_that_is_cut_while_an_object_is_read_is_told_apart(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(**_: Any) -> None:
        raise ConnectTimeoutError(endpoint_url="x", error="cut")

    monkeypatch.setattr(storage._client, "get_object", cut)
    with pytest.raises(NoConnectionError):
        storage.get("x")


def test_credentials_that_nobody_has_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NoPermissionError, match="needs credentials"):
        S3Storage("s3://glance/x").put("x", b"")

    monkeypatch.setenv("AWS_PROFILE", "nosuchprofile")
    with pytest.raises(NoPermissionError, match="nosuchprofile"):
        S3Storage("s3://glance/x")


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(StorageError, match="must name its bucket"):
        S3Storage("s3:///results")


def test_one_request_in_five_failing_is_hardly_seen(storage: S3Storage, s3: Proxy, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    s3.share = 0.2
    for number in range(60):
        storage.put_file(f"x/{number}", tmp_path / "file")
    found = storage.sizes("x/")

    assert len(found) == 60
    assert s3.failed > 3
