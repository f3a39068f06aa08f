"""One meaning of a prediction over HTTP, whatever the format."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from boostline.serving.bodies import ARROW, CSV
from tests.serving.conftest import TASKS, raw_rows, serving


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    with serving(world, tmp_path_factory.mktemp("serve")) as running:
        yield running


def as_arrow(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_csv(table):
    sink = io.BytesIO()
    csv.write_csv(table, sink)
    return sink.getvalue()


def as_columns(table):
    return json.dumps({"columns": table.to_pydict()}, default=str).encode()


def as_records(table):
    return json.dumps({"records": table.to_pylist()}, default=str).encode()


BODIES = {
    "records": ("application/json", as_records),
    "columns": ("application/json; charset=utf-8", as_columns),
    "arrow": (ARROW, as_arrow),
    "csv": (CSV, as_csv),
}


def read(answer):
    """An answer as a table, whatever its format."""
    kind = answer.headers["content-type"].split(";")[0]
    if kind == ARROW:
        return pa.ipc.open_stream(answer.content).read_all()
    if kind == CSV:
        return csv.read_csv(io.BytesIO(answer.content))
    return pa.Table.from_pylist(answer.json()["predictions"])


def assert_same(found, expected):
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        ours, theirs = found.column(name), expected.column(name)
        if pa.types.is_string(theirs.type):
            assert ours.to_pylist() == theirs.to_pylist()
        else:
            np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=1e-12)


@pytest.mark.parametrize("accept", ["application/json", ARROW, CSV])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("task", TASKS)
def test_every_format_gives_what_the_model_answers(server, world, task, body, accept):
    rows = raw_rows(task)
    kind, write = BODIES[body]
    answer = server.client.post(
        f"/v1/models/{task}:predict", content=write(rows), headers={"Content-Type": kind, "Accept": accept}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == accept
    assert answer.headers["x-boostline-version"] == "1" and answer.headers["x-boostline-date"] == "2020-03-30"
    assert_same(read(answer), world.model(task).answer(rows))


def test_one_row_gives_what_it_gives_among_others(server, world):
    rows = raw_rows("multiclass", 50)
    together = server.predict("multiclass", rows).json()["predictions"]
    assert [server.predict("multiclass", rows.slice(i, 1)).json()["predictions"][0] for i in range(50)] == together


def test_answer_says_which_model_made_it(server):
    body = server.predict("binary", raw_rows("binary", 2)).json()
    assert {key: body[key] for key in ("dataset", "version", "date")} == {
        "dataset": "binary", "version": "1", "date": "2020-03-30",
    }  # fmt: skip
    assert set(body["predictions"][0]) == {"prediction", "probability"} and len(body["predictions"]) == 2


@pytest.mark.parametrize("task", TASKS)
def test_contributions_and_bias_add_up_to_the_margin(server, world, task):
    rows = raw_rows(task, 30)
    found = server.predict(task, rows, params={"explain": "true"}).json()["predictions"]
    model = world.model(task)
    numbers = model.predict(rows)

    def margin(row, name=None):
        parts = row["contributions"][name] if name else row["contributions"]
        assert list(parts) == list(model.info.features)
        return sum(parts.values()) + (row["bias"][name] if name else row["bias"])

    if task == "multiclass":
        margins = np.array([[margin(row, name) for name in model.info.classes] for row in found])
        odds = np.exp(margins)
        np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), numbers, atol=1e-5)
    else:
        margins = np.array([margin(row) for row in found])
        expected = np.log(numbers / (1 - numbers)) if task == "binary" else numbers
        np.testing.assert_allclose(margins, expected, rtol=1e-4, atol=1e-4)
    assert all("prediction" in row for row in found)


def test_contributions_are_columns_in_csv(server):
    answer = server.predict(
        "multiclass", raw_rows("multiclass", 2), params={"explain": "true"}, headers={"Accept": CSV}
    )
    header = answer.text.splitlines()[0].replace('"', "").split(",")
    assert "contributions.low.size" in header and "bias.high" in header


def test_explaining_too_many_rows_is_refused(world, server):
    answer = server.predict("regression", raw_rows("regression", 1001), params={"explain": "true"})
    assert answer.status_code == 413 and "1,000 rows" in answer.json()["error"]


def test_columns_may_be_more_and_in_another_order(server, world):
    rows = raw_rows("regression", 5)
    changed = rows.select(rows.column_names[::-1]).append_column("more", pa.array([[1], [], None, [2], [3]]))
    for body in ("records", "columns", "arrow"):
        kind, write = BODIES[body]
        answer = server.client.post(
            "/v1/models/regression:predict", content=write(changed), headers={"Content-Type": kind}
        )
        assert_same(read(answer), world.model("regression").answer(rows))


def test_numbers_as_text_are_numbers_and_numbers_as_text_columns_are_text(server):
    row = {"city": "Rome", "floors": 2, "built": "2020-01-05", "size": 80.5, "age": 3}
    texts = row | {"floors": "2", "size": "80.5", "age": "3"}
    mixed = [row, texts, row | {"age": 3.0}]
    found = server.predict("regression", mixed).json()["predictions"]
    assert found[0] == found[1] == found[2]
    assert server.predict("regression", [row | {"city": 7}]).status_code == 200


@pytest.mark.parametrize("body", BODIES)
def test_an_empty_batch_has_an_empty_answer(server, body):
    kind, write = BODIES[body]
    for task in TASKS:
        answer = server.client.post(
            f"/v1/models/{task}:predict", content=write(raw_rows(task, 0)), headers={"Content-Type": kind}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == []


def test_infinities_and_nan_are_missing_where_a_format_has_them(server, world):
    rows = raw_rows("regression", 3)
    index = rows.column_names.index("age")
    missing = rows.set_column(index, "age", pa.nulls(3, pa.float64()))
    expected = world.model("regression").answer(missing)
    wild = rows.set_column(index, "age", pa.array([float("nan"), float("inf"), float("-inf")]))
    for body in ("arrow", "csv"):
        kind, write = BODIES[body]
        answer = server.client.post(
            "/v1/models/regression:predict", content=write(wild), headers={"Content-Type": kind}
        )
        assert_same(read(answer), expected)


def test_openapi_examples_are_answered_as_they_say(server):
    found = server.client.get("/openapi.json").json()["paths"]["/v1/models/{dataset}:predict"]["post"]
    bodies, answers = found["requestBody"]["content"], found["responses"]["200"]["content"]
    for task in TASKS:
        sent = bodies["application/json"]["examples"][task]["value"]
        assert sent["records"][0]["city"] in ("rome", "slo", "bern", "lima")
        answer = server.client.post(f"/v1/models/{task}:predict", json=sent)
        assert answer.json() == answers["application/json"]["examples"][task]["value"]
        as_text = server.client.post(
            f"/v1/models/{task}:predict", content=bodies[CSV]["examples"][task]["value"], headers={"Content-Type": CSV}
        )
        assert as_text.json() == answer.json()


def test_models_are_listed_and_described(server, world):
    entries = {item["dataset"]: item for item in server.client.get("/v1/models").json()["models"]}
    assert set(entries) == set(TASKS) and entries["binary"]["task"] == "binary"
    found, info = server.model("binary"), world.model("binary").info
    assert found["columns"] == {
        "city": "string",
        "floors": "integer",
        "built": "date",
        "size": "double",
        "age": "double",
    }
    assert found["answer"] == {"prediction": "string", "probability": "double"}
    assert found["metrics"] == info.metrics and found["sha256"] == info.sha256 and found["version"] == "1"


def test_metrics_count_what_was_answered(server):
    def read_metrics():
        return {
            "requests": server.metric("boostline_requests_total", route="predict", dataset="binary", status="200"),
            "errors": server.metric("boostline_request_errors_total", route="predict", status="422"),
            "batch": server.metric("boostline_batch_rows_sum", dataset="binary"),
            "seconds": server.metric("boostline_request_seconds_count", route="predict"),
            "predictions": server.metric(
                "boostline_prediction_bucket", dataset="binary", version="1", role="answered", le="+Inf"
            ),
            "sum": server.metric("boostline_prediction_running_sum", dataset="binary"),
            "low": server.metric("boostline_prediction_bucket", dataset="binary", le="0.5"),
            "classes": server.metric("boostline_predicted_class_total", dataset="multiclass", **{"class": "mid"}),
        }

    before = read_metrics()
    rows = raw_rows("binary", 40)
    found = server.predict("binary", rows).json()["predictions"]
    one = server.predict("binary", rows.slice(0, 1)).json()["predictions"]
    kinds = server.predict("multiclass", raw_rows("multiclass", 40)).json()["predictions"]
    assert server.predict("binary", [{}]).status_code == 422
    gained = {key: value - before[key] for key, value in read_metrics().items()}
    probabilities = [row["probability"] for row in found + one]
    assert gained["requests"] == 2 and gained["errors"] == 1 and gained["batch"] == 41 and gained["seconds"] == 4
    assert gained["predictions"] == 41 and gained["sum"] == pytest.approx(sum(probabilities))
    assert gained["low"] == sum(value <= 0.5 for value in probabilities)
    assert gained["classes"] == sum(row["prediction"] == "mid" for row in kinds)
    assert (
        server.metric("boostline_model_info", dataset="binary", alias="champion", version="1", date="2020-03-30") == 1
    )
    assert server.metric("boostline_model_age_seconds", dataset="binary") > 86_400 * 365
    assert server.metric("boostline_registry_up") == 1


def test_a_request_is_one_line_with_the_version_and_nothing_of_its_rows(server):
    row = raw_rows("regression", 1).to_pylist()[0] | {"city": "Xanadu", "built": None}
    answer = server.predict(
        "regression", [row], headers={"X-Request-ID": "my-id.7", "Authorization": "Bearer tell-nobody"}
    )
    assert answer.headers["x-request-id"] == "my-id.7"
    line = server.line("my-id.7")
    assert line["version"] == "1" and line["rows"] == 1 and line["status"] == 200 and line["dataset"] == "regression"
    broken = [row | {"size": "Xanadu"}], [row | {"city": ["Xanadu"]}]
    assert all(server.predict("regression", rows).status_code == 422 for rows in broken)
    csv_body = "city,floors,built,size,age\nXanadu,1\n"
    refused = server.client.post(
        "/v1/models/regression:predict", content=csv_body, headers={"Content-Type": CSV, "X-Request-ID": "csv"}
    )
    assert refused.status_code == 400 and "Xanadu" in refused.text and server.line("csv")["status"] == 400
    assert "Xanadu" not in server.log.read_text() and "tell-nobody" not in server.log.read_text()
    bad = server.predict("regression", [row], headers={"X-Request-ID": 'x" {injected}'})
    assert len(bad.headers["x-request-id"]) == 32
