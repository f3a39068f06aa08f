"""Dataset files: what is accepted, and what an error tells a person."""

from __future__ import annotations

import copy
import gzip
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boostline.dataset import change_dataset, dataset_files, dataset_path, load_dataset, parse_dataset
from boostline.dataset.draft import draft_dataset
from boostline.errors import BoostlineError, DataInvalid, DataMissing, DatasetInvalid
from boostline.lake.store import Store
from boostline.spark.raw import inspect_files

SHIPPED = Path("conf/datasets")

MINIMAL: dict[str, Any] = {
    "name": "houses",
    "task": "regression",
    "label": {"name": "price"},
    "id": ["house"],
    "tables": {
        "sales": {
            "daily": True,
            "columns": {
                "house": {"type": "long"},
                "price": {"type": "double"},
                "area": {"type": "double"},
                "town": {"type": "string", "clean": ["trim", {"replace": "[0-9]+$", "by": ""}]},
            },
        },
        "towns": {"key": ["town"], "columns": {"town": {"type": "string"}, "people": {"type": "long"}}},
    },
    "joins": ["towns"],
    "split": {"kind": "hash"},
    "features": {"categorical": ["town"], "numeric": ["area", "people"]},
    "baseline": {"kind": "linear"},
    "gate": {"metric": "rmse"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(MINIMAL)
    node: Any = data
    *parents, leaf = path.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[leaf] = value
    return data


@pytest.mark.parametrize("path", dataset_files(SHIPPED), ids=lambda path: path.stem)
def test_shipped_files_are_valid(path: Path) -> None:
    assert load_dataset(path).name == path.stem


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("modell", {}, "modell: unknown key; did you mean 'model'?"),
        ("model.params", {"etaa": 1}, "model.params.etaa: unknown key; did you mean 'eta'?"),
        ("model.rounds", "many", "model.rounds: Input should be a valid integer"),
        ("model.params", {"eta": 7}, "model.params.eta: Input should be less than or equal to 1 (given: 7)"),
        ("name", "../houses", "name: String should match pattern"),
        ("tables.../../etc", {"columns": {"a": {"type": "long"}}}, "should match pattern"),
        ("wait", {"marker": "../x"}, "wait.marker: String should match pattern"),
        ("wait", {"marker": "DONE"}, "wait.marker: String should match pattern '^[_.]"),
        ("split", {"kind": "tim"}, "split: Input tag 'tim'"),
        ("split", {"kind": "time", "valid_days": 1, "test_days": 1}, "must be below window.days (1)"),
        ("split", {"kind": "first_rows", "test_rows": 5}, "give either valid_rows or test_is_valid: true"),
        ("gate.metric", "auc", "gate.metric: 'auc' is none of regression's: rmse, mae, r2, gini"),
        ("baseline.kind", "logistic", "logistic does not fit task regression"),
        ("features.numeric", ["arae"], "features: 'arae' is not known; did you mean 'area'?"),
        ("features.numeric", ["price"], "['price'] would leak the label"),
        ("features.never", ["area"], "['area'] would leak the label"),
        ("features.derived", {"big": {"ratio": ["area", "people"], "hour": "area"}}, "exactly one of hour"),
        ("features.derived", {"dow": {"weekday": None}}, "derived.dow: exactly one of hour"),
        ("features.derived", {"both": {"concat": []}}, "derived.both: exactly one of hour"),
        ("features.derived", {"reasons": {"ratio": ["area", "people"]}}, "derived: ['reasons'] are reserved"),
        ("features.derived", {"_code_a": {"ratio": ["area", "people"]}}, "derived: ['_code_a'] are reserved"),
        (
            "features",
            {"categorical": ["area"]},
            "features.categorical: area is of type double; allowed there: boolean, date",
        ),
        ("features", {"numeric": ["town"]}, "features.numeric: town is of type string; allowed there: boolean, double"),
        (
            "features.derived",
            {"when": {"hour": "area"}},
            "derived.when: area is of type double; allowed there: timestamp",
        ),
        ("features.derived", {"wide": {"ratio": ["town", "area"]}}, "derived.wide: town is of type string"),
        ("label", {"name": "cost"}, "label: 'cost' is no column"),
        ("joins", ["sales"], "joins: 'sales' is not a reference table"),
        ("tables.sales.daily", False, "exactly one table must be daily"),
        ("tables.sales.max_bad_share", 2, "max_bad_share: Input should be less than or equal to 1"),
        ("tables.sales.columns.area", {"type": "double", "allowed": ["a"]}, "allowed and clean are for strings"),
        ("tables.sales.columns.date", {"type": "date"}, "['date'] are reserved"),
        ("tables.sales.columns.file", {"type": "string"}, "['file'] are reserved; rename with `source`"),
        ("tables.sales.columns.reasons", {"type": "string"}, "['reasons'] are reserved; rename with `source`"),
        ("tables.sales.columns._raw", {"type": "string"}, "['_raw'] are reserved; rename with `source`"),
        (
            "tables.sales.columns.size",
            {"type": "double", "source": "area"},
            "tables.sales: raw columns ['area'] are read by more than one column",
        ),
        ("tables.towns.columns.area", {"type": "double"}, "['area'] exist already; rename them with `source`"),
        (
            "tables.towns.columns.town",
            {"type": "double"},
            "tables.towns.columns.town: a key of type double, which the daily table or an earlier join has as string",
        ),
        ("window", {"days": 3, "min_days": 4}, "min_days (4) is above days (3)"),
        ("label.classes", ["low", "high"], "label.classes: a regression predicts a number"),
        ("label.classes", ["low", "high", "low"], "label: classes: ['low'] named twice"),
        ("split", {"kind": "hash", "valid_share": 0.5, "test_share": 0.5}, "valid_share + test_share must be below 1"),
        ("spark", {"timeout_minutes": float("inf")}, "spark.timeout_minutes: Input should be a finite number"),
        ("spark", {"timeout_minutes": 1e300}, "spark.timeout_minutes: Input should be less than or equal to 10080"),
        ("spark", {"driver_memory": "lots"}, "spark.driver_memory: String should match pattern"),
        (
            "model.params",
            {"objective": "binary:logistic"},
            "objective: 'binary:logistic' is none of regression's: reg:squarederror, reg:squaredlogerror, reg:logistic",
        ),
        ("model.params", {"objective": "reg:quantileerror"}, "'reg:quantileerror' is none of regression's"),
        ("model.params", {"objective": "reg:nonsense"}, "'reg:nonsense' is none of regression's"),
    ],
)
def test_a_wrong_file_names_the_key_and_what_is_allowed(path: str, value: Any, says: str) -> None:
    data = changed(path, value) if not path.startswith("tables...") else changed("tables", {"../../etc": value})
    with pytest.raises(DatasetInvalid) as error:
        parse_dataset(data, source="houses.yaml")
    assert says in str(error.value)
    assert "houses.yaml: " in str(error.value)


