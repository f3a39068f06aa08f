"""`boostline.transform` and the fitted Spark pipeline: the same features from the same rows, to 1e-9."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.dataset import parse_dataset
from boostline.dataset.pattern import check_pattern, portable_pattern
from boostline.dataset.tables import Column
from boostline.errors import DataInvalid
from boostline.spark.contract import SPARK_TYPES, _typed, clean_text
from boostline.spark.feature_fit import fit, flat_rows
from boostline.spark.feature_rows import with_features
from boostline.transform import RawColumn, Transform, cast_column

DATASET = parse_dataset({
    "name": "everything",
    "task": "regression",
    "label": {"name": "y"},
    "id": ["n"],
    "tables": {"rows": {"daily": True, "columns": {
        "n": {"type": "long"},
        "y": {"type": "double"},
        "text": {"type": "string"},
        "cleaned": {"type": "string", "clean": ["lower", {"replace": "[0-9]+$", "by": "#"}, "trim"]},
        "whole": {"type": "integer"},
        "large": {"type": "long"},
        "real": {"type": "double"},
        "other": {"type": "double"},
        "flag": {"type": "boolean"},
        "day": {"type": "date"},
        "at": {"type": "timestamp"},
    }}},
    "split": {"kind": "hash"},
    "features": {
        "categorical": ["text", "cleaned", "whole", "flag", "day", "hour", "pair"],
        "numeric": ["real", "other", "large", "weekday", "month", "difference", "ratio", "truth"],
        "derived": {
            "hour": {"hour": "at"}, "weekday": {"weekday": "at"}, "month": {"month": "day"},
            "difference": {"difference": ["real", "large"]}, "ratio": {"ratio": ["real", "other"]},
            "pair": {"concat": ["text", "whole", "flag"]}, "truth": {"difference": ["flag", "whole"]},
        },
        "impute": {"real": {"strategy": "mean"}, "other": {"strategy": "median"},
                   "large": {"strategy": "constant", "value": -1}},
    },
    "baseline": {"kind": "linear"},
    "gate": {"metric": "rmse"},
})  # fmt: skip

# Python, ICU and Arrow know different versions of Unicode: only characters that have been there for long are compared.
characters = st.characters(exclude_categories=("Cs", "Cn", "Co")).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn"
)
texts = st.one_of(
    st.sampled_from(["", " ", "a", "A", "ΑΣ", "ΑΣ-Α", "Ä㒟Σ幒", "İ", "ß", "x12", "x12\n", "\t b\r\n"]),
    st.text(characters, max_size=6),
)
numbers = st.one_of(
    st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324]), st.floats()
)
rows = st.fixed_dictionaries(
    {
        "text": st.none() | texts,
        "cleaned": st.none() | texts,
        "whole": st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3),
        "large": st.none() | st.integers(-(2**63), 2**63 - 1),
        "real": st.none() | numbers,
        "other": st.none() | numbers,
        "flag": st.none() | st.booleans(),
        "day": st.none() | st.dates(date(1600, 1, 1), date(9999, 12, 31)),
        "at": st.none() | st.datetimes(datetime(1600, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    }
)
SCHEMA = pa.schema(
    [
        ("n", pa.int64()), ("text", pa.string()), ("cleaned", pa.string()), ("whole", pa.int32()), ("large", pa.int64()),
        ("real", pa.float64()), ("other", pa.float64()), ("flag", pa.bool_()), ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)  # fmt: skip
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # shrinking hundreds of rows through Spark takes minutes
KNOWN = {"text": "a", "cleaned": "b", "whole": 1, "large": 5, "real": 1.5, "other": 2.5, "flag": True,
         "day": date(2024, 1, 1), "at": datetime(2024, 1, 1, 5, tzinfo=UTC)}  # fmt: skip


def cleaned_by_spark(frame: DataFrame, clean: dict[str, Column]) -> DataFrame:
    rules = [clean_text(spec, F.col(name)).alias(name) for name, spec in clean.items() if spec.type == "string"]
    others = [
        name for name in frame.columns if name not in {name for name, spec in clean.items() if spec.type == "string"}
    ]
    return frame.select(*others, *rules)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(st.lists(rows, min_size=30, max_size=120), st.lists(rows, min_size=30, max_size=120))
def test_same_features_from_generated_rows(
    spark: SparkSession, train: list[dict[str, Any]], unseen: list[dict[str, Any]]
) -> None:
    for row in train:  # a mean of larger numbers overflows, and is refused
        row["real"] = row["real"] and max(-1e300, min(1e300, row["real"]))
    raw = pa.Table.from_pylist([{"n": n, **row} for n, row in enumerate([KNOWN, *train, *unseen])], schema=SCHEMA)
    columns = DATASET.raw_columns
    frame = spark.createDataFrame(raw).select(
        *[F.col(name).cast(SPARK_TYPES[columns[name].type]).alias(name) for name in SCHEMA.names]
    )
    ready = with_features(cleaned_by_spark(frame, columns), DATASET)
    ready = ready.withColumns({"data_date": F.lit(date(2024, 1, 1)), "_label": F.lit(0.0), "split": F.lit("train")})
    model, transform = fit(ready.where(F.col("n") <= len(train)), DATASET, "2024-01-01", ())
    by_spark = flat_rows(ready, model, transform, DATASET).orderBy("_id_n").toArrow()
    by_transform = Transform.loads(transform.dumps()).apply(raw)
    assert by_transform.column_names == list(DATASET.features.names)
    for name in by_transform.column_names:
        ours, theirs = by_transform[name].to_pylist(), by_spark[name].to_pylist()
        differing = [
            (raw.slice(index, 1).to_pylist()[0], a, b)
            for index, (a, b) in enumerate(zip(ours, theirs, strict=True))
            if (a is None) != (b is None) or (a is not None and abs(a - b) > 1e-9 * max(1.0, abs(a)))
        ]
        assert not differing, f"{name}: {differing[:3]}"


TYPED_TEXTS = {
    "boolean": "true TRUE tRue t T yes Yes y 1 false False f F no NO n 0 on off 2 01 yess true? tt -",
    "integer": "3 +3 03 +03 -3 -03 0x10 0X10 -0x1 +0x1 0xFF 3.0 1e2 ++3 +-3 + - 3L ٣ x 0xFFFFFFFFFFFFFFFF",
    "long": f"3 {2**63 - 1} +{2**63 - 1} {-(2**63)} {2**63} 0x10 0xFFFFFFFFFFFFFFFF",
}


def cast_or_none(text: str, kind: str) -> Any:
    try:
        return cast_column("c", pa.array([text]), kind)[0].as_py()
    except DataInvalid:
        return None


@pytest.mark.parametrize("kind", TYPED_TEXTS)
def test_texts_are_typed_as_ingest_types_them(spark: SparkSession, kind: str) -> None:
    texts = TYPED_TEXTS[kind].split()
    frame = spark.createDataFrame(pa.table({"n": range(len(texts)), "text": texts}))
    typed = frame.select("n", _typed(Column(type=kind), F.col("text")).alias("value")).orderBy("n").collect()
    assert [(text, cast_or_none(text, kind)) for text in texts] == [
        (text, row.value) for text, row in zip(texts, typed, strict=True)
    ]


PATTERNS = [
    "[0-9]+",
    "a+$",
    "^[ab]",
    "(ab|b)c?",
    "[^a-z]",
    " (inc|co)$",
    "x{2,3}",
    "-?[0-9]+$",
    "\\.",
    "[\\t\\n]+$",
    "b+?a",
]
pieces = st.sampled_from([*"abcx019 .-\n\t\r", "inc", " co", "é", "ab"])


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(st.lists(st.lists(pieces, max_size=12).map("".join), min_size=50, max_size=200))
def test_the_pattern_subset_means_the_same(spark: SparkSession, values: list[str]) -> None:
    table = pa.table({"value": pa.array(values, pa.string())})
    specs = {
        f"p{number}": Column(type="string", clean=[{"replace": pattern, "by": "_"}])
        for number, pattern in enumerate(PATTERNS)
    }  # type: ignore[list-item]
    by_spark = (
        spark.createDataFrame(table)
        .select(*[clean_text(spec, F.col("value")).alias(name) for name, spec in specs.items()])
        .toArrow()
    )
    for number, pattern in enumerate(PATTERNS):
        check_pattern(pattern)
        name = f"p{number}"
        rules = RawColumn(type="string", clean=({"replace": pattern, "by": "_"},))
        transform = Transform(format=1, dataset="d", task="regression", date="2024-01-01", columns={"value": rules},
                              derived={}, categorical={}, numeric={}, names=(), label="y", classes=())  # fmt: skip
        ours = transform.clean(table)["value"].to_pylist()
        assert ours == by_spark[name].to_pylist(), pattern
        assert ours == [re.sub(portable_pattern(pattern).replace("\\z", "\\Z"), "_", value) or None for value in values]
