"""Bad requests: each is told what is wrong with it, and the service stays up."""

from __future__ import annotations

import http.client
import io
import json
import socket
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from boostline.serving.bodies import ARROW, CSV, JSON, read_rows
from boostline.serving.fit import Limits
from boostline.serving.refusal import Refused
from boostline.transform import RawColumn
from tests.serving.conftest import raw_rows, serving

ROW = {"city": "Rome", "floors": 2, "built": "2020-01-05", "size": 80.5, "age": 3}
PATH = "/v1/models/regression:predict"
LIMITS = {
    "SERVE_MAX_BODY_BYTES": "2000000",
    "SERVE_MAX_ROWS": "20000",
    "SERVE_TIMEOUT_SECONDS": "3",
}


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    with serving(world, tmp_path_factory.mktemp("serve"), datasets=("regression", "untrained"), **LIMITS) as running:
        yield running
        assert running.client.get("/health/live").status_code == 200
        assert running.predict("regression", [ROW]).status_code == 200
        assert not [line for line in running.lines() if line["level"] == "error"]


def post(server, body, kind="application/json", path=PATH, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.client.post(path, content=content, headers={"Content-Type": kind, **headers})


def stream(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def column(name, value):
    """Rows of which one value is another."""
    rows = [dict(ROW) for _ in range(10)]
    rows[6][name] = value
    return {"records": rows}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "the body is not JSON"),
        (b"{", 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not JSON"),
        (b'{"records": [' + b"[" * 100_000, 422, "row 1 is not an object"),
        (b'{"junk": [' + b"[" * 100_000, 400, "recursion depth"),
        (b'{"records": [{"size": NaN}]}', 400, "It has no NaN and no Infinity: a missing number is null"),
        (b'{"records": [{"size": -Infinity}]}', 400, "It has no NaN and no Infinity: a missing number is null"),
        (b'{"records": [{"city": "\\ud800"}]}', 400, "the body is not JSON"),
        (b'{"records": [{"size": 1e400}]}', 400, "the body is not JSON: Number out of range"),
        (b'{"records": 7, "records": []}', 422, "`records` is not a list"),
        ([ROW], 422, "is not an object with either `records` or `columns`"),
        ({}, 422, "is not an object with either `records` or `columns`"),
        ({"records": [], "columns": {}}, 422, "is not an object with either `records` or `columns`"),
        ({"records": {}}, 422, "`records` is not a list"),
        ({"records": [ROW, 7]}, 422, "row 2 is not an object"),
        ({"records": [ROW, {"city": "Rome", "floors": 1, "built": None}]}, 422, "row 2 lacks the columns size, age"),
        ({"columns": []}, 422, "`columns` is not an object"),
        ({"columns": {"city": []}}, 422, "the request lacks the columns floors, built, size, age"),
        ({"columns": dict.fromkeys(ROW, 3)}, 422, "column city is not a list"),
        ({"columns": {key: [1, 2, []] for key in ROW}}, 422, "row 3, column city: a list or an object is no value"),
        ({"columns": {key: [None] for key in ROW} | {"age": []}}, 422, "column age has 0 rows, column city has 1"),
        (column("size", "big"), 422, "row 7, column size: 'big' is no double"),
        (column("size", True), 422, "row 7, column size: bool is no double"),
        (column("size", [1]), 422, "row 7, column size: a list or an object is no value"),
        (column("size", {"a": 1}), 422, "row 7, column size: a list or an object is no value"),
        (column("size", 2**63), 422, "row 7, column size: the whole number needs more than 64 bits"),
        (column("floors", 1.5), 422, "row 7, column floors: 1.5 is no integer"),
        (column("floors", "2.0"), 422, "row 7, column floors: '2.0' is no integer"),
        (column("city", 1.5), 422, "row 7, column city: double is no string"),
        (column("built", 20200105), 422, "row 7, column built: int64 is no date"),
        (column("built", "05.01.2020"), 422, "row 7, column built: '05.01.2020' is no date"),
        ({"records": [ROW] * 20_001}, 413, "more than 20,000 rows"),
    ],
)  # fmt: skip
def test_json_that_does_not_fit(server, body, status, text):
    answer = post(server, body)
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert text in f"{found['error']}. {found['remedy']}" and found["remedy"]


