"""PyPI's client of Openscoring, as it is, against a real service: deploy, evaluate, undeploy; and what may go wrong."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pandas
import psutil
import pytest
import uvloop
from openscoring import BatchEvaluationRequest, EvaluationRequest, Openscoring

from boostline.export.xgboost_model import xgboost_pmml
from boostline.serving.openscoring.evaluator import Evaluator
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings
from tests.export_lab import parity_rows, pmml_of, pmml_rows, trained
from tests.serving.conftest import raw_rows, serving, wait_for

ANN, EVE = "a" * 32, "e" * 32
SECTION = Path("docs/use.md").read_text().partition("## Through Openscoring's protocol")[2].partition("\n## ")[0]
SMALL = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/><DataDictionary>
<DataField name="x" optype="continuous" dataType="double"><Interval closure="closedOpen" leftMargin="0"/></DataField>
<DataField name="y" optype="continuous" dataType="double"/></DataDictionary>
<RegressionModel functionName="regression"><MiningSchema><MiningField name="x"/>
<MiningField name="y" usageType="target"/></MiningSchema>
<RegressionTable intercept="1"><NumericPredictor name="x" coefficient="2"/></RegressionTable></RegressionModel></PMML>"""


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    with serving(world, tmp_path_factory.mktemp("serve"), datasets=("binary",)) as running:
        yield running


def client(server, token=None):
    return Openscoring(f"{server.url}/openscoring", token)


def document(model):
    return pmml_of(model.transform, xgboost_pmml(model))


def rows_of(raw):
    """Rows as JSON has them: without NaN and the infinities, which are missing values."""

    def plain(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{name: plain(value) for name, value in row.items()} for row in pmml_rows(raw)]


def assert_same(found, expected):
    """The answers of `Model.answer`, to 1e-6."""
    wanted = expected.to_pylist()
    assert len(found) == len(wanted)
    for row, other in zip(found, wanted, strict=True):
        assert row.keys() == other.keys()
        for name, value in other.items():
            assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=1e-6))


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_client_deploys_evaluates_and_undeploys(server, task):
    model, service = trained(task), client(server)
    raw = parity_rows(model, 300)
    rows, expected = rows_of(raw), model.answer(raw)
    assert any(value is None for row in rows for value in row.values())
    assert "Atlantis" in [row["city"] for row in rows], "a category that training has not seen"

    about = service.deploy(task, document(model))
    assert about.id == task and about.miningFunction == ("regression" if task == "regression" else "classification")
    assert [field["id"] for field in about.schema["inputFields"]] == list(raw.column_names)
    assert_same([service.evaluate(task, rows[0])], expected.slice(0, 1))
    assert_same(service.evaluateBatch(task, rows), expected)

    plain = [index for index, row in enumerate(rows) if "\r" not in (row["city"] or "")]  # pandas does not quote it
    table = service.evaluateCsv(task, pandas.DataFrame([rows[index] for index in plain], dtype=object))
    assert_same(table.to_dict("records"), expected.take(plain))

    service.undeploy(task)
    with pytest.raises(ValueError, match=f'Model "{task}" not found'):
        service.evaluate(task, rows[0])


def test_files_and_requests_with_ids(server, tmp_path):
    service = client(server)
    (tmp_path / "small.pmml").write_text(SMALL)
    service.deployFile("small", tmp_path / "small.pmml")
    answer = service.evaluate("small", EvaluationRequest("record-1", {"x": 2}))
    assert (answer.id, answer.results) == ("record-1", {"y": 5.0})
    batch = BatchEvaluationRequest("batch-1", [EvaluationRequest(str(number), {"x": number}) for number in (0, 1)])
    answer = service.evaluateBatch("small", batch)
    assert [(item.id, item.results["y"]) for item in answer.responses] == [("0", 1.0), ("1", 3.0)]
    assert answer.id == "batch-1"
    for separator in ",;\t":
        (tmp_path / "in.csv").write_text(
            f"Id{separator}x\nfirst{separator}1\n\nsecond{separator}2.5\nthird{separator}\n"
        )
        service.evaluateCsvFile("small", tmp_path / "in.csv", tmp_path / "out.csv")
        lines = (tmp_path / "out.csv").read_text().splitlines()
        assert lines == [f"Id{separator}y", f"first{separator}3.0", f"second{separator}6.0", f"third{separator}"]


