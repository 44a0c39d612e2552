"""Buckets of S3, and of servers that speak like it."""

import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NotConnected

from trainable.errors import StorageError
from trainable.storage.storage import (
    Held,
    MissingObjectError,
    Moved,
    NoBucketError,
    NoConnectionError,
    NoPermissionError,
    ServerError,
    WrongRegionError,
)

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5
"""Of one request, by botocore, within seconds; what still fails after these is for the caller to try again later."""
DELETE_AT_ONCE = 1000
"""The most that S3 takes in one request."""
PART_BYTES = 1 << 26
"""Objects of this size and more travel in parts of it. Each part is a request: boto3's 8 MiB would make eight times as
many, and 1,000 GPUs with large towers more than S3 takes (docs/scale.md)."""

_UNKNOWN_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
    TokenRetrievalError,
    NoAuthTokenError,
    SSOError,
)
_BROKEN_LINE = (NotConnected, HTTPClientError, IncompleteReadError, ConnectionError, TimeoutError)
_MISSING = ("NoSuchKey", "404", "NotFound")
_REFUSED = (
    *("AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401"),
    *("InvalidToken", "TokenRefreshRequired", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess"),
)
_ELSEWHERE = (
    *("PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
    *("TemporaryRedirect", "307"),
)
_LATER = ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout", "429")
_OVERTAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
_NO_CONDITIONS = ("NotImplemented", "501")


class S3Storage:
    """A `Storage` below s3://bucket/prefix.

    Credentials, region and endpoint are found as boto3 finds them: environment, profile, SSO, web identity, the
    instance's role; `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL` name another server.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if not parts.netloc:
            raise StorageError(f"an address on S3 must name its bucket, such as s3://bucket/prefix, but got {uri!r}.")
        self.uri = uri.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        with self._telling():
            self._client = _client()

    def put(self, key: str, data: bytes) -> None:
        """Write a small object."""
        with self._telling(key):
            self._client.put_object(Bucket=self._bucket, Key=self._whole(key), Body=data)

    def put_file(self, key: str, path: Path, moved: Moved | None = None) -> None:
        """Write an object from a file, a large one in several parts at a time."""
        with self._telling(key):
            name = self._whole(key)
            self._client.upload_file(str(path), self._bucket, name, Config=_in_parts(), Callback=moved)

    def get(self, key: str) -> bytes:
        """Read a small object."""
        with self._telling(key):
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._whole(key))["Body"].read()
            return data

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file, a large one by several ranges at a time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with self._telling(key):
                self._client.download_file(self._bucket, self._whole(key), str(temporary), Config=_in_parts())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part of an object."""
        part = f"bytes={start}-{start + length - 1}"
        with self._telling(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._whole(key), Range=part)
            data: bytes = answer["Body"].read()
            return data

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Key -> bytes of each object whose key begins with `prefix`."""
        skipped = len(self._whole(""))
        with self._telling():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._whole(prefix)
            )
            return {entry["Key"][skipped:]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def delete(self, keys: Collection[str]) -> None:
        """Remove objects, many in one request."""
        names = [{"Key": self._whole(key)} for key in keys]
        for first in range(0, len(names), DELETE_AT_ONCE):
            piece = names[first : first + DELETE_AT_ONCE]
            with self._telling():
                done = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": piece, "Quiet": True})
            for error in done.get("Errors", ()):
                if error.get("Code") not in _MISSING:
                    raise self._explain(str(error.get("Code")), str(error.get("Message")), error.get("Key"))

    def hold(self, key: str) -> Held | None:
        """A small object with its version and age."""
        try:
            with self._telling(key):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._whole(key))
                data = answer["Body"].read()
        except MissingObjectError:
            return None
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(told) if told else datetime.now(UTC)
        return Held(data, answer["ETag"], (now - answer["LastModified"]).total_seconds())

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless there is one."""
        return self._put_if(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, version: str) -> bool:
        """Write a small object in place of the one of that version."""
        return self._put_if(key, data, IfMatch=version)

    def _put_if(self, key: str, data: bytes, **condition: str) -> bool:
        """Put under a condition; a server that knows no conditions is asked what lies there instead."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._whole(key), Body=data, **condition)
        except ClientError as error:
            code = _code(error)
            if code in _NO_CONDITIONS:
                held = self.hold(key)
                allowed = held is None if "IfNoneMatch" in condition else held and held.version == condition["IfMatch"]
                if allowed:
                    self.put(key, data)
                return bool(allowed)
            if code in _OVERTAKEN or (code in _MISSING and "IfMatch" in condition):
                held = self.hold(key)
                return held is not None and held.data == data  # a first attempt whose answer was lost
            raise self._explain(code, str(error), key) from error
        except (BotoCoreError, ConnectionError, TimeoutError) as error:
            raise self._explain_broken(error) from error
        return True

    def _whole(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    @contextmanager
    def _telling(self, key: str | None = None) -> Iterator[None]:
        """Turn what boto3 raises into a `StorageError`."""
        try:
            yield
        except ClientError as error:
            raise self._explain(_code(error), str(error), key) from error
        except Boto3Error as error:
            cause = getattr(error, "last_exception", None) or error.__context__
            if isinstance(cause, ClientError):
                raise self._explain(_code(cause), str(cause), key) from error
            raise self._explain_broken(cause or error) from error
        except (BotoCoreError, ConnectionError, TimeoutError) as error:
            raise self._explain_broken(error) from error

    def _explain(self, code: str, message: str, key: str | None) -> StorageError:
        where = f"{self.uri}/{key}" if key else self.uri
        if code == "NoSuchBucket":
            return NoBucketError(f"{self.uri} must lie in a bucket that exists, but there is no {self._bucket!r}.")
        if code in _MISSING:
            return MissingObjectError(f"{where} must exist, but does not.")
        if code in _REFUSED:
            return NoPermissionError(
                f"{where} must be open to these credentials for reading, writing, listing and deleting, but: {message}"
            )
        if code in _ELSEWHERE:
            return WrongRegionError(
                f"{self.uri} must lie in the region that is asked ({self._client.meta.region_name}), but: {message} "
                "Set AWS_REGION to the bucket's."
            )
        if code in _LATER or code.startswith("5") or code in ("InternalError", "ServiceUnavailable"):
            return ServerError(f"{where} cannot be served now: {message}")
        return StorageError(f"{where} must be usable, but: {message}")

    def _explain_broken(self, error: BaseException) -> StorageError:
        if isinstance(error, _UNKNOWN_CREDENTIALS):
            return NoPermissionError(
                f"{self.uri} needs credentials, but boto3 finds none to use ({error}): set a profile, a role or keys."
            )
        if isinstance(error, NoRegionError | InvalidRegionError):
            return WrongRegionError(f"{self.uri} must lie in a region that is known, but: {error} Set AWS_REGION.")
        if isinstance(error, _BROKEN_LINE):
            server = self._client.meta.endpoint_url
            return NoConnectionError(f"{self.uri} must be reachable at {server}, but: {error}")
        return StorageError(f"{self.uri} must be usable, but: {type(error).__name__}: {error}")


def _in_parts() -> TransferConfig:
    return TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)


def _client() -> Any:
    """A client of its own session, because boto3's default session may not be shared by threads."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "max_attempts": ATTEMPTS},
        max_pool_connections=32,
        tcp_keepalive=True,
    )
    region = os.environ.get("AWS_REGION") or None
    session = boto3.session.Session(region_name=region)
    return session.client("s3", config=config, region_name=session.region_name or "us-east-1")


def _code(error: ClientError) -> str:
    """The error's code; where the answer has no body, as of HEAD, its HTTP status."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(status) if status >= 500 and code not in _NO_CONDITIONS else code
