"""S3 as the lake sees it: a few verbs, conditional writes, and errors that say what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from boostline.errors import BoostlineError, DataMissing, EnvironmentUnfit, StoreUnavailable, StoreUnsuitable
from boostline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

PARALLEL_REQUESTS = 16


@dataclass(frozen=True)
class StoredObject:
    """One object: key relative to the lake's root, size in bytes, ETag without quotes, when S3 got it."""

    key: str
    size: int
    etag: str
    modified: datetime


class PreconditionFailed(Exception):
    """A conditional write found another object than expected."""


class NotFound(Exception):
    """There is no object of that key."""


class Store:
    """The lake's bucket and prefix. Keys are relative to the lake's root.

    Args:
        settings: Endpoint, region and lake. The keys come from the environment, through boto3.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client = _client(settings)

    def uri(self, key: str, scheme: str = "s3") -> str:
        """The full address of a key; `scheme="s3a"` for Spark."""
        return f"{scheme}://{self.settings.bucket}/{self._full(key)}"

    def get(self, key: str) -> tuple[bytes, str]:
        """An object's bytes and ETag.

        Raises:
            NotFound: There is none.
        """
        with self._errors(key):
            answer = self._client.get_object(Bucket=self.settings.bucket, Key=self._full(key))
            return answer["Body"].read(), _bare(answer["ETag"])

    def get_start(self, key: str, size: int) -> bytes:
        """The first `size` bytes of an object, fewer where it is shorter."""
        with self._errors(key):
            answer = self._client.get_object(
                Bucket=self.settings.bucket, Key=self._full(key), Range=f"bytes=0-{size - 1}"
            )
            return answer["Body"].read()

    def get_many(self, keys: Iterable[str]) -> dict[str, tuple[bytes, str]]:
        """Bytes and ETag of those keys that exist, by key, fetched in parallel."""

        def fetch(key: str) -> tuple[str, tuple[bytes, str] | None]:
            try:
                return key, self.get(key)
            except NotFound:
                return key, None

        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            return {key: found for key, found in pool.map(fetch, keys) if found}

    def put(self, key: str, body: bytes) -> str:
        """Write an object whatever is there, and return its ETag. Only for keys that no other attempt writes."""
        with self._errors(key):
            answer = self._client.put_object(Bucket=self.settings.bucket, Key=self._full(key), Body=body)
            return _bare(answer["ETag"])

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> list[str]:
        """Write many objects in parallel; ETags in the given order."""
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            return list(pool.map(lambda item: self.put(*item), objects))

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        """Create an object (`expected_etag` none) or replace exactly the one with that ETag.

        Raises:
            PreconditionFailed: Another object is there, or none any more; nothing was written, or a lost answer hid our
                own write.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if expected_etag is None else {"IfMatch": expected_etag}
        try:
            with self._errors(key):
                answer = self._client.put_object(
                    Bucket=self.settings.bucket, Key=self._full(key), Body=body, **condition
                )
                return _bare(answer["ETag"])
        except NotFound as error:
            # AWS answers If-Match on an object that was deleted with 404, other stores with 412.
            raise PreconditionFailed(key) from error

    def list(self, folder: str) -> Iterator[StoredObject]:
        """All objects below a folder, in key order, without the empty `folder/` markers that S3A leaves."""
        cut = len(self._full(""))
        with self._errors(folder):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket, Prefix=self._full(folder)
            )
            for page in pages:
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):
                        yield StoredObject(item["Key"][cut:], item["Size"], _bare(item["ETag"]), item["LastModified"])

    def upload(self, key: str, path: Path) -> None:
        """Write a local file, in parts where it is large."""
        # upload_file would hide S3's answer in an error of its own.
        with self._errors(key), path.open("rb") as body:
            self._client.upload_fileobj(body, self.settings.bucket, self._full(key))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        with self._errors("delete"):
            for key in keys:
                self._client.delete_object(Bucket=self.settings.bucket, Key=self._full(key))

    def abort_uploads(self, before: datetime) -> int:
        """Abort what was begun before then to be written in parts, and never finished; how many.

        Spark's committer writes so, and a killed job leaves some: no listing of objects shows them, yet they take room.
        A store that does not list them has to remove them by means of its own: 0.
        """
        from botocore.exceptions import ClientError

        root = self._full("")
        with self._errors(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.settings.bucket, Prefix=root
            )
            try:
                old = [item for page in pages for item in page.get("Uploads", []) if item["Initiated"] < before]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "NotImplemented":
                    raise
                log.warning("%s: the store does not list pending uploads; none is aborted", self.uri(""))
                return 0
        for item in old:
            with suppress(NotFound), self._errors(item["Key"][len(root) :]):  # it was finished or aborted meanwhile
                self._client.abort_multipart_upload(
                    Bucket=self.settings.bucket, Key=item["Key"], UploadId=item["UploadId"]
                )
        return len(old)

    def probe(self) -> None:
        """Prove that the bucket is there, the keys are good, and conditional writes hold.

        Raises:
            StoreUnsuitable: Says which of them is missing.
        """
        key = f"_probe/{token_hex(8)}"
        try:
            etag = self.put_if(key, b"first", None)
            for expected in (None, "0" * 32):
                try:
                    self.put_if(key, b"second", expected)
                except PreconditionFailed:
                    continue
                raise StoreUnsuitable(
                    f"{self.settings.s3_endpoint or 'S3'} ignores conditional writes (If-None-Match, If-Match)",
                    "Two runs of one date would overwrite each other: use a store that has them, such as AWS S3, "
                    "SeaweedFS or MinIO",
                )
            self.put_if(key, b"third", etag)
        finally:
            try:
                self.delete([key])
            except BoostlineError as error:
                if not isinstance(error, StoreUnavailable | StoreUnsuitable):
                    raise

    def _full(self, key: str) -> str:
        return f"{self.settings.prefix}/{key}" if self.settings.prefix else key

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn botocore's errors into ours."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = f"S3 at {self.settings.s3_endpoint or 'AWS'}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in ("PreconditionFailed", "ConditionalRequestConflict") or status in (412, 409):
                raise PreconditionFailed(key) from error
            if code == "NoSuchBucket":
                raise StoreUnsuitable(
                    f"{where} has no bucket {self.settings.bucket!r}", "Create it, or set BOOSTLINE_LAKE"
                ) from error
            if code in ("NoSuchKey", "404") or status == 404:
                raise NotFound(key) from error
            if code == "InvalidRange" or status == 416:
                raise DataMissing(f"{self.uri(key)} is empty", "Land the file again") from error
            if code == "NotImplemented" or status == 501:
                raise StoreUnsuitable(
                    f"{where} does not implement conditional writes",
                    "Use a store that has them, such as AWS S3, SeaweedFS or MinIO",
                ) from error
            if code == "RequestTimeTooSkewed":
                raise StoreUnavailable(
                    f"{where}: its clock and this machine's differ by minutes", "Set the clock, by NTP for instance"
                ) from error
            if status in (401, 403) or code in ("ExpiredToken", "InvalidToken"):  # AWS answers those with 400
                raise StoreUnsuitable(
                    f"{where} refuses these keys for {self.uri(key)} ({code})",
                    "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the rights of that identity",
                ) from error
            raise StoreUnavailable(f"{where} failed on {self.uri(key)}: {error}", "Try again when it is up") from error
        except NoCredentialsError as error:
            raise StoreUnsuitable(
                "there are no S3 keys in the environment", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        except (BotoCoreError, ConnectionError, TimeoutError) as error:
            raise StoreUnavailable(
                f"{where} does not answer: {error}", "Start it, or set BOOSTLINE_S3_ENDPOINT"
            ) from error


def _client(settings: Settings) -> S3Client:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=2 * PARALLEL_REQUESTS,
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
    )
    # A session of its own: boto3's default one keeps the keys that it first saw.
    try:
        return boto3.session.Session().client(
            "s3", endpoint_url=settings.s3_endpoint, region_name=settings.s3_region, config=config
        )
    except ValueError as error:
        raise EnvironmentUnfit(
            f"BOOSTLINE_S3_ENDPOINT: {error}", "Write it with its scheme, such as http://127.0.0.1:8333"
        ) from error
    except BotoCoreError as error:  # of the profile, the region or the files of keys
        raise EnvironmentUnfit(
            f"no S3 client can be made of this environment: {error}",
            "Check BOOSTLINE_S3_REGION, and AWS_PROFILE with the files in ~/.aws, or unset it",
        ) from error


def _bare(etag: str) -> str:
    return etag.strip('"')
