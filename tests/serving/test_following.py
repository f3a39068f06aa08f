"""The alias moves, the registry dies, a model is swapped for another: answers go on."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from boostline.errors import StoreUnavailable
from boostline.registry.promotion import rollback
from boostline.registry.versions import find_version, load_version, version_manifest
from boostline.serving import models
from boostline.serving.settings import ServeSettings
from boostline.tracking import tracking
from tests.serving.conftest import Forwarder, raw_rows, serving, wait_for


@pytest.fixture(scope="module")
def forwarder(mlflow_uri):
    way = Forwarder(mlflow_uri)
    yield way
    way.cut()


@pytest.fixture(scope="module")
def server(world, forwarder, tmp_path_factory):
    world.promote("regression", "1")
    home = tmp_path_factory.mktemp("serve")
    with serving(world, home, datasets=("regression", "binary"), MLFLOW_URI=forwarder.uri) as running:
        yield running
    world.promote("regression", "1")


@contextmanager
def hammering(server, world):
    """Callers who ask without a pause; every answer must be right for the version that it names."""
    rows = raw_rows("regression", 3)
    expected = {version: world.model("regression", version).answer(rows).to_pylist() for version in ("1", "2")}
    stop, seen, wrong = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            try:
                answer = server.predict("regression", rows)
                found = answer.json()
                seen.append(found.get("version"))
                if answer.status_code != 200 or found["predictions"] != expected[found["version"]]:
                    wrong.append(answer.text)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]


def test_promote_and_rollback_are_seen_while_nobody_waits_or_fails(server, world):
    with hammering(server, world) as seen:
        wait_for("answers", lambda: len(seen) > 20, 30)
        assert set(seen) == {"1"}
        world.promote("regression", "2")
        wait_for("version 2", lambda: seen[-1] == "2", 10)
        rollback(world.store, world.settings, "regression", reason="test", who="test")
        wait_for("version 1 again", lambda: seen[-1] == "1", 10)
    assert {"1", "2"} == set(seen)


@contextmanager
def tampered_with(world, version):
    """A version of regression whose model file somebody changed; yields what mends it."""
    manifest, _ = version_manifest(world.store, find_version(world.settings, "regression", version))
    key = next(item.key for item in manifest.files if item.key.endswith("model.ubj"))
    good, _ = world.store.get(key)
    world.store.put(key, good[:-1] + b"x")
    try:
        yield lambda: world.store.put(key, good)
    finally:
        world.store.put(key, good)
        world.alias("regression", "champion", "1")


def test_a_model_that_was_tampered_with_is_refused_and_the_old_one_goes_on(server, world):
    with tampered_with(world, "2") as mend:
        world.alias("regression", "champion", "2")
        health = wait_for("the refusal", lambda: problems(server), 20)
        assert "SHA-256" in health["problems"]["regression@champion"] and health["status"] == "degraded"
        assert server.predict("regression", raw_rows("regression", 1)).json()["version"] == "1"
        assert server.metric("boostline_model_problems") == 1
        told = [line for line in server.lines() if "was not followed" in line["message"]]
        assert len(told) == 1, "said once, not at every look"
        mend()
        wait_for("the mended model", lambda: server.model("regression")["version"] == "2", 20)
        assert not problems(server)
    wait_for("version 1", lambda: server.model("regression")["version"] == "1", 20)


def test_a_model_that_was_refused_is_not_downloaded_at_every_look(world, tmp_path, monkeypatch):
    (tmp_path / "regression.yaml").write_text("name: regression")
    settings, now, loaded = world.settings.model_copy(update={"datasets": tmp_path}), [0.0], []

    def load(store, version):
        loaded.append(version.version)
        return load_version(store, version)

    monkeypatch.setattr(models, "load_version", load)
    follower = models.Models(settings, ServeSettings(), lambda: now[0])
    with tracking(settings) as mlflow, tampered_with(world, "1") as mend, tampered_with(world, "2"):
        for _ in range(5):
            follower.refresh(mlflow)
            assert "SHA-256" in follower.current.problems["regression@champion"]
        assert loaded == ["1"]
        world.alias("regression", "champion", "2")
        for _ in range(5):
            follower.refresh(mlflow)
        assert loaded == ["1", "2"]
        world.alias("regression", "champion", "1")
        follower.refresh(mlflow)
        now[0] = 59
        mend()
        follower.refresh(mlflow)
        assert loaded == ["1", "2", "1"] and follower.current.problems
        now[0] = 60
        follower.refresh(mlflow)
        assert loaded == ["1", "2", "1", "1"] and not follower.current.problems
        for version in ("2", "1", "2"):  # who moves an alias back and forth wants it tried at once
            world.alias("regression", "champion", version)
            follower.refresh(mlflow)
        assert (
            loaded == ["1", "2", "1", "1", "2", "2"] and "SHA-256" in follower.current.problems["regression@champion"]
        )


def test_a_fault_is_told_once_though_the_store_goes_away_in_the_same_look(world, tmp_path, monkeypatch, caplog):
    for name in ("binary", "regression"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}")

    def load(store, version):
        if version.dataset == "binary":
            if odd:
                raise ValueError("odd")
            return load_version(store, version)
        raise StoreUnavailable("S3 does not answer", "Start it")

    monkeypatch.setattr(models, "load_version", load)
    settings = world.settings.model_copy(update={"datasets": tmp_path})
    odd, now = True, [0.0]
    follower = models.Models(settings, ServeSettings(), lambda: now[0])
    with tracking(settings) as mlflow:
        for _ in range(3):
            follower.refresh(mlflow)
            assert follower.current.problems == {"binary@champion": "ValueError: odd"}
            assert follower.current.registry == "S3 does not answer"
        odd, now[0] = False, 60
        follower.refresh(mlflow)
        assert follower.current.champion("binary") and not follower.current.problems
    assert len([record for record in caplog.records if record.exc_info]) == 1


def problems(server):
    health = server.client.get("/health/ready").json()
    return health if health["problems"] else None


def test_without_the_registry_answers_go_on_and_readiness_says_so(server, world, forwarder):
    forwarder.cut()
    health = wait_for("the loss", lambda: lost(server), 30)
    assert health.status_code == 200 and health.json()["status"] == "degraded"
    assert "does not answer" in health.json()["registry"]
    assert server.predict("regression", raw_rows("regression", 2)).status_code == 200
    assert server.metric("boostline_registry_up") == 0
    forwarder.start()
    wait_for("the registry again", lambda: not lost(server), 30)
    assert server.client.get("/health/ready").json()["status"] == "ready"


def lost(server):
    answer = server.client.get("/health/ready")
    return answer if answer.json()["registry"] != "ok" else None


def test_a_service_that_starts_without_the_registry_says_so_and_serves_when_it_is_back(world, mlflow_uri, tmp_path):
    way = Forwarder(mlflow_uri)
    way.cut()
    with serving(world, tmp_path, datasets=("binary",), ready=False, MLFLOW_URI=way.uri) as server:
        health = server.client.get("/health/ready")
        assert health.status_code == 503 and health.json()["status"] == "not ready"
        answer = server.predict("binary", raw_rows("binary", 1))
        assert (
            answer.status_code == 503 and "binary has no model yet: the registry: MLflow at" in answer.json()["error"]
        )
        assert server.client.get("/health/live").status_code == 200
        way.start()
        wait_for("the model", lambda: server.client.get("/health/ready").status_code == 200, 30)
        assert server.predict("binary", raw_rows("binary", 1)).status_code == 200
        way.cut()


@contextmanager
def published_so(world, dataset, version, change):
    """A version whose transform.json is another than training wrote, as if it had been published so; yields what mends it."""
    manifest, _ = version_manifest(world.store, find_version(world.settings, dataset, version))
    listed = {item.key.rpartition("/")[2]: item for item in manifest.files}
    good = {name: world.store.get(item.key)[0] for name, item in listed.items()}
    transform = change(good["transform.json"])
    info = json.loads(good["model.json"]) | {"transform_sha256": hashlib.sha256(transform).hexdigest()}
    bad = good | {"transform.json": transform, "model.json": json.dumps(info).encode()}
    files = [
        item.model_copy(update={"size": len(bad[name]), "etag": world.store.put(item.key, bad[name])})
        for name, item in listed.items()
    ]
    world.store.put(manifest.own_key, manifest.model_copy(update={"files": files}).body())

    def mend():
        for name, item in listed.items():
            world.store.put(item.key, good[name])
        world.store.put(manifest.own_key, manifest.body())

    try:
        yield mend
    finally:
        mend()


def test_a_model_of_another_format_is_refused(world, server):
    with published_so(world, "regression", "2", lambda body: body.replace(b'"format": 1', b'"format": 2')):
        try:
            world.alias("regression", "champion", "2")
            # A test before may have had this version refused for another reason, which is told until it is loaded again.
            wait_for("the refusal", lambda: "transform.json cannot be read" in str(problems(server)), 20)
            assert server.predict("regression", raw_rows("regression", 1)).json()["version"] == "1"
        finally:
            world.alias("regression", "champion", "1")


def weekday_of_a_number(body):
    found = json.loads(body)
    found["derived"]["weekday"] = {"weekday": "size"}
    return json.dumps(found).encode()


def test_a_model_with_a_fault_that_no_check_foresaw_is_named_and_the_others_are_followed(world, tmp_path):
    with (
        published_so(world, "binary", "1", weekday_of_a_number) as mend,
        serving(world, tmp_path, datasets=("regression", "binary")) as server,
    ):
        answer = server.predict("binary", raw_rows("binary", 1))
        assert answer.status_code == 503
        assert "its champion cannot be used: ArrowNotImplementedError: Function 'day_of_week'" in answer.text
        health = problems(server)
        assert (health["status"], health["registry"]) == ("degraded", "ok")
        assert set(health["problems"]) == {"binary@champion"}
        try:
            world.alias("regression", "champion", "2")
            wait_for("version 2", lambda: server.model("regression")["version"] == "2", 20)
        finally:
            world.alias("regression", "champion", "1")
        wait_for("version 1", lambda: server.model("regression")["version"] == "1", 20)
        traces = [line for line in server.lines() if "trace" in line]  # said once, not at every look
        assert len(traces) == 1, traces
        (line,) = traces
        assert "Traceback" in line["trace"] and "binary@champion" in line["message"]
        mend()
        wait_for("the mended model", lambda: server.predict("binary", raw_rows("binary", 1)).is_success, 20)


def test_requests_under_way_are_finished_when_the_service_stops(world, tmp_path):
    rows = raw_rows("multiclass", 5_000)
    body = json.dumps({"columns": rows.to_pydict()}, default=str).encode()
    with serving(world, tmp_path, datasets=("multiclass",)) as server:
        callers = [begin(server, len(body)) for _ in range(8)]
        server.process.terminate()
        wait_for("the end to begin", lambda: "Shutting down" in server.log.read_text(), 20)
        for caller in callers:
            caller.sendall(body)
        answers = [finish(caller) for caller in callers]
        assert server.process.wait(60) == 0
    assert [status for status, _ in answers] == [200] * 8
    assert all(len(found["predictions"]) == 5_000 for _, found in answers)


def begin(server, length):
    """A request whose handler waits for the body: the service has said `100 Continue`."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    caller = socket.create_connection((host, int(port)), 30)
    caller.sendall(
        b"POST /v1/models/multiclass:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length
    )
    assert caller.recv(100).startswith(b"HTTP/1.1 100")
    return caller


