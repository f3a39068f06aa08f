"""What a run has to do for a date, on a real S3 server."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest

from boostline.dataset import Dataset, parse_dataset
from boostline.errors import (
    DataInvalid,
    DataMissing,
    DatasetInvalid,
    NothingToDo,
    Outdated,
    StoreUnavailable,
    Superseded,
)
from boostline.lake.cleanup import remove_old_attempts
from boostline.lake.manifest import Manifest, publish, read_current
from boostline.lake.plan import (
    WindowRefs,
    clean_sections,
    load_window,
    plan_ingest,
    plan_stage,
    save_window,
    stage_sections,
)
from boostline.lake.raw import land
from boostline.lake.store import Store

DAY = date(2024, 5, 10)
FILE: dict[str, Any] = {
    "name": "meters",
    "task": "regression",
    "label": {"name": "load"},
    "id": ["meter"],
    "tables": {
        "readings": {"daily": True, "columns": {"meter": {"type": "long"}, "load": {"type": "double"}}},
        "sites": {"key": ["meter"], "columns": {"meter": {"type": "long"}, "area": {"type": "double"}}},
    },
    "joins": ["sites"],
    "split": {"kind": "hash"},
    "window": {"days": 4, "min_days": 2},
    "features": {"numeric": ["area"]},
    "baseline": {"kind": "linear"},
    "gate": {"metric": "rmse"},
}


def dataset(**changes: Any) -> Dataset:
    return parse_dataset(FILE | changes)


@pytest.fixture
def landed(store: Store, tmp_path: Path) -> Any:
    """Lands a day, or the sites, with a text that makes the file."""

    def put(day: date | None, text: str = "meter,load\n1,2\n") -> None:
        path = tmp_path / "part.csv"
        path.write_text(text)
        land(store, dataset(), "readings" if day else "sites", [path], day)

    put(None, "meter,area\n1,5\n")
    return put


def ago(days: int) -> date:
    return DAY - timedelta(days=days)


def manifest(target: Any, attempt: str, stage: str = "clean") -> Manifest:
    return Manifest(
        stage=stage,
        dataset="meters",
        table=target.table,
        partition=target.partition,
        attempt=attempt,
        fingerprint=target.fingerprint,
        inputs=target.inputs,
        files=[],
        rows={"rows": 1},
        columns={},
        row_hash="0",
    )


def bring_up_to_date(store: Store, attempt: str, spec: Dataset) -> None:
    for target in plan_ingest(store, spec, DAY).stale:
        publish(store, manifest(target, attempt), target.expected_etag)


def test_only_days_with_changes_are_written_again(store: Store, landed: Any) -> None:
    for days in range(4):
        landed(ago(days))
    assert len(plan_ingest(store, dataset(), DAY).stale) == 5
    bring_up_to_date(store, "first", dataset())
    plan = plan_ingest(store, dataset(), DAY)
    assert (len(plan.current), plan.stale) == (5, [])
    landed(ago(2), "meter,load\n1,3\n")
    (late,) = plan_ingest(store, dataset(), DAY).stale
    assert (late.table, late.partition) == ("readings", ago(2).isoformat())
    landed(ago(2))
    assert plan_ingest(store, dataset(), DAY).stale == []


def test_only_the_sections_that_ingest_uses_count(store: Store, landed: Any) -> None:
    landed(ago(0)), landed(ago(1))
    bring_up_to_date(store, "first", dataset())
    assert plan_ingest(store, dataset(model={"rounds": 7}, window={"days": 3}), DAY).stale == []
    tables = FILE["tables"] | {"sites": FILE["tables"]["sites"] | {"max_bad_share": 0.5}}
    assert [target.table for target in plan_ingest(store, dataset(tables=tables), DAY).stale] == ["sites"]


def test_what_means_missing_reaches_the_features_by_way_of_the_clean_rows() -> None:
    tables = {name: table | {"source": {"null_values": ["?"]}} for name, table in FILE["tables"].items()}
    before, now = dataset(), dataset(tables=tables)
    assert all(clean_sections(now, name) != clean_sections(before, name) for name in tables)
    assert stage_sections("features", now) == stage_sections("features", before)


def test_no_file_for_the_date(store: Store, landed: Any) -> None:
    landed(ago(1)), landed(ago(2))
    with pytest.raises(DataMissing, match=r"no raw file of meters/readings for 2024-05-10.*\n.*boostline land meters"):
        plan_ingest(store, dataset(on_missing="fail"), DAY)
    with pytest.raises(DataMissing, match="no raw file"):
        plan_ingest(store, dataset(on_missing="wait"), DAY)
    with pytest.raises(NothingToDo, match="no raw file"):
        plan_ingest(store, dataset(on_missing="skip"), DAY)


def test_a_hole_in_the_window(store: Store, landed: Any) -> None:
    landed(ago(0)), landed(ago(2))
    with pytest.raises(DataMissing, match="no raw file for 2024-05-09 within the window"):
        plan_ingest(store, dataset(on_missing="fail"), DAY)
    assert plan_ingest(store, dataset(on_missing="skip"), DAY).missing == ["2024-05-07", "2024-05-09"]


def test_a_window_too_thin(store: Store, landed: Any) -> None:
    landed(ago(0))
    with pytest.raises(DataMissing, match=r"too thin: 1 of 4 days have raw files, window.min_days is 2.*2024-05-07"):
        plan_ingest(store, dataset(), DAY)


def test_a_reference_table_without_a_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "part.csv"
    path.write_text("meter,load\n")
    for days in range(2):
        land(store, dataset(), "readings", [path], ago(days))
    with pytest.raises(DataMissing, match=r"table sites has no raw file.*\n.*--table sites"):
        plan_ingest(store, dataset(), DAY)


def test_a_stage_is_up_to_date_by_what_it_read(store: Store) -> None:
    plan = plan_stage(store, "model", dataset(), DAY, {"features": "a"})
    assert plan.current is None
    publish(store, manifest(plan.target, "first", "model"), None)
    assert plan_stage(store, "model", dataset(), DAY, {"features": "a"}).current.attempt == "first"
    assert plan_stage(store, "model", dataset(), DAY, {"features": "b"}).current is None
    assert plan_stage(store, "model", dataset(model={"rounds": 7}), DAY, {"features": "a"}).current is None
    assert plan_stage(store, "model", dataset(gate={"metric": "mae"}), DAY, {"features": "a"}).current is not None


def test_what_was_made_from_newer_inputs_is_not_replaced(store: Store) -> None:
    def features(attempt: str, before: str | None) -> Any:
        target = plan_stage(store, "features", dataset(), DAY, {"clean": attempt}).target
        return publish(store, manifest(target, attempt, "features"), before)

    def model(read: Any, *, wanted: bool = True) -> Any:
        return plan_stage(store, "model", dataset(), DAY, {"features": read}, publish=wanted)

    old = features("old", None)
    waits = model(old)
    new = features("new", old.etag)
    published = publish(store, manifest(model(new).target, "by-new", "model"), None)
    with pytest.raises(Superseded, match="attempt by-new published first"):
        publish(store, manifest(waits.target, "by-old", "model"), waits.target.expected_etag)
    with pytest.raises(Outdated, match=r"newer features of 2024-05-10 \(attempt new\).*handed \(attempt old\)"):
        model(old)
    assert model(old, wanted=False).current is None, "an experiment replaces nothing"
    assert model(new).current == published
    newest = features("newest", new.etag)
    assert model(newest).target.expected_etag == published.etag
    assert model(old).current is None, "what is published is not of the newest inputs either"


def test_a_window_is_handed_on_by_its_content(store: Store) -> None:
    window = WindowRefs(date=DAY.isoformat(), refs=[], missing=["2024-05-07"])
    key = save_window(store, "meters", window)
    assert save_window(store, "meters", window) == key
    assert load_window(store, key) == window


def test_a_window_that_maintenance_removed_is_handed_on_anew_by_ingest(store: Store) -> None:
    window = WindowRefs(date=DAY.isoformat(), refs=[])
    key = save_window(store, "meters", window)
    remove_old_attempts(store, "meters", datetime.now(UTC) + timedelta(days=15), 14)
    with pytest.raises(DataMissing, match=r"windows/date=2024-05-10/\w+.json is gone.*\n.*Clear the ingest task"):
        load_window(store, key)
    save_window(store, "meters", window)
    assert load_window(store, key) == window


def test_landing_says_what_is_wrong(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("meter,load\n")
    with pytest.raises(DatasetInvalid, match=r"no table 'meter'.*\n.*readings, sites"):
        land(store, dataset(), "meter", [path], DAY)
    with pytest.raises(DataMissing, match="daily and no date"):
        land(store, dataset(), "readings", [path], None)
    with pytest.raises(DataMissing, match="without a date"):
        land(store, dataset(), "sites", [path], DAY)
    with pytest.raises(DataMissing, match=r"no such file: .*b\.csv"):
        land(store, dataset(), "readings", [path, tmp_path / "b.csv"], DAY)


def test_a_file_that_cannot_be_read_is_told_before_any_is_landed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, opened = [tmp_path / name for name in ("a.csv", "b.csv")], Path.open
    for path in files:
        path.write_text("meter,load\n")

    def refuse(path: Path, mode: str) -> Any:  # root may read everything, whatever the modes
        if path == files[1]:
            raise PermissionError(EACCES, "Permission denied")
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataMissing, match=rf"{files[1]}: cannot be read: Permission denied\.\nCheck the rights"):
        land(store, dataset(), "readings", files, DAY)
    assert list(store.list("")) == []


def test_files_of_one_name_are_refused_before_any_is_landed(store: Store, tmp_path: Path) -> None:
    files = [tmp_path / name / "part.csv" for name in ("a", "b")]
    for path in files:
        path.parent.mkdir()
        path.write_text("meter,load\n")
    with pytest.raises(DataInvalid, match=f"^{files[0]} and {files[1]} would be one file"):
        land(store, dataset(), "readings", files, DAY)
    assert list(store.list("")) == []


@pytest.mark.parametrize("name", ["_part.csv", ".part.csv"])
def test_files_that_ingest_leaves_out_are_refused_but_the_marker_is_not(
    store: Store, tmp_path: Path, name: str
) -> None:
    files = [tmp_path / "part.csv", tmp_path / name]
    for path in files:
        path.write_text("meter,load\n")
    with pytest.raises(DataInvalid, match=rf"{name}: ingest leaves out files.*\nRename it"):
        land(store, dataset(), "readings", files, DAY)
    assert list(store.list("")) == []
    assert len(land(store, dataset(wait={"marker": name}), "readings", files, DAY)) == 2


def test_the_marker_is_landed_when_all_else_is(store: Store, tmp_path: Path) -> None:
    class Recording(Store):
        """The lake, with the names uploaded in their order; `fails` is the one that S3 refuses."""

        def __init__(self, fails: str = "") -> None:
            vars(self).update(vars(store))
            self.names: list[str] = []
            self.fails = fails

        def upload(self, key: str, path: Path) -> None:
            if path.name == self.fails:
                raise StoreUnavailable("S3 does not answer")
            super().upload(key, path)
            self.names.append(path.name)

    files = [tmp_path / name for name in ("_SUCCESS", "part-0.csv", "part-1.csv")]  # as a shell sorts them
    for path in files:
        path.write_text("meter,load\n")
    marked, ended = dataset(wait={"marker": "_SUCCESS"}), Recording(fails="part-1.csv")
    with pytest.raises(StoreUnavailable):
        land(ended, marked, "readings", files, DAY)
    assert ended.names == ["part-0.csv"]
    whole = Recording()
    said = land(whole, marked, "readings", files, DAY)
    assert whole.names == [uri.rsplit("/", 1)[1] for uri in said] == ["part-0.csv", "part-1.csv", "_SUCCESS"]


def test_maintenance_removes_only_what_nothing_needs(store: Store, landed: Any) -> None:
    landed(ago(0)), landed(ago(1))
    for attempt in ("lost", "won"):
        store.put(f"clean/meters/attempts/{attempt}/readings/date={DAY}/part.parquet", b"rows")
    store.put("quarantine/meters/attempts/lost/readings/part.parquet", b"bad rows")
    store.put("model/meters/attempts/old-champion/model.ubj", b"model")
    bring_up_to_date(store, "won", dataset())
    now = datetime.now(UTC)
    assert remove_old_attempts(store, "meters", now, 14).attempts == {}
    later = now + timedelta(days=15)
    removed = remove_old_attempts(store, "meters", later, 14, frozenset({"old-champion"}))
    assert removed.attempts == {"clean": ["lost"]}
    keys = {item.key for item in store.list("")}
    assert not any("/lost/" in key for key in keys)
    assert any("/won/" in key for key in keys)
    assert any("/old-champion/" in key for key in keys)
    assert read_current(store, "clean", "meters", "readings", DAY.isoformat())[0].attempt == "won"