def test_answers_and_statuses_are_openscorings(server):
    url = "/openscoring/model/Small-1_b"
    first = server.client.put(url, content=SMALL, headers={"Content-Type": "text/xml; charset=UTF-8"})
    again = server.client.put(url, content=SMALL, headers={"Content-Type": "application/xml"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["x-application"].startswith("Openscoring/2.") and first.headers["location"] == url
    shown = server.client.get(url).json()
    assert shown == again.json()
    assert shown["properties"]["file.size"] == len(SMALL)
    assert shown["schema"] == {
        "inputFields": [{"id": "x", "dataType": "double", "opType": "continuous", "values": ["[0, Infinity)"]}],
        "targetFields": [{"id": "y", "dataType": "double", "opType": "continuous"}],
        "outputFields": [],
    }
    (listed,) = [
        item for item in server.client.get("/openscoring/model").json()["responses"] if item["id"] == shown["id"]
    ]
    assert listed == {key: value for key, value in shown.items() if key != "schema"}
    requests = [{"arguments": {"x": 1, "other": "ignored"}}, {"id": 7, "arguments": {"x": "abc"}}, {"arguments": {}}]
    answer = server.client.post(f"{url}/batch", json={"requests": requests})
    assert answer.status_code == 200
    good, bad, empty = answer.json()["responses"]
    assert good == {"results": {"y": 3.0}} and empty == {"results": {"y": None}}
    assert bad == {"id": "7", "message": 'Field "x" cannot accept invalid value "abc"'}
    deleted = server.client.delete(url)
    assert (deleted.status_code, deleted.json()) == (200, {})
    assert server.client.delete(url).status_code == server.client.get(url).status_code == 404


JSON, TEXT = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "text"),
    [
        ("", JSON, "{", 400, "not JSON"),
        ("", JSON, "[]", 400, "the body: Input should be"),
        ("", JSON, "{}", 400, "arguments: Field required"),
        ("", JSON, '{"arguments": {"x": NaN}}', 400, "A missing value is null"),
        ("", JSON, '{"arguments": {"x": "abc"}}', 400, 'Field "x" cannot accept invalid value "abc"'),
        ("", JSON, '{"arguments": {"x": -1}}', 400, 'Field "x" cannot accept invalid value -1'),
        ("", JSON, '{"arguments": {"x": [1]}}', 400, "a list or an object"),
        ("", JSON, '{"arguments": {"x": 36893488147419103232}}', 400, "beyond 64 bits"),
        ("", TEXT, "{}", 415, "Content-Type is text/plain"),
        ("", JSON | {"Content-Encoding": "gzip"}, "{}", 415, "encoded"),
        ("/batch", JSON, '{"requests": [{"arguments": 1}]}', 400, "requests.0.arguments: Input should be"),
        ("/batch", JSON, json.dumps({"requests": [{"arguments": {}}] * 101}), 413, "more than 100 rows"),
        ("/csv", TEXT, "x,y\n1\n", 400, "line 2 has 1 cells, the first line has 2"),
        ("/csv", TEXT, "x,x\n1,1\n", 400, "name each column once"),
        ("/csv", TEXT, "", 400, "header line"),
        ("/csv", TEXT, b"\xff", 400, "not CSV"),
        ("/csv", TEXT, "x\n1\nabc\n", 400, 'row 2: Field "x" cannot accept invalid value "abc"'),
        ("/csv", TEXT, "x\n" + "1\n" * 101, 413, "more than 100 rows"),
        ("/csv?delimiterChar=ab", TEXT, "x\n1\n", 400, "one character"),
        ("/csv", JSON, "x\n1\n", 415, "Content-Type is application/json"),
    ],
)
def test_bad_rows_are_refused(limited, path, headers, body, status, text):
    limited.client.put("/openscoring/model/small", content=SMALL, headers={"Content-Type": "text/xml"})
    answer = limited.client.post(f"/openscoring/model/small{path}", content=body, headers=headers)
    assert answer.status_code == status and list(answer.json()) == ["message"] and text in answer.json()["message"]
    assert answer.headers["content-type"] == "application/json", "that is how the client tells a refusal from CSV"