def finish(caller):
    """Status and JSON of the answer."""
    with caller, HTTPResponse(caller) as answer:
        answer.begin()
        return answer.status, json.loads(answer.read())


class Refuses(BaseHTTPRequestHandler):
    """An MLflow server that does not take our password any more."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_registry_that_refuses_the_login_is_no_registry_that_answers(world, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as registry:
        threading.Thread(target=registry.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{registry.server_port}"
        with serving(world, tmp_path, datasets=("binary",), ready=False, MLFLOW_URI=uri) as server:
            health = server.client.get("/health/ready")
            assert health.status_code == 503
            assert "401" in health.json()["registry"] or "password" in health.json()["registry"], health.json()
            assert server.metric("boostline_registry_up") == 0
        registry.shutdown()


def test_a_challenger_of_a_dataset_that_is_not_there_is_told(world, tmp_path):
    (tmp_path / "binary.yaml").write_text("name: binary")
    settings = world.settings.model_copy(update={"datasets": tmp_path})
    wanted = ServeSettings(challenger_share={"binry": 0.1, "off": 0.0}, shadow=frozenset({"binary", "bniary"}))
    follower = models.Models(settings, wanted)
    with tracking(settings) as mlflow:
        follower.refresh(mlflow)
        assert list(follower.current.models) == ["binary@champion"]
        assert list(follower.current.problems) == ["binry@challenger", "bniary@challenger"]
        assert "mend BOOSTLINE_SERVE_CHALLENGER_SHARE" in follower.current.problems["binry@challenger"]
        for name in ("binry", "bniary"):
            (tmp_path / f"{name}.yaml").write_text(f"name: {name}")
        follower.refresh(mlflow)
        assert not follower.current.problems


@contextmanager
def guarded(mlflow_uri, forbidden):
    """MLflow for a reader who may not read one model: its alias, not that there is such a model."""

    class Guarded(Refuses):
        def do_GET(self):
            answer = None if f"name={forbidden}" in self.path else httpx.get(mlflow_uri + self.path)
            self.send_response(answer.status_code if answer else 403)
            self.send_header("Content-Length", str(len(answer.content) if answer else 0))
            self.end_headers()
            self.wfile.write(answer.content if answer else b"")

    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as registry:
        threading.Thread(target=registry.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{registry.server_port}"
        registry.shutdown()


def test_a_model_that_the_login_may_not_see_leaves_the_others_followed(world, mlflow_uri, tmp_path):
    with (
        guarded(mlflow_uri, "regression") as uri,
        serving(world, tmp_path, datasets=("binary", "regression"), ready=False, MLFLOW_URI=uri) as server,
    ):
        assert server.predict("binary", raw_rows("binary", 1)).status_code == 200
        health = server.client.get("/health/ready").json()
        assert (health["registry"], list(health["problems"])) == ("ok", ["regression@champion"])
        assert "refuses this user (403)" in server.predict("regression", raw_rows("binary", 1)).json()["error"]


def test_a_dataset_that_was_never_registered_is_no_problem_although_mlflow_forbids_it(world, mlflow_uri, tmp_path):
    with (
        guarded(mlflow_uri, "later") as uri,
        serving(world, tmp_path, datasets=("binary", "later"), MLFLOW_URI=uri) as server,
    ):
        health = server.client.get("/health/ready").json()
        assert (health["status"], health["registry"], health["problems"]) == ("ready", "ok", {})
        answer = server.predict("later", raw_rows("binary", 1))
        assert (answer.status_code, answer.json()["error"]) == (
            503,
            "later has no model yet: no version has been promoted",
        )
        assert server.predict("nobody", raw_rows("binary", 1)).status_code == 404
        with tracking(world.settings.model_copy(update={"mlflow_uri": uri})) as mlflow:
            assert mlflow.version("later", "1") is None