def test_the_keys_of_a_join_may_be_integer_and_long() -> None:
    columns = {"house": {"type": "integer"}, "people": {"type": "long"}}
    assert parse_dataset(changed("tables.towns", {"key": ["house"], "columns": columns})).raw_columns["people"]


def test_a_key_has_the_type_that_an_earlier_join_gave_it() -> None:
    regions = {"key": ["people"], "columns": {"people": {"type": "string"}, "size": {"type": "double"}}}
    data = changed("tables.regions", regions) | {"joins": ["towns", "regions"]}
    with pytest.raises(DatasetInvalid, match=r"tables\.regions\.columns\.people: .* type string, .* join has as long"):
        parse_dataset(data)


def test_an_id_that_answers_would_lose_is_refused() -> None:
    sales = MINIMAL["tables"]["sales"]
    columns = {**sales["columns"], "batch": {"type": "string"}}
    data = {
        **MINIMAL,
        "id": [*MINIMAL["id"], "batch"],
        "tables": {**MINIMAL["tables"], "sales": {**sales, "columns": columns}},
    }
    parse_dataset(data)
    with pytest.raises(DatasetInvalid, match="stream.answers names each answer's batch in `batch`; rename the column"):
        parse_dataset({**data, "stream": {"answers": "scored"}})