SECRET = "the-secret-of-a-file"
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            '<!DOCTYPE PMML [<!ENTITY x SYSTEM "file://FILE">]>' + SMALL.replace("<Header/>", "<Header>&x;</Header>"),
            "DOCTYPE",
        ),
        ('<!DOCTYPE PMML SYSTEM "file://FILE">' + SMALL, "DOCTYPE"),
        ('<!DOCTYPE PMML [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>' + SMALL, "DOCTYPE"),
        (
            f'<!DOCTYPE PMML [<!ENTITY l0 "ha">{LAUGHS}]>' + SMALL.replace("<Header/>", "<Header>&l9;</Header>"),
            "DOCTYPE",
        ),
        ("", "not XML"),
        ("{}", "not XML"),
        (SMALL[:-1], "not XML"),
        ("<html/>", "unexpected element"),
        (SMALL.replace("4_4", "9_9"), "not supported"),
        (SMALL.replace("RegressionModel", "NoModel"), "unexpected element"),
        (SMALL.replace('dataType="double"/>', 'dataType="double" optype="x"/>'), "not XML"),
        (SMALL.replace('name="x" coef', 'name="nothing" coef').replace("RegressionTable", "Regression"), "unexpected"),
        ('<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/><DataDictionary/></PMML>', "not defined"),
        ("<a>" * 100_000 + "</a>" * 100_000, "unexpected element"),
    ],
)
def test_what_is_no_pmml_is_refused_and_no_other_file_is_read(server, tmp_path, body, text):
    (tmp_path / "secret").write_text(SECRET)
    content = body.replace("FILE", str(tmp_path / "secret"))
    answer = server.client.put("/openscoring/model/bad", content=content, headers={"Content-Type": "application/xml"})
    assert answer.status_code == 400 and text in answer.json()["message"]
    assert SECRET not in answer.text
    assert server.client.get("/openscoring/model/bad").status_code == 404


def test_a_refused_document_leaves_the_one_before(server):
    service = client(server)
    service.deploy("kept", SMALL)
    with pytest.raises(ValueError, match="not XML"):
        service.deploy("kept", SMALL[:-1])
    with pytest.raises(ValueError, match="not supported"):
        service.deploy("kept", SMALL.replace("4_4", "9_9"))
    assert service.evaluate("kept", {"x": 1}) == {"y": 3.0}
    service.deploy("kept", SMALL.replace('intercept="1"', 'intercept="10"'))
    assert service.evaluate("kept", {"x": 1}) == {"y": 12.0}


@pytest.mark.parametrize("name", ["..", "a/b", "..%2Fetc", "a%00", "-a", "é", "a b", "x" * 129, "a.pmml"])
def test_names_that_might_climb_are_refused(server, name):
    answer = server.client.put(f"/openscoring/model/{name}", content=SMALL, headers={"Content-Type": "text/xml"})
    assert answer.status_code in (404, 405)
    assert not {"etc", "a", name} & {item["id"] for item in server.client.get("/openscoring/model").json()["responses"]}


@pytest.fixture(scope="module")
def limited(world, tmp_path_factory):
    limits = {
        "SERVE_MAX_ROWS": "100", "SERVE_MAX_BODY_BYTES": "20000", "SERVE_THREADS": "1", "SERVE_MAX_WAITING": "0",
        "SERVE_TIMEOUT_SECONDS": "10",
    }  # fmt: skip
    with serving(world, tmp_path_factory.mktemp("serve"), datasets=("binary",), **limits) as running:
        yield running


