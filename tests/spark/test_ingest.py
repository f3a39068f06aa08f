"""Raw files to clean days: what is read, what is refused, and with which words."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime

import pyarrow as pa
import pytest

from boostline.errors import DataInvalid, InputChanged, Superseded
from boostline.lake import paths
from boostline.lake.manifest import read_current
from boostline.lake.plan import plan_ingest
from boostline.lake.store import Store
from boostline.spark import ingest as ingest_module
from boostline.spark.ingest import classify_rows, run_ingest
from boostline.spark.raw import inspect_files, parse_json, read_raw
from tests.spark.lab import DAY, GOOD_ROWS, HEADER, SITES, Lab, csv, dataset_of, parquet, truncated_gzip

READINGS = ("readings", DAY)


def test_good_rows_come_out_typed_and_sorted_by_id(lab: Lab) -> None:
    lab.land_all(csv(["2, B ,1.5,on,2024-03-10T05:00:00Z,3", "1,NA,,off,,"]))
    manifest = lab.ingest(dataset_of())[READINGS]
    assert manifest.rows == {"rows": 2, "quarantined": 0, "duplicates": 0}
    assert lab.rows(manifest).drop_columns(["at"]).to_pylist() == [
        {"id": 1, "site": None, "power": None, "state": "off", "load": None, "data_date": date(2024, 3, 10)},
        {"id": 2, "site": "b", "power": 1.5, "state": "on", "load": 3.0, "data_date": date(2024, 3, 10)},
    ]
    assert lab.rows(manifest)["at"].to_pylist()[1].isoformat() == "2024-03-10T05:00:00+00:00"
    assert manifest.columns["data_date"] == "date" and manifest.columns["power"] == "double"


BAD_ROWS = {
    "x1,a,1,on,,1": "id: 'x1' is not a long",
    ",a,1,on,,1": "id: required and missing",
    "3,a,abc,on,,1": "power: 'abc' is not a double",
    "4,a,3d,on,,1": "power: '3d' is not a double",
    "5,a,-5,on,,1": "power: '-5' is below 0",
    "6,a,Infinity,on,,1": "power: 'Infinity' is not finite",
    "7,a,1e999,on,,1": "power: '1e999' is not finite",
    "8,a,1,maybe,,1": "state: 'maybe' is none of on, off",
    "9,a,1,on,12:30,1": "at: '12:30' is not a timestamp",
    "10,a,1,on,,": None,
    "11,a,1,on": "ragged row: 4 of 6 fields",
    "12,a,1,on,,1,7,8": "ragged row: 8 of 6 fields",
    '13,"a,1,on,,1': "broken quotes",
    "14,a\x00,1,on,,1": "NUL byte",
    "15,a,NaN,on,,nan": None,
    '16,"a ""b"", c",1,on,,1': None,
    "17,a,1,on,2024-03-10 01:02:03,1": None,
    "18,a,1,on,2024-13-45,1": "at: '2024-13-45' is not a timestamp",
    "19.5,a,1,on,,1": "id: '19.5' is not a long",
    "20,A\u00e9,1,on,,1": None,
}


def test_each_bad_row_goes_to_quarantine_with_its_reason(lab: Lab) -> None:
    body = csv(list(BAD_ROWS)) + b"99,\xff\xfe,1,on,,1\n"
    lab.land_all(body)
    manifest = lab.ingest(dataset_of({"tables.readings.max_bad_share": 1.0}))[READINGS]
    wanted = sorted([reason for reason in BAD_ROWS.values() if reason] + ["invalid UTF-8"])
    rows = lab.quarantined()
    assert sorted(row["reasons"][0] for row in rows) == wanted
    assert all(len(row["reasons"]) == 1 and row["file"].endswith("/date=2024-03-10/part.csv") for row in rows)
    kept = lab.rows(manifest).to_pylist()
    assert [row["id"] for row in kept] == [10, 15, 16, 17, 20]
    assert [row["site"] for row in kept][2:] == ['a "b", c', "a", "a\u00e9"]
    assert kept[1]["power"] is None and kept[1]["load"] is None
    assert manifest.rows["quarantined"] == len(rows) == len(wanted)
    assert manifest.details["reasons"]["power: is not a double"] == 2


def test_quarantine_keeps_the_raw_text(lab: Lab) -> None:
    lab.land_all(csv([*GOOD_ROWS, "77, A ,abc,on,,1"]))
    lab.ingest(dataset_of({"tables.readings.max_bad_share": 0.5}))
    (row,) = lab.quarantined()
    assert (row["id"], row["site"], row["power"]) == ("77", " A ", "abc")


def test_too_many_bad_rows_fail_and_publish_nothing(lab: Lab) -> None:
    lab.land_all(csv([*GOOD_ROWS, "90,a,abc,on,,1", "91,a,-1,on,,1"]))
    with pytest.raises(DataInvalid) as caught:
        lab.ingest(dataset_of({"tables.readings.max_bad_share": 0.1}))
    text = str(caught.value)
    assert "table readings on 2024-03-10: 2 of 14 rows (14.29%) break the contract" in text
    assert "power: is below 0 (1)" in text and "power: is not a double (1)" in text and "quarantine/meters/" in text
    assert read_current(lab.store, "clean", "meters", "readings", DAY) is None
    assert read_current(lab.store, "clean", "meters", "sites", paths.REFERENCE) is None
    assert len(lab.quarantined()) == 2


BAD_FILES = {
    "empty": (b"", "part.csv", "part.csv is empty"),
    "header only": (csv([]), "part.csv", "holds a header and no rows, so table readings has none on 2024-03-10"),
    "no header": (csv()[len(HEADER) + 1 :], "part.csv", "has no header, or a wrong one: expected id, site, power"),
    "column dropped": (csv(header="id,site,power,state,at"), "part.csv", "lacks the column(s) load: expected"),
    "column renamed": (csv(header=HEADER.replace("load", "lod")), "part.csv", "found id, site, power, state, at, lod"),
    "column twice": (csv(header=HEADER + ",load"), "part.csv", "has the column(s) load twice"),
    "UTF-16": (csv().decode().encode("utf-16"), "part.csv", "is UTF-16"),
    "truncated gzip": (gzip.compress(csv())[:-12], "part.csv.gz", "is a truncated gzip file"),
    "no gzip": (csv(), "part.csv.gz", "is not a gzip file"),
    "second gzip member truncated": (gzip.compress(csv([])) + gzip.compress(csv())[:-12], "part.csv.gz",
                                     "is a truncated gzip file"),
    "second gzip member is none": (gzip.compress(csv()) + csv(), "part.csv.gz", "is not a gzip file"),
    "endless header": (gzip.compress(HEADER.encode() + b"," + b"x" * 200_000), "part.csv.gz",
                       "part.csv.gz is longer than 65536 bytes"),
    "gzip unnamed": (gzip.compress(csv()), "part.csv", "is gzip, and its name does not say so"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named(lab: Lab, case: str) -> None:
    body, name, message = BAD_FILES[case]
    lab.land_all(body, name=name)
    with pytest.raises(DataInvalid) as caught:
        lab.ingest(dataset_of())
    assert message in str(caught.value) and f"readings/date={DAY}/{name}" in str(caught.value)
    assert not [item for item in lab.store.list("clean/") if item.key.endswith("current.json")]


def test_files_of_every_table_are_looked_into_before_spark_reads_one(store: Store) -> None:
    lab = Lab(None, store)  # type: ignore[arg-type]  # there is no Spark to read with
    lab.land_all()
    lab.land("place\na\n", paths.REFERENCE, table="sites")
    with pytest.raises(DataInvalid, match=r"sites/.*part\.csv has no header, or a wrong one: expected site, area"):
        lab.ingest(dataset_of())


def test_a_large_truncated_gzip_is_named(lab: Lab) -> None:
    from boostline.spark.failures import explain

    lab.land_all(truncated_gzip(), name="big.csv.gz")
    with pytest.raises(Exception) as caught:
        lab.ingest(dataset_of())
    error = explain(caught.value)
    assert isinstance(error, DataInvalid) and "big.csv.gz is truncated or corrupt" in str(error)


def test_reordered_and_added_columns_bom_crlf_and_gzip_are_fine(lab: Lab) -> None:
    reordered = "load,extra,at,state,power,site,id\r\n7,zzz,,on,1,a,3\r\n\r\n"
    lab.land_all(b"\xef\xbb\xbf" + csv(["1,a,1,on,,5"]), name="bom.csv")
    lab.land(gzip.compress(reordered.encode()), name="[odd] name*.csv.gz")
    manifest = lab.ingest(dataset_of())[READINGS]
    kept = lab.rows(manifest).to_pylist()
    assert [(row["id"], row["load"]) for row in kept] == [(1, 5.0), (3, 7.0)]
    assert manifest.details["ignored_columns"] == ["extra"] and manifest.rows["quarantined"] == 0


def test_a_gzip_of_several_members_is_read_as_one_file(lab: Lab) -> None:
    header, rows = csv([]), csv(GOOD_ROWS)[len(HEADER) + 1 :]
    lab.land_all(gzip.compress(header) + gzip.compress(rows), name="part.csv.gz")
    assert lab.ingest(dataset_of())[READINGS].rows["rows"] == 12
    # More members than are looked at for the header.
    many = "".join(f"{n},a,1,on,,{n}\n" for n in range(100, 3100))
    lab.land(b"".join(map(gzip.compress, [header, *many.encode().splitlines(keepends=True)])), name="many.csv.gz")
    assert lab.ingest(dataset_of())[READINGS].rows == {"rows": 3012, "quarantined": 0, "duplicates": 0}


def test_identical_rows_collapse_and_conflicting_ones_are_bad(lab: Lab) -> None:
    lab.land_all(csv([*GOOD_ROWS, GOOD_ROWS[0], GOOD_ROWS[0], "2,a,99,on,,1"]))
    manifest = lab.ingest(dataset_of({"tables.readings.max_bad_share": 0.5}))[READINGS]
    assert manifest.rows == {"rows": 11, "quarantined": 2, "duplicates": 2}
    assert {row["reasons"][0] for row in lab.quarantined()} == {"duplicate id with different content"}
    assert {row["id"] for row in lab.quarantined()} == {"2"}


def test_a_reference_key_that_is_not_unique_is_refused(lab: Lab) -> None:
    lab.land_all()
    lab.land(SITES + "b,9\na,1\n", paths.REFERENCE, table="sites")
    with pytest.raises(DataInvalid) as caught:
        lab.ingest(dataset_of())
    assert "table sites: the key [site] is not unique: site = b stands in rows with different content" in str(
        caught.value
    )


def test_the_magic_committer_wrote_the_rows(lab: Lab) -> None:
    lab.land_all()
    manifest = lab.ingest(dataset_of())[READINGS]
    folder = f"clean/meters/attempts/{manifest.attempt}/readings/"
    assert json.loads(lab.store.get(folder + "_SUCCESS")[0])["committer"] == "magic"
    assert all(item.key.startswith(folder + f"date={DAY}/") for item in manifest.files)


def test_the_same_input_gives_the_same_hash_and_one_file_a_day(lab: Lab) -> None:
    dataset = dataset_of({"window.days": 3, "window.min_days": 1})
    lab.land_all()
    for day in ("2024-03-08", "2024-03-09"):
        lab.land(csv([row.replace(DAY, day) for row in GOOD_ROWS]), day=day)
    first = lab.ingest(dataset)
    targets = plan_ingest(lab.store, dataset, date.fromisoformat(DAY))
    assert not targets.stale and len(targets.current) == 4
    second = lab.ingest(dataset_of({"window.days": 3, "tables.readings.max_bad_share": 0.3}))
    days = [("readings", day) for day in ("2024-03-08", "2024-03-09", DAY)]
    assert [first[day].row_hash for day in days] == [second[day].row_hash for day in days]
    assert [len(first[day].files) for day in days] == [1, 1, 1]
    assert first[READINGS].attempt != second[READINGS].attempt


def test_a_large_day_becomes_several_files(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.land_all()
    whole = lab.ingest(dataset_of())[READINGS]
    monkeypatch.setattr(ingest_module, "BYTES_PER_FILE", 150)
    parts = lab.ingest(dataset_of({"tables.readings.max_bad_share": 0.1}))[READINGS]
    assert len(parts.files) > 1 and parts.row_hash == whole.row_hash and parts.rows == whole.rows


@pytest.mark.parametrize("files", [1, 4])
def test_rows_are_shuffled_once_and_those_of_a_date_lie_in_as_many_tasks_as_asked(lab: Lab, files: int) -> None:
    dataset = dataset_of()
    raw = inspect_files(lab.store, dataset.tables["readings"], [lab.land(csv([*GOOD_ROWS, GOOD_ROWS[0]]))])
    text = read_raw(lab.spark, lab.store, dataset.tables["readings"], raw)
    rows = classify_rows(text, dataset, "readings", 4, files)
    assert rows._jdf.queryExecution().executedPlan().toString().count("Exchange ") == 1
    tasks = [len(part) for part in rows.rdd.glom().collect()]
    assert len(tasks) == 4 and sum(tasks) == 13 and (sum(map(bool, tasks)) > 1) == (files > 1)
    assert "_bucket" not in rows.columns


def test_a_file_replaced_while_it_was_read_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.land_all()
    write = ingest_module._write

    def write_and_replace(*args: object) -> None:
        write(*args)  # type: ignore[arg-type]
        lab.land(csv(GOOD_ROWS[:5]))

    monkeypatch.setattr(ingest_module, "_write", write_and_replace)
    with pytest.raises(InputChanged, match=r"part\.csv was replaced while this run read it"):
        lab.ingest(dataset_of())
    assert read_current(lab.store, "clean", "meters", "readings", DAY) is None


def test_a_zombie_with_older_inputs_is_superseded(lab: Lab) -> None:
    dataset = dataset_of()
    lab.land_all()
    stale = plan_ingest(lab.store, dataset, date.fromisoformat(DAY)).stale
    zombie = lab.request("ingest", dataset, DAY, targets=stale)
    newer = dataset_of({"tables.readings.max_bad_share": 0.2})
    winner = lab.ingest(newer)[READINGS]
    with pytest.raises(Superseded, match=winner.attempt):
        run_ingest(lab.spark, lab.store, zombie)
    assert read_current(lab.store, "clean", "meters", "readings", DAY)[0].attempt == winner.attempt  # type: ignore[index]


def test_json_lines(lab: Lab) -> None:
    rows = [{"id": 1, "site": " A", "power": 2.5, "state": "on", "load": 1}, {"id": "2", "more": {"x": 1}}]
    body = "\n".join([*map(json.dumps, rows), '{"id": 3,', "[1]", ""])
    lab.land(SITES, paths.REFERENCE, table="sites")
    lab.land(body, name="rows.json")
    dataset = dataset_of({"tables.readings.source": {"format": "json"}, "tables.readings.max_bad_share": 0.6})
    manifest = lab.ingest(dataset)[READINGS]
    assert [(row["id"], row["site"], row["power"]) for row in lab.rows(manifest).to_pylist()] == [
        (1, "a", 2.5),
        (2, None, None),
    ]
    assert {row["reasons"][0] for row in lab.quarantined()} == {"not a JSON object"}


JSON_LINES = {
    '{"id": 1}': None,
    '{"id": 2, "site": "}{\\"]"} \t': None,
    '{"id": 3, "more": [NaN, {"id": 1}, {"id": 2}]}': None,
    "{'id': 4}": None,
    '{"id": 5}{"id": 6}': "more than one JSON object in a line",
    '{"id": 7} {"id": 8} {"id": 9}': "more than one JSON object in a line",
    '{"id": 10} garbage': "more than one JSON object in a line",
    '{"id": 11},': "more than one JSON object in a line",
    '{"id": 12}, {"id": 13}]': "more than one JSON object in a line",
    '{"id": 14}]': "more than one JSON object in a line",
    '{"id": 15}, null': "more than one JSON object in a line",
    "null": "not a JSON object",
    '[{"id": 16}]': "not a JSON object",
    '{"id": 17': "not a JSON object",
}


def test_a_line_of_several_json_objects_goes_to_quarantine_with_its_first_one(lab: Lab) -> None:
    lab.land(SITES, paths.REFERENCE, table="sites")
    lab.land("\n".join(JSON_LINES), name="rows.json")
    source = {"tables.readings.source": {"format": "json"}}
    with pytest.raises(DataInvalid, match=r"of 14 rows .* more than one JSON object in a line \(7\)"):
        lab.ingest(dataset_of(source))
    manifest = lab.ingest(dataset_of({**source, "tables.readings.max_bad_share": 1.0}))[READINGS]
    kept = [(row["id"], row["site"], row["power"]) for row in lab.rows(manifest).to_pylist()]
    assert kept == [(1, None, None), (2, '}{"]', None), (3, None, None), (4, None, None)]
    assert manifest.rows["quarantined"] == 10
    told = sorted((row["reasons"][0], row["id"] or "") for row in lab.quarantined()[:10])
    assert told == sorted(
        (why, line[7:].split("}")[0] if why.startswith("more") else "") for line, why in JSON_LINES.items() if why
    )


def test_a_message_without_a_value_is_told_as_such(lab: Lab) -> None:
    values = {
        None: "no value",
        "": "no value",
        " \t": "no value",
        '{"id": 1}': None,
        "{}{}": "more than one JSON object in a line",
    }
    lines = lab.spark.createDataFrame([(value, "kafka:") for value in values], "value string, _file string")
    parsed = parse_json(dataset_of().tables["readings"], lines).collect()
    assert [row["_problem"] for row in parsed] == list(values.values())


def test_parquet_columns_are_cast_to_the_contract(lab: Lab) -> None:
    columns = {"id": [1, 2], "site": ["A", None], "power": pa.array([1, -2], pa.int8()), "state": ["on", "on"],
               "at": pa.array([0, None], pa.timestamp("us", "UTC")), "load": ["3.5", "x"],
               "more": pa.array([1, 2], pa.timestamp("ns"))}  # fmt: skip
    lab.land(SITES, paths.REFERENCE, table="sites")
    lab.land(parquet(**columns), name="rows.parquet")
    other = {"id": [3, 4], "site": [5, 6], "power": [7.5, 8.5], "load": [9, 10]}
    lab.land(parquet(**columns | other), name="other_types.parquet")
    moment = datetime(2024, 3, 1, 23, 30, 0, 123456)
    int96 = {"id": [5], "site": ["b"], "power": [9.0], "state": ["on"], "at": pa.array([moment]), "load": ["1"]}
    lab.land(parquet(True, **int96), name="spark.parquet")
    source = {"tables.readings.source": {"format": "parquet"}, "tables.readings.max_bad_share": 0.6}
    manifest = lab.ingest(dataset_of(source))[READINGS]
    row, *others = lab.rows(manifest).to_pylist()
    assert (row["id"], row["site"], row["power"], row["load"]) == (1, "a", 1.0, 3.5)
    assert [(item["id"], item["site"], item["power"], item["load"]) for item in others] == [
        (3, "5", 7.5, 9.0),
        (4, "6", 8.5, 10.0),
        (5, "b", 9.0, 1.0),
    ]
    assert row["at"].isoformat() == "1970-01-01T00:00:00+00:00"
    assert others[-1]["at"].isoformat() == "2024-03-01T23:30:00.123456+00:00"
    for zone in (None, "UTC"):
        lab.land(parquet(**columns | {"at": pa.array([0, 1], pa.timestamp("ns", zone))}), name="rows.parquet")
        with pytest.raises(DataInvalid, match=r"rows\.parquet: column at is timestamp\[ns.*cannot be read"):
            lab.ingest(dataset_of(source))
    assert lab.quarantined()[0]["reasons"] == ["power: '-2' is below 0", "load: 'x' is not a double"]
    lab.land(b"PAR1 not really", name="first.parquet")
    with pytest.raises(DataInvalid, match=r"first\.parquet is not a Parquet file"):
        lab.ingest(dataset_of(source))
    # A stream leaves that file out, and Spark may not ask it for the schema of those beside it.
    keys = [lab.land(parquet(**columns), name=name) for name in ("s.parquet", "t.parquet")]
    table = dataset_of(source).tables["readings"]
    assert read_raw(lab.spark, lab.store, table, inspect_files(lab.store, table, keys)).count() == 4
