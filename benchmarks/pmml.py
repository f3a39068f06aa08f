"""How long JPMML's evaluator takes for one raw row of an exported model, apart from HTTP.

    PYTHONPATH=src .venv/bin/python benchmarks/pmml.py [--rounds 300] [--depth 7] [--rows 2000]

The model is generated: the columns, categories and parameters of conf/datasets/nyc_flights.yaml, random rows, a label
that depends on some of them. Rows are handed over as Java maps that are made before the clock runs, so a time is that of
`Evaluator.evaluate` and of one call from Python into Java. Needs a JVM and `jpmml-evaluator` (requirements-dev.txt).
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost

from boostline.dataset import load_dataset
from boostline.export.document import write_document
from boostline.export.xgboost_model import xgboost_pmml
from boostline.local.java import find_java
from boostline.scoring.model_file import INFO, TRANSFORM, UBJ, Model, ModelInfo
from boostline.training.data import feature_columns
from boostline.training.fit import booster_params
from boostline.transform import Transform, needed_columns

DATASET = Path(__file__).parent.parent / "conf/datasets/nyc_flights.yaml"
CATEGORIES = {"carrier": 16, "origin": 3, "dest": 104, "manufacturer": 33, "plane_type": 3, "engine": 6}
WARM_UP, TRAIN_ROWS = 3000, 100_000


def main() -> None:
    """Generate, export, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rounds", 300), ("depth", 7), ("rows", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    model = train(args.rounds, args.depth)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pmml"
        start = time.perf_counter()
        with path.open("wb") as file:
            write_document(file, model.transform, xgboost_pmml(model), "benchmark")
        leaves = sum(tree.count("leaf=") for tree in model.booster.get_dump())
        print(f"{args.rounds} trees, {leaves} leaves, depth {args.depth}: {path.stat().st_size / 1e6:.1f} MB of PMML "
              f"written in {time.perf_counter() - start:.1f} s")  # fmt: skip
        raw = raw_rows(model.transform, args.rows, seed=2)
        evaluate(path, raw, model.answer(raw)["probability"].to_numpy())


def train(rounds: int, depth: int) -> Model:
    """A model of the dataset's shape on random rows."""
    dataset = load_dataset(DATASET)
    transform = Transform.model_validate(
        {
            "format": 1, "dataset": dataset.name, "task": dataset.task, "date": "2013-03-31",
            "columns": {
                name: {"type": column.type,
                       "clean": [rule if isinstance(rule, str) else rule.model_dump() for rule in column.clean]}
                for name, column in needed_columns(dataset).items()
            },
            "derived": {name: item.model_dump(exclude_unset=True) for name, item in dataset.features.derived.items()},
            "categorical": {name: [f"{name} {code}" for code in range(size)] for name, size in CATEGORIES.items()},
            "numeric": dict.fromkeys(dataset.features.numeric), "names": dataset.features.names,
            "label": dataset.label.name, "classes": ["0", "1"],
        }
    )  # fmt: skip
    features, columns = transform.apply(raw_rows(transform, TRAIN_ROWS, seed=1)), feature_columns(dataset)
    frame = features.to_pandas().fillna(0)
    rng = np.random.default_rng(0)
    signal = frame["dep_delay"] / 20 + frame["dest"] % 7 / 3 + frame["temp"] * frame["wind_speed"] / 800
    label = (signal + rng.logistic(0, 1, len(frame)) > 3).to_numpy(np.float64)
    matrix = xgboost.QuantileDMatrix(features, label=label, feature_names=columns.names, feature_types=columns.types)
    params = booster_params(dataset, [], 2) | {"max_depth": depth}
    booster = xgboost.train(params, matrix, rounds)
    ubj = bytes(booster.save_raw("ubj"))
    info = ModelInfo(
        dataset=dataset.name, task=dataset.task, date="2013-03-31", fingerprint="", data_fingerprint="", params={},
        sha256=hashlib.sha256(ubj).hexdigest(), objective=params["objective"], rounds=rounds,
        threshold=0.4, classes=["0", "1"], features=dict(zip(columns.names, columns.types, strict=True)), metrics={},
        learning_curve={}, importance=[], versions={},
    )  # fmt: skip
    files = {UBJ: ubj, INFO: info.model_dump_json().encode(), TRANSFORM: transform.dumps()}
    return Model(info, transform, booster, files)


def raw_rows(transform: Transform, rows: int, seed: int) -> pa.Table:
    """Random raw rows, one value in twenty missing."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for name, column in transform.columns.items():
        if column.type == "string":
            values = np.array([f" {name} {code}" for code in range(CATEGORIES[name] + 1)])[
                rng.integers(0, CATEGORIES[name] + 1, rows)
            ]
        elif column.type == "timestamp":
            values = np.datetime64("2013-01-01T00", "us") + rng.integers(0, 90 * 24, rows) * np.timedelta64(1, "h")
        elif column.type == "integer":
            values = rng.integers(0, 24, rows)
        else:
            values = rng.normal(20, 20, rows)
        made[name] = pa.array(values, mask=rng.random(rows) < 0.05)
    return pa.table(made)


def evaluate(path: Path, raw: pa.Table, expected: Any) -> None:
    """Time each row, and see that the answers are right."""
    import jpype
    from jpmml_evaluator import _classpath

    jpype.startJVM("-Xmx2g", jvmpath=str(find_java().home / "lib/server/libjvm.so"), classpath=_classpath([]))
    start = time.perf_counter()
    builder = jpype.JClass("org.jpmml.evaluator.LoadingModelEvaluatorBuilder")()
    evaluator = builder.load(jpype.JClass("java.io.File")(str(path))).build()
    print(f"loaded in {time.perf_counter() - start:.1f} s")
    rows = [_java(row) for row in raw.to_pylist()]
    for index in range(WARM_UP):
        evaluator.evaluate(rows[index % len(rows)])
    wall, busy, found = np.empty(len(rows)), np.empty(len(rows)), np.empty(len(rows))
    for index, row in enumerate(rows):
        start, busy_start = time.perf_counter(), time.thread_time()
        answer = evaluator.evaluate(row)
        wall[index], busy[index] = time.perf_counter() - start, time.thread_time() - busy_start
        found[index] = float(answer.get("probability"))
    worst = float(np.abs(found - expected).max())
    for name, seconds in (("wall clock", wall), ("processor", busy)):
        p50, p90, p99 = np.quantile(seconds, [0.5, 0.9, 0.99]) * 1e3
        print(f"{name}: p50 {p50:.3f} ms, p90 {p90:.3f} ms, p99 {p99:.3f} ms a row, {len(rows)} rows")
    print(f"largest difference of a probability {worst:.1e}")


def _java(row: dict[str, Any]) -> Any:
    import jpype

    made = jpype.JClass("java.util.HashMap")()
    for name, value in row.items():
        if value is not None:
            text = value.isoformat() if hasattr(value, "isoformat") else value
            made.put(name, jpype.JInt(text) if isinstance(text, int) else text)
    return made


if __name__ == "__main__":
    main()
