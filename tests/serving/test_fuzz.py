"""Hostile requests: none of them may make the service fail or end. `pytest tests/serving -m fuzz` sends 10,000."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from boostline.serving.bodies import ARROW, CSV
from tests.serving.conftest import TASKS, raw_rows, serving

MEDIA = ["application/json", ARROW, CSV, "text/plain", "application/json; charset=utf-16", ""]
VALUES = [
    None, True, False, 0, -1, 2**31, 2**63 - 1, 2**63, -(2**64), 10**400, 1e308, -1e308, 5e-324, "", " ", "x" * 70_000,
    "NaN", "inf", "-Infinity", "1e999", "0x10", "١٢", "1_000", "\x00", "\ud7ff￿", "2020-02-30", "0000-00-00",
    "9999-12-31", "-290000-01-01", "2020-01-05T00:00:00+99:99", [], {}, [[]], {"a": {}}, [None] * 3, "';--", "../../x", "{{7*7}}",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    limits = {"SERVE_MAX_ROWS": "5000", "SERVE_MAX_BODY_BYTES": "1000000"}
    with serving(world, tmp_path_factory.mktemp("serve"), **limits) as running:
        yield running


def test_hostile_bodies_are_refused_or_answered(server):
    attack(server, seed=11, count=400)


@pytest.mark.fuzz
def test_ten_thousand_hostile_bodies(server):
    attack(server, seed=12, count=10_000)


def attack(server, seed, count):
    """Send `count` requests; every kind of outcome must occur, none of them a failure of the service."""
    rng = random.Random(seed)
    statuses: dict[int, int] = {}
    for number in range(count):
        path, headers, body = request(rng)
        answer = server.client.post(path, content=body, headers=headers)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (seed, number, headers, body[:500], answer.text)
        assert answer.status_code == 200 or set(answer.json()) == {"error", "remedy"}
    assert {200, 400, 415, 422} <= statuses.keys(), statuses
    assert server.process.poll() is None
    good = server.predict("binary", raw_rows("binary", 1))
    assert good.status_code == 200
    assert not [line for line in server.lines() if line["level"] in ("error", "critical")]


def request(rng):
    """Path, headers and body, all but sound."""
    task = rng.choice(TASKS)
    kind = rng.choice(["records", "columns", ARROW, CSV])
    body = valid(rng, task, kind)
    media = "application/json" if kind in ("records", "columns") else kind
    for _ in range(rng.choice([0, 1, 1, 2, 5, 30])):
        body = mutated(rng, body)
    if rng.random() < 0.1:
        media = rng.choice(MEDIA)
    headers = {"Content-Type": media, "Accept": rng.choice([*MEDIA, "*/*"])}
    if rng.random() < 0.2:
        headers |= {"X-Request-ID": text(rng), "X-Boostline-Key": text(rng)}
    query = rng.choice(["", "", "", "?explain=true", "?explain=%00", "?key=" + "k" * 3000])
    return f"/v1/models/{task}:predict{query}", headers, body


def text(rng):
    return "".join(rng.choice("abc\"'\\{}%;,<>~") for _ in range(rng.randrange(1, 90)))


def valid(rng, task, kind):
    """A sound body, or one whose values are hostile."""
    table = raw_rows(task, rng.randrange(4), seed=rng.randrange(50))
    if kind == ARROW:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, None, "zstd", "lz4"]))
        columns = {name: hostile_column(rng, table.column(name)) for name in table.column_names}
        table = pa.table(columns)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        return sink.getvalue()
    rows = json.loads(json.dumps(table.to_pylist(), default=str))
    for row in rows:
        for name in list(row):
            if rng.random() < 0.15:
                row[name] = rng.choice(VALUES)
            if rng.random() < 0.02:
                del row[name]
    if kind == CSV:
        lines = [",".join(table.column_names), *[",".join(str(row.get(n)) for n in table.column_names) for row in rows]]
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    body = (
        {"records": rows}
        if kind == "records"
        else {"columns": {n: [r.get(n) for r in rows] for n in table.column_names}}
    )
    return json.dumps(body).encode()


def hostile_column(rng, column):
    """The column, or one of another type."""
    if rng.random() > 0.1:
        return column
    count = len(column)
    kinds = [
        pa.nulls(count), pa.array([[1]] * count, pa.list_(pa.int64())), pa.array([{"a": 1}] * count, pa.struct({"a": pa.int64()})),
        pa.array([b"\xff\xfe"] * count, pa.binary()), pa.array([2**63] * count, pa.uint64()), pa.array([1] * count, pa.duration("ns")),
        pa.array([float("nan")] * count, pa.float64()), pa.array([1.5] * count, pa.float16()), pa.array([1] * count, pa.time32("s")),
        pa.array(["x"] * count, pa.string()).dictionary_encode(), pa.array([10**30] * count, pa.decimal128(38, 0)),
        pa.array([1] * count, pa.timestamp("ns", "Mars/Phobos")) if rng.random() < 0.5 else pa.array(["x"] * count, pa.string_view()),
    ]  # fmt: skip
    return rng.choice(kinds)


def mutated(rng, body):
    """The bytes with one thing done to them."""
    if not body:
        return rng.randbytes(rng.randrange(50))
    at = rng.randrange(len(body))
    match rng.randrange(7):
        case 0:
            return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
        case 1:
            return body[:at]
        case 2:
            return body[:at] + rng.randbytes(rng.randrange(1, 9)) + body[at:]
        case 3:
            return body[:at] + body[at + rng.randrange(1, 9) :]
        case 4:
            return body[:at] + body[rng.randrange(len(body)) :]
        case 5:
            return (
                body[:at]
                + rng.choice([b"[" * 3000, b"\x00" * 8, b"\xff" * 4, b"NaN", b"1e999", b'"', b"\n", b","])
                + body[at:]
            )
        case _:
            return body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :]


def test_schemathesis_finds_no_failure(server, tmp_path):
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{server.url}/openapi.json",
        "--checks",
        checks,
    ]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "3"]
    command += ["--generation-deterministic", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert not [line for line in server.lines() if line["level"] in ("error", "critical")]