def test_one_broken_row_of_ten_thousand_is_found(server):
    table = raw_rows("regression", 10_000)
    size = table.column("size").cast(pa.string()).to_pylist()
    size[8_123] = "12,5"
    broken = table.set_column(table.column_names.index("size"), "size", pa.array(size))
    for answer in (post(server, stream(broken), ARROW), server.predict("regression", broken)):
        assert answer.status_code == 422
        assert answer.json()["error"] == "row 8124, column size: '12,5' is no double"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "the body is not CSV"),
        (b"city,floors\nRome\n", 400, "the body is not CSV"),
        (b"city,floors,built,size,age\nRome,2,2020-01-05,80.5\n", 400, "Expected 5 columns, got 4"),
        (b"city,floors\nRome,2\n", 422, "the request lacks the columns built, size, age"),
        (b"city,city,floors,built,size,age\na,b,1,2020-01-01,1,1\n", 422, "column city is there twice"),
        (b"city,floors,built,size,age\na,1,,1,1\nb,1,,x,1\n", 422, "row 2, column size: 'x' is no double"),
        (b"city,floors,built,size,age\n\xff,1,,1,1\n", 400, "the body is not CSV"),
    ],
)
def test_csv_that_does_not_fit(server, body, status, text):
    answer = post(server, body, CSV)
    assert answer.status_code == status and text in answer.json()["error"], answer.text


CITY = {"city": RawColumn(type="string", clean=())}


def memory_of(body, status):
    """The most that reading a body takes, where it is read or refused so."""
    tracemalloc.start()
    try:
        read_rows(JSON, body, CITY, Limits(10, 10**6))
    except Refused as refused:
        assert refused.status == status
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "body",
    [
        b'{"columns": {"city": ["Rome"], "junk": [%s]}}',
        b'{"records": [{"city": "Rome", "junk": [%s]}]}',
        b'{"records": [{"city": [%s]}]}',
        b'{"records": [{"junk": [%s]}]}',
    ],
)
def test_json_that_no_column_needs_takes_no_memory(body):
    body %= b"{}," * 200_000 + b"{}"
    assert memory_of(body, 422) < len(body)


@pytest.mark.parametrize("value", [b'"a"', b"0.5", b'"\\\\\\""', b"{}"])
@pytest.mark.parametrize("shape", [b'{"columns": {"city": [%s]}}', b'{"columns": {"city": [%s], "city": []}}'])
def test_a_json_column_of_too_many_values_is_refused_before_it_takes_memory(shape, value):
    body = shape % b",".join([value] * 1_000_000)
    assert memory_of(body, 413) < 2 * len(body) + 4 * 2**20  # of NumPy's blocks


@pytest.mark.parametrize("text", ["a,b" * 9, '",",",', '\\",\\', "\\\\,,", "é,\u0022,", "x" * 2**19 + '","'])
def test_commas_within_texts_are_no_values(text):
    texts = [text] * 10
    for body in (
        json.dumps({"columns": {"city": texts}}),
        json.dumps({"columns": {"city": texts}}, ensure_ascii=False),
    ):
        assert read_rows(JSON, body.encode(), CITY, Limits(10, 10**6)).column("city").to_pylist() == texts
        with pytest.raises(Refused, match="more than 9 rows"):
            read_rows(JSON, body.encode(), CITY, Limits(9, 10**6))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_of_one_column_keeps_its_missing_rows(end):
    def read(*lines):
        body = end.join(["n", *lines]).encode()
        table = read_rows(CSV, body, {"n": RawColumn(type="double", clean=())}, Limits(10, 1000))
        return table.column("n").to_pylist()

    assert read("1", "", "NA", "4") == read("1", "", "NA", "4", "") == [1, None, None, 4]
    assert read("1", "", "") == [1, None]
    assert read("") == []
    two = f"n,more{end}1,2{end}{end}".encode()
    assert read_rows(CSV, two, {"n": RawColumn(type="double", clean=())}, Limits(10, 1000)).num_rows == 1