def test_bodies_and_all_documents_together_are_bounded(limited):
    def put(name, size):
        headers = {"Content-Type": "text/xml"}
        return limited.client.put(
            f"/openscoring/model/{name}", content=SMALL + " " * (size - len(SMALL)), headers=headers
        )

    assert put("large", 20_001).status_code == 413
    assert put("large", 12_000).status_code == 201
    full = put("other", 12_000)
    assert full.status_code == 413 and "all documents together may have 20,000 bytes" in full.json()["message"]
    assert put("large", 13_000).status_code == 200, "one that is replaced makes room"
    assert limited.client.delete("/openscoring/model/large").status_code == 200
    assert put("other", 12_000).status_code == 201
    assert limited.client.delete("/openscoring/model/other").status_code == 200


def child_of(server):
    """The evaluator's process."""
    return psutil.Process(server.process.pid).children()[0]


def test_a_request_that_meets_a_crash_is_told_to_come_again_and_the_next_one_works(limited):
    service = client(limited)
    service.deploy("small", SMALL)
    child = child_of(limited)
    child.suspend()

    def ask():
        return limited.client.post("/openscoring/model/small", json={"arguments": {"x": 1}})

    with ThreadPoolExecutor(2) as pool:
        # One is let in and waits for the child; the other one is refused, which shows that the first is there.
        answers = as_completed([pool.submit(ask), pool.submit(ask)])
        refused = next(answers).result()
        child.kill()
        crashed = next(answers).result()
    assert (refused.status_code, crashed.status_code) == (503, 503)
    assert "are being scored or wait" in refused.json()["message"] and "ended" in crashed.json()["message"]
    assert refused.headers["retry-after"] == crashed.headers["retry-after"] == "1"
    assert service.evaluate("small", {"x": 1}) == {"y": 3.0}, "the document is there again"
    assert child_of(limited).pid != child.pid


def test_an_evaluator_that_ends_while_its_question_is_written_is_told(monkeypatch):
    async def ask():
        evaluator = Evaluator(ServeSettings())
        await evaluator.deploy("small", SMALL.encode())
        child = evaluator._child

        async def late(function, *arguments):
            child.kill()
            while not child.stdin.is_closing():
                await asyncio.sleep(0.01)
            return function(*arguments)

        monkeypatch.setattr(evaluator.workers, "run", late)
        try:
            await evaluator.evaluate("small", [{"x": 1}])
        finally:
            await evaluator.close()

    with pytest.raises(Refused, match="the evaluator ended"):
        uvloop.run(ask())


def test_a_crash_between_requests_is_not_noticed(limited):
    service = client(limited)
    service.deploy("small", SMALL)
    child = child_of(limited)
    child.kill()
    wait_for("the end of the evaluator", lambda: not psutil.pid_exists(child.pid), 10)
    assert service.evaluateBatch("small", [{"x": 1}, {"x": 2}]) == [{"y": 3.0}, {"y": 5.0}]


def test_an_evaluator_that_is_late_is_ended(limited):
    service = client(limited)
    service.deploy("small", SMALL)
    child = child_of(limited)
    child.suspend()
    answer = limited.client.post("/openscoring/model/small", json={"arguments": {"x": 1}})
    assert answer.status_code == 503 and "took longer than 10 s" in answer.json()["message"]
    assert service.evaluate("small", {"x": 1}) == {"y": 3.0}
    assert not psutil.pid_exists(child.pid)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_evaluator_ends_with_the_service_and_holds_none_of_its_secrets(world, tmp_path, how):
    with serving(world, tmp_path, datasets=("binary",), SERVE_REQUESTS_PER_SECOND="7") as running:
        client(running).deploy("small", SMALL)
        child = child_of(running)
        assert {"AWS_SECRET_ACCESS_KEY", "BOOSTLINE_LAKE"} <= psutil.Process(running.process.pid).environ().keys()
        assert not [name for name in child.environ() if name.startswith(("AWS", "BOOSTLINE"))]
        running.process.send_signal(how)
        running.process.wait(45)
        wait_for("the end of the evaluator", lambda: not psutil.pid_exists(child.pid), 10)


