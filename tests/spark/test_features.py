"""Clean days to features: joins, label, split, codes, and what makes a window unfit."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, DataMissing, DatasetInvalid
from boostline.lake.arrow import read_parquet
from boostline.lake.features import test_raw_keys as raw_test_keys
from boostline.lake.job import JobRequest
from boostline.lake.manifest import read_current
from boostline.lake.plan import plan_ingest, plan_stage
from boostline.serving.bodies import CSV, read_rows
from boostline.serving.fit import Limits
from boostline.spark import feature_fit
from boostline.spark.feature_fit import Counts, count_rows, find_classes, require_few_categories
from boostline.spark.feature_rows import LABEL_TEXT, with_label
from boostline.spark.features import run_featurize
from tests.spark.lab import CLASSES, DAY, GOLDEN, GOOD_ROWS, Lab, csv, dataset_of

DAYS = {"window.days": 3, "window.min_days": 1}


def test_features_are_flat_sorted_and_split(lab: Lab) -> None:
    lab.land_all(csv(["91,a,1,on,,NaN", "90,a,1,on,,", *GOOD_ROWS[::-1]]))
    manifest = lab.features(dataset_of())
    # Rows without a label are dropped and counted.
    assert manifest.rows == {"train": 8, "valid": 2, "test": 2, "no_label": 2, "unseen_class": 0, "duplicates": 0,
                             "window": 14}  # fmt: skip
    assert [lab.rows(manifest, split)["_id_id"].to_pylist() for split in ("test", "valid", "train")] == [
        [1, 2],
        [3, 4],
        list(range(5, 13)),
    ]
    train, transform = lab.rows(manifest, "train"), lab.transform(manifest)
    assert train.column_names == ["_id_id", "data_date", "_label", "site", "state", "hour", "power", "area"]
    assert [str(train.schema.field(name).type) for name in ("site", "hour", "area")] == ["int32", "int32", "double"]
    # 5..12 hold c, a, b, c, a, b, c, a: equal counts go by the alphabet
    assert transform.categorical["site"] == ("a", "c", "b") and transform.names == dataset_of().features.names
    assert train["site"].to_pylist() == [1, 0, 2, 1, 0, 2, 1, 0]
    assert train["area"].to_pylist() == [3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]
    success = lab.store.get(f"features/meters/attempts/{manifest.attempt}/rows/_SUCCESS")[0]
    assert json.loads(success)["committer"] == "magic"


def test_what_train_never_saw_becomes_null_with_spark_and_without(lab: Lab) -> None:
    lab.land_all(csv(["1, Zebra,1,on,2024-03-10T23:00:00Z,1", "2,,,,,2", *GOOD_ROWS[2:]]))
    manifest = lab.features(dataset_of())
    test = lab.rows(manifest, "test")
    rows = test.to_pylist()
    assert [(row["site"], row["hour"], row["area"]) for row in rows] == [(None, None, None)] * 2
    assert (rows[0]["state"], rows[1]["state"], rows[1]["power"]) == (1, None, None)
    raw = read_parquet(lab.store, raw_test_keys(manifest))
    again = lab.transform(manifest).apply(raw)
    assert again.equals(test.select(again.column_names))
    assert set(raw.column_names) == {*dataset_of().raw_columns, "data_date", "_label"}


def test_a_csv_body_misses_what_the_datasets_own_files_miss(lab: Lab) -> None:
    dataset = dataset_of({"tables.readings.source": {"null_values": ["?"]}})
    lab.land_all(csv(["1,NA,?,on,,1", '2, ? ,,"",,2', *GOOD_ROWS[2:]]))
    manifest = lab.features(dataset)
    transform = lab.transform(manifest)
    texts = {name: column.null_values for name, column in transform.columns.items()}
    assert texts == dict.fromkeys(("site", "power", "state", "at"), ("?",)) | {"area": ("", "NA")}
    body = b'site,power,state,at,area\nNA,?,on,,NA\n ? ,,"",,\n'
    sent = transform.clean(read_rows(CSV, body, transform.columns, Limits(10, 1000)))
    raw = read_parquet(lab.store, raw_test_keys(manifest)).select(sent.column_names)
    assert sent.to_pylist() == [{**row, "area": None} for row in raw.to_pylist()]
    assert sent["site"].to_pylist() == ["na", None] and sent["power"].null_count == 2


def test_the_latest_day_of_an_id_wins(lab: Lab) -> None:
    dataset = dataset_of(DAYS)
    lab.land_all()
    lab.land(csv([row.rsplit(",", 1)[0] + ",999" for row in GOOD_ROWS[:3]]), day="2024-03-09")
    manifest = lab.features(dataset)
    assert manifest.rows["duplicates"] == 3 and manifest.rows["window"] == 15
    assert max(lab.rows(manifest, "test")["_label"].to_pylist()) < 100
    assert manifest.details["missing_days"] == ["2024-03-08"]


def test_time_split_takes_calendar_days_and_hash_split_stays_on_its_side(lab: Lab) -> None:
    lab.land_all()
    for number, day in enumerate(("2024-03-08", "2024-03-09")):
        lab.land(csv([f"{number + 1}0{row}" for row in GOOD_ROWS]), day=day)
    split = {"kind": "time", "valid_days": 1, "test_days": 1}
    manifest = lab.features(dataset_of({**DAYS, "split": split}))
    assert {str(day) for day in lab.rows(manifest, "valid")["data_date"].to_pylist()} == {"2024-03-09"}
    assert (manifest.rows["train"], manifest.rows["valid"], manifest.rows["test"]) == (12, 12, 12)
    hashed = {"kind": "hash", "valid_share": 0.25, "test_share": 0.25}
    manifest = lab.features(dataset_of({**DAYS, "split": hashed}))
    sides = {
        row["_id_id"]: split for split in ("train", "valid", "test") for row in lab.rows(manifest, split).to_pylist()
    }
    # Golden: a change here would move rows from train to test between versions.
    assert sorted(number for number, side in sides.items() if side == "test") == _test_side(sides, 0.0, 0.25)
    assert sorted(number for number, side in sides.items() if side == "valid") == _test_side(sides, 0.25, 0.5)


def _test_side(ids: dict[int, Any], low: float, high: float) -> list[int]:
    from hashlib import md5

    shares = {number: int(md5(str(number).encode()).hexdigest()[:8], 16) / 2**32 for number in ids}
    return sorted(number for number, share in shares.items() if low <= share < high)


def test_imputed_numbers_and_integers(lab: Lab) -> None:
    lab.land_all(csv(["1,a,,on,,1", *GOOD_ROWS[1:]]))
    impute = {"power": {"strategy": "mean"}, "area": {"strategy": "constant", "value": -1}}
    manifest = lab.features(dataset_of({"features.impute": impute}))
    mean = sum(n + 0.5 for n in range(5, 13)) / 8
    assert lab.rows(manifest, "test")["power"].to_pylist()[0] == mean == lab.transform(manifest).numeric["power"]
    median = lab.featurize(dataset_of({"features.impute": {"power": {"strategy": "median"}}}))
    assert lab.transform(median).numeric["power"] == lab.rows(median, "test")["power"].to_pylist()[0]


def test_a_median_is_that_of_the_train_rows_and_not_nearly_it(lab: Lab) -> None:
    # Far more rows than the first 1,000, up to which Spark's own tolerance of a thousandth changes nothing.
    values = np.random.default_rng(5).lognormal(0, 3, 20_001)
    lab.land_all(csv([f"{number},a,{value!r},on,{DAY},1" for number, value in enumerate(values.tolist())]))
    impute = {
        "features.impute": {"power": {"strategy": "median"}},
        "split": {"kind": "first_rows", "test_rows": 1, "valid_rows": 1},
    }
    manifest = lab.features(dataset_of(impute))
    train = lab.rows(manifest, "train")["power"].to_numpy()
    assert len(train) == 19_999 and lab.transform(manifest).numeric["power"] == np.median(train)


def test_classes_are_those_of_train_and_others_drop_out(good: Lab) -> None:
    split = {"split": {"kind": "first_rows", "test_rows": 4, "valid_rows": 2}}
    manifest = good.featurize(dataset_of({**CLASSES, **split}))
    assert manifest.details["classes"] == ["high", "mid"]
    assert (manifest.rows["unseen_class"], manifest.rows["test"], manifest.rows["valid"]) == (3, 1, 2)
    named = dataset_of({**CLASSES, "label": {**CLASSES["label"], "classes": ["low", "mid", "high"]}})  # type: ignore[dict-item]
    manifest = good.featurize(named)
    assert manifest.rows["unseen_class"] == 0 and good.rows(manifest, "test")["_label"].to_pylist() == [0.0, 0.0]


def test_class_names_of_doubles_are_not_cut(spark: SparkSession) -> None:
    dataset = dataset_of({**CLASSES, "label": {"name": "kind", "expression": "power"}})
    values = [10.0, 1.3, 1.7, -0.0, 1e300, float("nan"), float("inf"), None]
    rows = with_label(spark.createDataFrame([(value,) for value in values], "power double"), dataset)
    names = [row[LABEL_TEXT] for row in rows.collect()]
    assert names == ["10", "1.3", "1.7", "0", "1.0E300", None, None, None]
    counts = Counts(
        rows=8,
        no_label=3,
        by_split={},
        train_labels=names[:5],
        labels=names[:5],
        label_values=5,
        filled={},
        categories={},
    )
    assert find_classes(dataset, counts) == ("0", "1.3", "1.7", "10", "1.0E300")


def counted(spark: SparkSession, rows: int, labels: int, **changes: Any) -> tuple[Dataset, Counts]:
    """Train rows with an id-like `site`, and so many labels."""
    dataset = dataset_of({**CLASSES, "features.categorical": ["site"], "features.derived": {}, **changes})
    number = F.col("id")
    made = spark.range(rows).select(
        (number % labels).cast("string").alias(LABEL_TEXT),
        F.md5(number.cast("string").cast("binary")).alias("_text_site"),
        *[number.cast("double").alias(f"_number_{name}") for name in dataset.features.numeric],
        F.lit("train").alias("split"),
    )
    return dataset, count_rows(made, dataset)


def test_a_category_that_names_single_rows_is_refused_before_its_values_are_collected(spark: SparkSession) -> None:
    _, few = counted(spark, 80_000, 2)
    require_few_categories(DAY, few)
    _, many = counted(spark, 150_000, 2)
    assert many.categories["site"] == pytest.approx(150_000, rel=0.2)
    told = f"feature site has about {many.categories['site']} different values in the train rows of {DAY}"
    with pytest.raises(DataInvalid, match=f"{told}.*; 100000 can be learnt") as caught:
        require_few_categories(DAY, many)
    assert caught.value.remedy.startswith("Take site out of `features`; or list it as numeric")


def test_featurize_refuses_too_many_categories(good: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_fit, "MAX_CATEGORIES", 12)
    # Of 8 train rows: 3 sites, 2 states and 8 hours.
    with pytest.raises(DataInvalid, match="feature hour has about 8 .* and all categorical features have about 13; 12"):
        good.featurize(dataset_of())


def test_a_label_that_is_an_amount_is_refused_and_not_collected(spark: SparkSession) -> None:
    dataset, counts = counted(spark, 60_000, 4_500)
    # Below the limit each value is known, in the order of Spark's choice.
    assert sorted(map(int, counts.labels)) == sorted(map(int, counts.train_labels)) == list(range(4_500))
    with pytest.raises(DataInvalid, match="the train rows hold 4500 class"):
        find_classes(dataset, counts)
    dataset, counts = counted(spark, 60_000, 60_000)
    assert len(counts.labels) < 12_500
    with pytest.raises(DataInvalid, match=f"the rows hold about {counts.label_values} different values; 2 to 1000"):
        find_classes(dataset, counts)


UNFIT: dict[str, tuple[list[str], dict[str, Any], type[Exception], str]] = {
    "no label at all": ([row.rsplit(",", 1)[0] + "," for row in GOOD_ROWS], {}, DataInvalid,
                        "none of the 12 rows in the window of 2024-03-10 has a label (load)"),
    "too few rows": (GOOD_ROWS, {"window.min_rows": 13}, DataMissing, "12 rows with a label, window.min_rows is 13"),
    "empty split": (GOOD_ROWS[:4], {}, DataMissing, "leaves no rows for train"),
    "feature without values": ([f"{n},,{n},on,2024-03-10,1" for n in range(1, 9)], {}, DataInvalid,
                               "feature(s) site, area have no value in any of the 4 train rows"),
    "bad expression": (GOOD_ROWS, {"label": {"name": "y", "expression": "lod > 1"}}, DatasetInvalid,
                       "label.expression 'lod > 1'"),
    "unknown class": (GOOD_ROWS, {**CLASSES, "label": {**CLASSES["label"], "classes": ["low", "mid"]}}, DataInvalid,  # type: ignore[dict-item]
                      "label kind: 'high' is none of low, mid"),
    "label not binary": (GOOD_ROWS, {"task": "binary", "gate": {"metric": "auc"}, "baseline": {"kind": "logistic"}},
                         DataInvalid, "is none of 0.0, 1.0"),
    "test of unseen classes": (GOOD_ROWS, CLASSES, DataInvalid,
                               "the rows for test of 2024-03-10 are all of classes that the train rows do not hold: low"),
    "one class": (GOOD_ROWS, {**CLASSES, "label": {"name": "y", "expression": "'same'"}}, DataInvalid,
                  "the train rows hold 1 class(es): same"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_an_unfit_window_is_refused(lab: Lab, good: Lab, case: str) -> None:
    rows, changes, kind, message = UNFIT[case]
    if rows is GOOD_ROWS:
        lab = good
    else:
        lab.land_all(csv(rows))
        lab.ingest(dataset_of())
    before = read_current(lab.store, "features", "meters", None, DAY)
    with pytest.raises(kind) as caught:
        lab.featurize(dataset_of(changes))
    assert message in str(caught.value)
    assert read_current(lab.store, "features", "meters", None, DAY) == before


def test_it_repeats_to_the_hash_and_reads_what_it_was_handed(good: Lab) -> None:
    dataset = dataset_of()
    first = good.featurize(dataset)
    again = good.featurize(dataset)
    assert (first.row_hash, first.rows) == (again.row_hash, again.rows) and first.attempt != again.attempt
    assert first.row_hash == GOLDEN["features"]


def test_rows_that_were_cleaned_by_other_rules_than_the_files_are_refused_until_ingest_ran_again(lab: Lab) -> None:
    """What happens where the file was mended and a task after `ingest` is cleared: it is handed the rows of before."""
    lab.land_all()
    lab.ingest(dataset_of())
    changed = dataset_of({"tables.readings.columns.site": {"type": "string", "clean": ["trim"]}})

    def handed(by: Dataset) -> JobRequest:
        reads = plan_ingest(lab.store, by, date.fromisoformat(DAY)).current
        named = {f"{ref.table}/{ref.partition}": ref.identity for ref in reads}
        target = plan_stage(lab.store, "features", changed, date.fromisoformat(DAY), named).target
        return lab.request("featurize", changed, DAY, targets=[target], reads=reads)

    with pytest.raises(DataInvalid, match=r"(?s)clean readings of 2024-03-10 .* by other rules .*\nClear ingest"):
        run_featurize(lab.spark, lab.store, handed(dataset_of()))
    assert read_current(lab.store, "features", "meters", None, DAY) is None
    lab.ingest(changed)
    assert run_featurize(lab.spark, lab.store, handed(changed))


def test_the_saved_pipeline_is_the_one_that_was_used(good: Lab) -> None:
    manifest = good.featurize(dataset_of({"features.impute": {"power": {"strategy": "mean"}}}))
    folder = f"features/meters/attempts/{manifest.attempt}/pipeline"
    indexer, imputer = PipelineModel.load(good.store.uri(folder, "s3a")).stages
    transform = good.transform(manifest)
    assert [tuple(values) for values in indexer.labelsArray] == list(transform.categorical.values())
    assert imputer.surrogateDF.first()[0] == transform.numeric["power"]


def test_clean_rows_have_their_golden_hash(good: Lab) -> None:
    manifest, _ = read_current(good.store, "clean", "meters", "readings", DAY)  # type: ignore[misc]
    assert manifest.row_hash == GOLDEN["clean"]
