"""The stack with MinIO as its S3 server: a run, conditional writes, and identities with the same rights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.compose.conftest import DAY, LEAST_RIGHTS, ROOT, Cluster, run, stack


@pytest.fixture(scope="module")
def on_minio() -> Iterator[Cluster]:
    missing = [name for name in ("minio", "mc") if not (ROOT / "docker/minio" / name).exists()]
    if missing and shutil.which("go") is None:
        pytest.skip(f"{' and '.join(missing)} are not built, and there is no Go to build them with")
    files = "docker-compose.yaml:docker-compose.minio.yaml"
    with stack("boostline-test-minio", COMPOSE_FILE=files) as found:
        found.up("compose-minio")
        yield found


def test_a_run_publishes_on_minio(on_minio: Cluster) -> None:
    running = {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in on_minio.containers()}
    assert running["s3"]["Config"]["Cmd"][0] == "minio"
    assert "s3-store" not in running
    on_minio.inside("put", "/raw", "meters_back")
    run_id = run(on_minio, "meters_back_train", DAY)
    assert on_minio.client.xcom("meters_back_train", run_id, "promote")["promoted"] is True
    published = on_minio.inside("published", "meters_back", DAY.isoformat())
    assert {stage: found["manifests"] for stage, found in published.items()} == dict.fromkeys(published, 1)
    assert set(published) == {"features", "baseline", "model", "report"}
    assert set(on_minio.inside("committers", "meters_back")) == {"magic"}


def test_conditional_writes_hold(on_minio: Cluster) -> None:
    assert on_minio.inside("conditional") == [200, 412, 412, 200]


def test_identities_have_least_rights(on_minio: Cluster) -> None:
    assert on_minio.rights() == LEAST_RIGHTS


def test_a_second_start_keeps_the_users(on_minio: Cluster) -> None:
    on_minio.up("compose-minio")
    assert on_minio.rights() == LEAST_RIGHTS