@pytest.mark.parametrize(
    "first", ["x", '"x\ny"', '\ufeff"x\ny"', '"x""\r\n"'], ids=["plain", "lines", "mark", "quotes"]
)
def test_a_csv_of_very_many_columns_is_refused_and_one_of_many_is_read(first):
    contract = {"n": RawColumn(type="double", clean=()), "m": RawColumn(type="double", clean=())}

    def read(more):
        body = f"{first},{','.join(f'c{number}' for number in range(more - 1))},m,n\n{',' * more}2,1\n"
        return read_rows(CSV, body.encode(), contract, Limits(10, 1000)).to_pylist()

    assert read(1_000) == [{"n": 1.0, "m": 2.0}]
    with pytest.raises(Refused, match="the header has more than 1,002 columns") as caught:
        read(1_001)
    assert caught.value.status == 413 and caught.value.remedy.endswith(": n, m")


def test_a_csv_whose_header_never_ends_is_refused():
    contract = {"n": RawColumn(type="double", clean=())}
    with pytest.raises(Refused, match="the body is not CSV") as caught:
        read_rows(CSV, b'"' + b"n" * 2 * 1024**2, contract, Limits(10, 1000))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("missing", "texts", "numbers"),
    [
        (("", "NA"), ["a", None, None, None, "?"], None),
        (("",), ["a", "NA", " NA\t", None, "?"], None),
        (("?",), ["a", "NA", " NA\t", None, None], [1.0, None, None]),
        ((), ["a", "NA", " NA\t", None, "?"], None),
    ],
)
def test_texts_that_mean_missing_in_csv_are_those_of_the_datasets_own_files(missing, texts, numbers):
    def read(kind, *cells, column="n"):
        contract = {
            "n": RawColumn(type=kind, clean=(), null_values=missing),
            "other": RawColumn(type="string", clean=()),
        }
        body = "n,other\n" + "".join(f"{cell},NA\n" for cell in cells)
        return read_rows(CSV, body.encode(), contract, Limits(10, 1000)).column(column).to_pylist()

    assert read("string", "a", "NA", " NA\t", '""', "?") == texts
    assert read("string", "a", column="other") == [None]
    if numbers:
        assert read("double", "1", "?", " ? ") == numbers
    else:
        with pytest.raises(Refused, match=r"row 2, column n: '\?' is no double"):
            read("double", "1", "?")
    assert read("long", "1", "") == [1, None]


@pytest.mark.parametrize("number", [2**53 + 1, 10**17, -(2**63)])
def test_a_large_whole_number_is_the_nearest_double_in_every_format(number):
    contract = {"n": RawColumn(type="double", clean=())}

    def read(kind, body):
        return read_rows(kind, body, contract, Limits(10, 1000)).column("n").to_pylist()

    expected = [float(number), 0.5]
    for numbers in ([number, 0.5], [float(number), 0.5], [str(number), 0.5]):
        assert read(JSON, json.dumps({"columns": {"n": numbers}}).encode()) == expected
        assert read(JSON, json.dumps({"records": [{"n": item} for item in numbers]}).encode()) == expected
    assert read(CSV, f"n\n{number}\n0.5\n".encode()) == expected
    assert read(ARROW, stream(pa.table({"n": [number]}))) == [float(number)]


def test_texts_of_truth_values_and_whole_numbers_are_those_of_raw_files_in_every_format():
    contract = {"open": RawColumn(type="boolean", clean=()), "floors": RawColumn(type="integer", clean=())}

    def read(kind, truth, number):
        body = {
            JSON: json.dumps({"records": [{"open": truth, "floors": number}]}).encode(),
            CSV: f"open,floors\n{truth},{number}\n".encode(),
            ARROW: stream(pa.table({"open": [truth], "floors": [number]})),
        }[kind]
        return read_rows(kind, body, contract, Limits(10, 10**6)).to_pylist()

    for kind in (JSON, CSV, ARROW):
        assert read(kind, "Yes", "+3") == read(kind, "t", "3") == [{"open": True, "floors": 3}]
        assert read(kind, "N", "-1") == [{"open": False, "floors": -1}]
        for number in ("0x10", "0xFFFFFFFFFFFFFFFF"):
            with pytest.raises(Refused, match=f"row 1, column floors: '{number}' is no integer"):
                read(kind, "no", number)