def test_without_the_package_every_route_says_what_to_install(world, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['jpmml_evaluator'] = None\n")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    with serving(world, tmp_path / "serve", datasets=("binary",)) as running:
        for method, path in [
            ("GET", ""),
            *[(name, "/a") for name in ("GET", "PUT", "POST", "DELETE")],
            ("POST", "/a/csv"),
        ]:
            answer = running.client.request(method, f"/openscoring/model{path}")
            assert answer.status_code == 501 and "pip install jpmml-evaluator" in answer.json()["message"]
        with pytest.raises(ValueError, match="jpmml-evaluator is not installed"):
            client(running).deploy("small", SMALL)
        assert running.predict("binary", raw_rows("binary", 1)).status_code == 200


def test_without_java_it_says_so(world, tmp_path, monkeypatch):
    # There is one wherever these tests run, so JPype is kept from finding it.
    hide = "import jpype._jvmfinder as finder\nfinder.LinuxJVMFinder._get_from_known_locations = lambda _: None\n"
    (tmp_path / "sitecustomize.py").write_text(hide + "finder.LinuxJVMFinder._get_from_bin = lambda _: None\n")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with serving(world, tmp_path / "serve", datasets=("binary",)) as running:
        assert running.client.get("/openscoring/model").status_code == 200, "nobody has asked for Java yet"
        with pytest.raises(ValueError, match=r"cannot be evaluated here: No JVM .*have Java 11 or newer"):
            client(running).deploy("small", SMALL)
        assert running.client.get("/openscoring/model").status_code == 501


def test_a_java_that_does_not_start_is_told_and_tried_again(world, tmp_path, monkeypatch):
    library = tmp_path / "lib/server/libjvm.so"
    library.parent.mkdir(parents=True)
    library.write_text("no library")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with serving(world, tmp_path / "serve", datasets=("binary",)) as running:
        with pytest.raises(ValueError, match="does not start. See that Java does"):
            client(running).deploy("small", SMALL)
        library.unlink()
        client(running).deploy("small", SMALL)


def test_a_token_is_asked_for_as_everywhere(world, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"ann {ANN}\n")
    with serving(world, tmp_path / "serve", datasets=("binary",), SERVE_TOKENS_FILE=str(tokens)) as running:
        for token, text in ((None, "there is no token"), (EVE, "the token is not valid")):
            with pytest.raises(ValueError, match=text):
                client(running, token).deploy("small", SMALL)
        assert running.client.get("/openscoring/model").status_code == 401
        ann = client(running, ANN)
        ann.deploy("small", SMALL)
        assert ann.evaluate("small", {"x": 1}, headers={"X-Request-ID": "anns"}) == {"y": 3.0}
        line = running.line("anns")
        assert (line["caller"], line["model"], line["rows"], line["route"]) == (
            "ann",
            "small",
            1,
            "openscoring evaluate",
        )
        assert ANN not in running.log.read_text()


def test_mangled_documents_never_fail_the_service(server):
    rng = random.Random(5)
    whole = document(trained("regression", rounds=1, max_depth=2))
    pieces = [match.span() for match in re.finditer(rb'"[^"]*"|<[A-Za-z]+|</[A-Za-z]+>', whole)]
    statuses = set()
    for _ in range(150):
        (start, end), (other, stop) = rng.choices(pieces, k=2)
        mangled = whole[:start] + rng.choice([b"", b'"-1e999"', whole[other:stop]]) + whole[end:]
        answer = server.client.put("/openscoring/model/mangled", content=mangled, headers={"Content-Type": "text/xml"})
        statuses.add(answer.status_code)
        if answer.status_code < 300:
            answer = server.client.post("/openscoring/model/mangled", json={"arguments": {"size": 3, "city": "rome"}})
        assert answer.status_code in (200, 201, 400), answer.text
    assert {200, 400} <= statuses
    assert not [line for line in server.lines() if line["level"] in ("error", "critical")]


def test_the_documented_commands_work(server, tmp_path):
    model = trained("binary")
    (tmp_path / "nyc_flights.pmml").write_bytes(document(model))
    (python,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    bash = re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL)
    for command in (
        [sys.executable, "-c", python],
        *(["bash", "-e", "-c", block] for block in bash if "curl" in block),
    ):
        text = command[-1].replace("http://127.0.0.1:8000", server.url).replace("curl -s", "curl -sf")
        done = subprocess.run([*command[:-1], text], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "probability" in done.stdout, done.stdout + done.stderr