@pytest.mark.parametrize(
    ("task", "objective", "allowed"),
    [
        ("binary", "binary:logitraw", "binary:logistic"),
        ("binary", "binary:hinge", "binary:logistic"),
        ("multiclass", "multi:softmax", "multi:softprob"),
    ],
)
def test_an_objective_that_predicts_no_probability_is_refused(task: str, objective: str, allowed: str) -> None:
    data = MINIMAL | {"task": task, "baseline": {"kind": "logistic"}, "gate": {"metric": "log_loss"}}
    with pytest.raises(DatasetInvalid, match=f"objective: '{objective}' is none of {task}'s: {allowed}\\."):
        parse_dataset(data | {"model": {"params": {"objective": objective}}})


@pytest.mark.parametrize(
    "text",
    [
        "since: 2013-02-30",
        "[" * 1000,
        "x: " + "1" * 5000,
        "x: !!int ''",
        "x: !!bool maybe",
        "x: !!timestamp soon",
        "a: {",
        "caf\xe9",
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_cannot_be_parsed_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "houses.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(DatasetInvalid, match=r"houses\.yaml: not YAML: "):
        load_dataset(tmp_path / "houses.yaml")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, reason in (("folder", "Is a directory"), ("loop", "Too many levels of symbolic links")):
        with pytest.raises(DatasetInvalid, match=rf"{name}\.yaml: cannot be read: {reason}"):
            load_dataset(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("pattern", [r"\s+", r"a.b", r"(?=a)", r"(a)\1", r"a*", r"a$b", r"é", r"[a&&b]", r"a++", "("])
def test_patterns_outside_the_common_subset_are_refused(pattern: str) -> None:
    rules = {"type": "string", "clean": [{"replace": pattern}]}
    with pytest.raises(DatasetInvalid, match="replace"):
        parse_dataset(changed("tables.sales.columns.town", rules))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "not YAML"),
        ("name: a\nname: b\n", "key 'name' is given twice"),
        ("- 1\n", "a dataset file is a mapping"),
        ("", "a dataset file is a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(DatasetInvalid, match=says) as error:
        load_dataset(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["../etc/passwd", "a/b", "", "A", "a.b", "x" * 64])
def test_a_dataset_name_cannot_climb(name: str) -> None:
    with pytest.raises(DatasetInvalid, match="no dataset name"):
        dataset_path(SHIPPED, name)


def test_an_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(DatasetInvalid, match="nyc_flights"):
        load_dataset(dataset_path(SHIPPED, "nyc_trains"))


def test_form_changes_are_checked_like_the_file() -> None:
    dataset = parse_dataset(MINIMAL)
    assert change_dataset(dataset, {"model.rounds": 7, "model.params.eta": 0.5}).model.rounds == 7
    with pytest.raises(DatasetInvalid, match=r"model\.params\.eta"):
        change_dataset(dataset, {"model.params.eta": 0})
    with pytest.raises(DatasetInvalid, match="unknown key"):
        change_dataset(dataset, {"model.speed": 1})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def key_paths(node: Any) -> list[str]:
    """Dotted paths of all keys of a mapping, the nested ones too."""
    if not isinstance(node, dict):
        return []
    return [path for key, inner in node.items() for path in (key, *(f"{key}.{rest}" for rest in key_paths(inner)))]


DERIVED = changed("features.derived", {"dense": {"ratio": ["people", "area"]}})
ALL_KEYS = key_paths(parse_dataset(DERIVED).model_dump(mode="json", by_alias=True))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(ALL_KEYS), st.none() | json_values)
def test_any_value_anywhere_gives_a_dataset_or_a_clear_error(path: str, value: Any) -> None:
    try:
        parse_dataset(changed(path, value), source="houses.yaml")
    except BoostlineError as error:
        assert "houses.yaml: " in str(error)


@pytest.mark.parametrize(
    ("label", "task"), [("price", "regression"), ("sold", "binary"), ("kind", "multiclass"), ("few", "binary")]
)
def test_init_drafts_a_valid_file_from_a_sample(tmp_path: Path, label: str, task: str) -> None:
    source = tmp_path / "My houses.csv"
    lines = ["id,price (k),price,sold,kind,few,date"]
    lines += [
        f"{i},{i * 1.5},{i * 2.5},{i % 2},{'abc'[i % 3]},{'yn'[i % 2]},2020-01-{i % 28 + 1:02}" for i in range(90)
    ]
    source.write_text("\n".join(lines) + "\n")
    path = draft_dataset(source, label, tmp_path / "datasets", name=None, id_columns=[])
    dataset = load_dataset(path)
    assert (path.name, dataset.task, dataset.id) == ("my_houses.yaml", task, ("id",))
    assert dataset.raw_columns["price_k"].source == "price (k)"
    assert "# Not used as features: c_date\n" in path.read_text()
    with pytest.raises(DatasetInvalid, match="exists already"):
        draft_dataset(source, label, tmp_path / "datasets", name=None, id_columns=[])


def test_init_renames_what_is_reserved_and_leaves_empty_columns_out_of_the_features(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    lines = ["id,probability,prediction,file,reasons,_raw,empty,y"]
    source.write_text("\n".join(lines + [f"{i},{i},{i},{i},{i},{i},,{i * 1.5}" for i in range(30)]) + "\n")
    dataset = load_dataset(draft_dataset(source, "y", tmp_path / "datasets", name=None, id_columns=[]))
    named = {name: column.source for name, column in dataset.raw_columns.items() if column.source}
    renamed = ("probability", "prediction", "file", "reasons")
    assert named == {f"c_{name}": name for name in renamed} | {"raw": "_raw"}
    assert "empty" in dataset.raw_columns
    assert dataset.features.names == (*(f"c_{name}" for name in renamed), "raw")


def test_init_names_columns_as_ingest_reads_them(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "a.csv"
    lines = ["y, distance , carrier,key"]
    source.write_text("\n".join(lines + [f"{i * 1.5}, {i // 2}, {'ab'[i % 2]}, k{i}" for i in range(30)]) + "\n")
    dataset = load_dataset(draft_dataset(source, "y", tmp_path / "datasets", name=None, id_columns=[]))
    assert dataset.features.names == ("carrier", "distance")
    store.put("a.csv", source.read_bytes())
    (found,) = inspect_files(store, dataset.tables["rows"], ["a.csv"])
    assert found.columns == ("y", "distance", "carrier", "key") == tuple(dataset.raw_columns)


def test_init_takes_codes_for_text_and_no_number(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    lines = ["id,zip,size,below,y"]
    lines += [f"0x{i:X},{1002 + i % 3:05},{i or 'NA'},{i - 9},{i * 1.5}" for i in range(30)]
    source.write_text("\n".join(lines) + "\n")
    dataset = load_dataset(draft_dataset(source, "y", tmp_path / "datasets", name=None, id_columns=[]))
    types = {name: column.type for name, column in dataset.raw_columns.items()}
    assert types == {"id": "string", "zip": "string", "size": "long", "below": "long", "y": "double"}
    assert (dataset.id, dataset.features.categorical) == (("id",), ("zip",))


def test_init_cuts_names_that_are_too_long(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    long = "how satisfied are you, on the whole, with " * 4
    lines = [f'id,"{long} us","{long} them",y']
    source.write_text("\n".join(lines + [f"{i},{i},{i},{i * 1.5}" for i in range(30)]) + "\n")
    dataset = load_dataset(draft_dataset(source, "y", tmp_path / "datasets", name=None, id_columns=[]))
    us, them = dataset.features.names
    assert (them, len(us)) == (us + "_", 100)
    assert dataset.raw_columns[them].source == f"{long} them"


def test_init_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("x,y\n1,1\n1,1\n")
    with pytest.raises(DatasetInvalid, match="has no column 'z'"):
        draft_dataset(source, "z", tmp_path, name=None, id_columns=[])
    with pytest.raises(DatasetInvalid, match="no column identifies a row"):
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])
    digit = tmp_path / "2013-flights.csv"
    digit.write_text(source.read_text())
    with pytest.raises(DatasetInvalid, match="'2013_flights' is no dataset name.\n.*--name NAME"):
        draft_dataset(digit, "y", tmp_path, name=None, id_columns=[])
    source.write_text("x,y\n1,1\n2,1\n")
    with pytest.raises(DataInvalid, match="fewer than two different values"):
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])
    source.write_text("x,y\n")
    with pytest.raises(DataInvalid, match="no rows"):
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])
    source.write_text("x,y, x\n1,1,1\n2,2,2\n")
    with pytest.raises(DataInvalid, match="has two columns named 'x'"):
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])
    source.write_bytes("größe,y\n1,1\n2,2\n".encode("latin-1"))
    with pytest.raises(DataInvalid, match="(?s)no CSV file with a header.*UTF-8"):
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PAR1\x15\x04\x15\x18", "is Parquet, and init reads CSV.\n.*format: parquet"),
        (gzip.compress(b"x,y\n1,2\n", mtime=0), "is gzip, and init reads plain CSV.\nGive it an unpacked copy"),
        (b'{"x": 1, "y": 2}\n', "is JSON, and init reads CSV.\n.*format: json"),
        (b'[\n {"x": 1, "y": 2}\n]\n', "is JSON, and init reads CSV"),
        (b"\xef\xbb\xbfx;y\n1,5;2\n", 'is separated by semicolons, and init reads commas.\n.* {delimiter: ";"}'),
        (b"x\ty\n1\t2\n", r'is separated by tabs, .*\n.* source: {delimiter: "\\t"}'),
        (b"x,y\n1,\xff\xfe\n", "is no CSV file with a header: 'utf-8' codec can't decode byte 0xff in position 6"),
    ],
    ids=["parquet", "gzip", "json-lines", "json-array", "semicolons", "tabs", "no-utf-8"],
)
def test_init_says_which_other_format_a_file_has(content: bytes, says: str, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(content)
    with pytest.raises(DataInvalid, match=f"^{source} {says}") as told:
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])
    assert str(told.value).replace("\n", "").isprintable()


def test_init_says_what_it_may_not_read_or_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tmp_path / "a.csv", tmp_path / "a.csv/datasets"
    source.write_text("x,a,y\n1,5,1.5\n2,6,2.5\n")
    with pytest.raises(DatasetInvalid, match=rf"{folder}/a.yaml: cannot be written: .*\n.*BOOSTLINE_DATASETS"):
        draft_dataset(source, "y", folder, name=None, id_columns=[])

    def refuse(*_: object) -> None:  # root may read everything, whatever the modes
        raise PermissionError(EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataMissing, match=rf"{source}: cannot be read: Permission denied\.\nCheck the rights"):
        draft_dataset(source, "y", tmp_path, name=None, id_columns=[])


def test_the_reference_page_is_what_the_model_says() -> None:
    from boostline.dataset.reference import render

    page = Path("docs/dataset-file.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m boostline.dataset.reference > docs/dataset-file.md"
