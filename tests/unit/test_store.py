"""Faults of the store, each as a person meets it: refused keys, no bucket, nobody there, no conditional writes.

And its pending uploads, which killed jobs leave.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from boostline.errors import DataMissing, EnvironmentUnfit, StoreUnavailable, StoreUnsuitable
from boostline.lake.store import NotFound, PreconditionFailed, Store


def test_a_fit_store_passes_the_probe_and_keeps_nothing_of_it(store: Store) -> None:
    store.probe()
    assert list(store.list("")) == []


def test_conditions_hold(store: Store) -> None:
    etag = store.put_if("key", b"one", None)
    with pytest.raises(PreconditionFailed):
        store.put_if("key", b"two", None)
    with pytest.raises(PreconditionFailed):
        store.put_if("key", b"two", "0" * 32)
    assert store.get("key") == (b"one", etag)
    assert store.get("key")[1] != store.put_if("key", b"two", etag)


def test_what_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        store.get("nothing")
    store.put("empty", b"")
    with pytest.raises(DataMissing, match=r"empty is empty"):
        store.get_start("empty", 10)
    assert store.get_many(["nothing", "empty"]).keys() == {"empty"}


def test_wrong_keys_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreUnsuitable, match=r"refuses these keys .*\n.*AWS_SECRET_ACCESS_KEY"):
        Store(store.settings).probe()


def test_no_keys_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(StoreUnsuitable, match="no S3 keys in the environment"):
        Store(store.settings).probe()


def test_a_missing_bucket_is_told(store: Store) -> None:
    with pytest.raises(StoreUnsuitable, match=r"no bucket 'lakes'"):
        Store(store.settings.model_copy(update={"lake": "s3://lakes/x"})).probe()


def test_a_dead_store_is_told(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match=r"http://127.0.0.1:9 does not answer"):
        Store(store.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})).probe()


def test_an_endpoint_without_its_scheme_is_told(store: Store) -> None:
    with pytest.raises(EnvironmentUnfit, match=r"BOOSTLINE_S3_ENDPOINT: Invalid endpoint: localhost:8333.*\n.*http://"):
        Store(store.settings.model_copy(update={"s3_endpoint": "localhost:8333"}))


def test_a_profile_that_is_none_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(EnvironmentUnfit, match=r"profile \(nobody\) could not be found.*\n.*AWS_PROFILE"):
        Store(store.settings)


def test_landing_into_a_store_with_faults_is_told_like_any_write(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    store.upload("rows.csv", path)
    assert store.get("rows.csv")[0] == b"a,b\n"
    with pytest.raises(StoreUnsuitable, match=r"no bucket 'lakes'"):
        Store(store.settings.model_copy(update={"lake": "s3://lakes/x"})).upload("rows.csv", path)
    with pytest.raises(StoreUnavailable, match=r"http://127.0.0.1:9 does not answer"):
        Store(store.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})).upload("rows.csv", path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreUnsuitable, match="refuses these keys"):
        Store(store.settings).upload("rows.csv", path)


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A server that refuses every request the way AWS does."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>as AWS says it</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do_PUT

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def begin_upload(store: Store, key: str) -> datetime:
    """What a killed job leaves of a file: one part, and no end; when it began."""
    client, place = store._client, {"Bucket": store.settings.bucket, "Key": f"{store.settings.prefix}/{key}"}
    upload = client.create_multipart_upload(**place)["UploadId"]
    client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"rows")
    (found,) = (item for item in pending(store) if item["UploadId"] == upload)
    return found["Initiated"]


def pending(store: Store) -> list[Any]:
    listed = store._client.list_multipart_uploads(Bucket=store.settings.bucket, Prefix=store.settings.prefix)
    return listed.get("Uploads", [])


def test_uploads_of_killed_jobs_go_when_they_are_old(store: Store) -> None:
    beside = copy(store)
    beside.settings = store.settings.model_copy(update={"lake": f"{store.settings.lake}-2"})
    begin_upload(beside, "rows/part.parquet")
    begin_upload(store, "clean/meters/attempts/killed/part-0.parquet")
    last = begin_upload(store, "raw/meters/readings/date=2024-05-10/large.csv")
    assert store.abort_uploads(last - timedelta(days=14)) == 0
    assert len(pending(store)) == 3
    assert store.abort_uploads(last + timedelta(seconds=1)) == 2
    assert pending(store) == pending(beside)
    assert len(pending(beside)) == 1
    assert store.abort_uploads(last + timedelta(days=1)) == 0


def test_a_store_that_lists_no_uploads_is_left_to_itself(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with answering(501, "NotImplemented") as endpoint:
        other = Store(store.settings.model_copy(update={"s3_endpoint": endpoint}))
        assert other.abort_uploads(datetime.now(UTC)) == 0
    assert "does not list pending uploads" in caplog.text
    with answering(403, "AccessDenied") as endpoint, pytest.raises(StoreUnsuitable, match=r"refuses these keys"):
        Store(store.settings.model_copy(update={"s3_endpoint": endpoint})).abort_uploads(datetime.now(UTC))


def test_an_upload_that_ended_meanwhile_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS answers so; to the server of these tests any upload may be aborted."""
    store._client.create_multipart_upload(Bucket=store.settings.bucket, Key=f"{store.settings.prefix}/rows")
    with answering(404, "NoSuchUpload") as endpoint:
        other = Store(store.settings.model_copy(update={"s3_endpoint": endpoint}))._client
        monkeypatch.setattr(store._client, "abort_multipart_upload", other.abort_multipart_upload)
        assert store.abort_uploads(datetime.now(UTC) + timedelta(days=1)) == 1


def test_keys_that_have_expired_are_refused_keys(store: Store) -> None:
    with (
        answering(400, "ExpiredToken") as endpoint,
        pytest.raises(StoreUnsuitable, match=r"refuses these keys .*\(ExpiredToken\).*\n.*AWS_SESSION_TOKEN"),
    ):
        Store(store.settings.model_copy(update={"s3_endpoint": endpoint})).put("key", b"")


def test_a_clock_that_is_off_is_told_and_may_be_right_later(store: Store) -> None:
    with (
        answering(403, "RequestTimeTooSkewed") as endpoint,
        pytest.raises(StoreUnavailable, match=r"differ by minutes\.\nSet the clock"),
    ):
        Store(store.settings.model_copy(update={"s3_endpoint": endpoint})).put("key", b"")


def test_what_was_deleted_meanwhile_is_another_object_than_expected(store: Store) -> None:
    """AWS answers so; the server of these tests answers 412."""
    with answering(404, "NoSuchKey") as endpoint, pytest.raises(PreconditionFailed):
        Store(store.settings.model_copy(update={"s3_endpoint": endpoint})).put_if("key", b"", "0" * 32)


@pytest.fixture
def careless() -> Iterator[str]:
    """A server that takes every PUT, whatever its conditions, as some S3-compatible ones do."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_DELETE(self) -> None:
            self.send_response(204)
            self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_store_without_conditional_writes_is_refused(store: Store, careless: str) -> None:
    with pytest.raises(StoreUnsuitable, match="ignores conditional writes"):
        Store(store.settings.model_copy(update={"s3_endpoint": careless})).probe()