def test_csv_without_a_value_is_missing(server):
    found = post(server, b"city,floors,built,size,age\nRome,,NA,,1\n,2,2020-01-05,80.5,3\n", CSV)
    nulls = [{"city": "Rome", "floors": None, "built": None, "size": None, "age": 1}, ROW | {"city": None}]
    assert found.json() == server.predict("regression", nulls).json()


def test_arrow_that_does_not_fit(server):
    table = raw_rows("regression", 100)
    good = stream(table)
    index = table.column_names.index("size")
    nested = table.set_column(index, "size", pa.array([[1.0]] * 100))
    nowhere = table.set_column(2, "built", pa.array([1] * 100, pa.timestamp("ns", "Mars/Phobos")))
    lacking = table.drop_columns(["size"])
    names = [*table.column_names, "size"]
    twice = pa.table([*table.columns, table.column("size")], names=names)
    for body, status, text in [
        (b"", 400, "the body is not an Arrow stream"),
        (b"ARROW1\0\0" + good, 400, "the body is not an Arrow stream"),
        (good[: len(good) // 2], 400, "the body is not an Arrow stream"),
        (stream(table, compression="zstd"), 400, "the Arrow stream is compressed"),
        (stream(table, compression="lz4"), 400, "the Arrow stream is compressed"),
        (stream(nested), 422, "row 1, column size: list<item: double> is no double"),
        (stream(nowhere), 422, "row 1, column built: this timestamp[ns, tz=Mars/Phobos] is no date"),
        (stream(lacking), 422, "the request lacks the column size"),
        (stream(twice), 422, "column size is there twice"),
        (stream(pa.table({"city": pa.nulls(10**9)})), 413, "more than 20,000 rows"),
    ]:
        answer = post(server, body, ARROW)
        assert answer.status_code == status and text in answer.json()["error"], answer.text
    bad = pa.StringArray.from_buffers(2, pa.array([0, 9999, 3], pa.int32()).buffers()[1], pa.py_buffer(b"abc"))
    hostile = pa.table({**{name: pa.nulls(2) for name in ROW}, "city": bad})
    assert post(server, stream_unchecked(hostile), ARROW).status_code == 400


def stream_unchecked(table):
    """A stream whose offsets are as broken as the table's."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table.to_batches()[0])
    return sink.getvalue()


def test_arrow_types_that_people_send(server):
    table = raw_rows("regression", 50)
    expected = post(server, stream(table), ARROW).json()
    index = table.column_names.index("city")
    plain = table.column("city").combine_chunks()
    coded = plain.dictionary_encode()
    # What Polars writes for its categories.
    views = pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string_view()))
    for city in (plain.cast(pa.large_string()), plain.cast(pa.string_view()), coded, views):
        assert post(server, stream(table.set_column(index, "city", city)), ARROW).json() == expected
    small = table.set_column(table.column_names.index("floors"), "floors", table.column("floors").cast(pa.int8()))
    assert post(server, stream(small), ARROW).json() == expected


def test_arrow_that_is_many_times_its_body_is_refused(server):
    long, rows = pa.array(["a" * 10_000]), 10_000
    view = long.cast(pa.string_view())
    first = pa.array(np.zeros(rows, np.int8))
    many = pa.Array.from_buffers(
        pa.string_view(), rows, [None, pa.py_buffer(view.buffers()[1].to_pybytes() * rows), view.buffers()[2]]
    )
    for city in (
        pa.DictionaryArray.from_arrays(first, long),
        pa.DictionaryArray.from_arrays(first, view),
        many,
        pa.DictionaryArray.from_arrays(pa.array(np.arange(rows, dtype=np.int16)), many),
    ):
        answer = post(server, stream(pa.table({"city": city})), ARROW)
        assert answer.status_code == 413 and "more than 8,000,000 bytes" in answer.json()["error"], answer.text
    # Very many batches, of which each takes memory.
    batch = pa.record_batch({"city": pa.array([], pa.string())})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(10_001):
            writer.write_batch(batch)
    assert len(sink.getvalue()) < 2_000_000
    answer = post(server, sink.getvalue(), ARROW)
    assert answer.status_code == 413 and "more than 10,000 batches" in answer.json()["error"]
    # One large dictionary that each of many batches would be checked with.
    batch = pa.record_batch({"city": pa.DictionaryArray.from_arrays(first[:1], pa.array(["a" * 1_000_000]))})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(100):
            writer.write_batch(batch)
    assert post(server, sink.getvalue(), ARROW).status_code == 413


@pytest.mark.parametrize("kind", [pa.null(), pa.bool_(), pa.list_(pa.int8()), pa.dictionary(pa.int8(), pa.binary())])
def test_an_arrow_column_without_a_value_is_missing_whatever_its_type(server, kind):
    columns = {name: pa.nulls(2, kind) for name in ROW}
    found = post(server, stream(pa.table(columns)), ARROW)
    assert found.json() == server.predict("regression", [dict.fromkeys(ROW)] * 2).json()


def test_other_media_types_and_encodings_are_refused(server):
    assert post(server, b"x=1", "application/x-www-form-urlencoded").status_code == 415
    assert "application/json" in post(server, b"{}", "text/html").json()["remedy"]
    assert server.client.post(PATH, content=b"{}").status_code == 415
    assert post(server, {"records": [ROW]}, **{"Content-Encoding": "gzip"}).status_code == 415
    assert post(server, {"records": [ROW]}, path=PATH + "?explain=maybe").json()["error"] == "explain is 'maybe'"


def test_an_unknown_dataset_is_404_and_one_without_a_model_503(server):
    unknown = post(server, {"records": [ROW]}, path="/v1/models/nobody:predict")
    assert unknown.status_code == 404 and "regression, untrained" in unknown.json()["remedy"]
    without = post(server, {"records": [ROW]}, path="/v1/models/untrained:predict")
    assert without.status_code == 503
    assert without.json()["error"] == "untrained has no model yet: no version has been promoted"
    assert server.client.get("/v1/models/untrained").status_code == 503
    assert server.client.get("/v1/models/..%2f..%2fetc:predict").status_code == 404
    assert server.client.get("/nothing").json()["error"] == "not found"
    assert server.client.get(PATH).status_code in (404, 405)


def test_a_body_beyond_the_limit_is_refused_by_its_length_and_while_it_comes(server):
    assert post(server, b" " * 2_000_001).status_code == 413
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(1600):
            sent += 65_536
            yield b" " * 65_536

    with connection(server) as client:
        client.putrequest("POST", PATH)
        client.putheader("Content-Type", "application/json")
        client.putheader("Transfer-Encoding", "chunked")
        client.endheaders()
        try:
            for chunk in endless():
                client.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        except OSError:
            pass  # the service closed the connection: it has had enough
        assert sent < 100 * 2**20
    assert server.predict("regression", [ROW]).status_code == 200


def test_a_body_that_never_ends_is_given_up(server):
    with connection(server) as client:
        client.putrequest("POST", PATH)
        client.putheader("Content-Type", "application/json")
        client.putheader("Content-Length", "100")
        client.endheaders(b"{")
        answer = client.getresponse()
        assert answer.status == 408 and b"did not end within 3 s" in answer.read()


class connection:
    """A bare connection, for requests that no client library would send."""

    def __init__(self, server):
        self._client = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)

    def __enter__(self):
        return self._client

    def __exit__(self, *_):
        self._client.close()


def test_bytes_that_are_no_http_do_not_matter(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(b"\x16\x03\x01" + bytes(range(256)))
        raw.settimeout(10)
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
