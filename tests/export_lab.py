"""Models of every kind on raw rows of every type, and JPMML's evaluator, for the tests of export."""

from __future__ import annotations

import functools
import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa

from boostline.dataset import Dataset, parse_dataset
from boostline.local.java import find_java
from boostline.scoring.model_file import INFO, TRANSFORM, UBJ, Model, ModelInfo
from boostline.training.data import Rows, feature_columns
from boostline.training.fit import booster_params, fit
from boostline.transform import Transform

MARKUP = '<script>&"'
CITIES = ["rome", " oslo", "bern, ch", "são paulo", "i̇zmir", MARKUP, "a'b]]>", "tab\tin", "end\r", "😀", "naïve ", "x"]
RAW_CITIES = ["Rome", "ROME ", " Oslo", "Bern, CH", "São Paulo", "İzmir", "<SCRIPT>&\"", "A'B]]>", "Tab\tIn", "End\r",
              "😀", "Naïve ", "X", "x inc", "ROME INC.", "", " ", "Atlantis", "ΑΣ", "a|b"]  # fmt: skip
COLUMNS: dict[str, Any] = {
    "row": {"type": "long"},
    "city": {"type": "string", "clean": ["lower", {"replace": "^rome +inc[.]?$", "by": "rome"}]},
    "firm": {
        "type": "string",
        "clean": ["trim", "lower", {"replace": " (inc|co)[.]?$"}, {"replace": "[0-9]+", "by": "#"}],
    },
    "plain": {"type": "string"},
    "floors": {"type": "integer"},
    "serial": {"type": "long"},
    "open": {"type": "boolean"},
    "built": {"type": "date"},
    "sold": {"type": "timestamp"},
    "size": {"type": "double"},
    "age": {"type": "double"},
    "debt": {"type": "double"},
}
DERIVED: dict[str, Any] = {
    "hour": {"hour": "sold"},
    "day": {"weekday": "built"},
    "sold_day": {"weekday": "sold"},
    "month": {"month": "sold"},
    "built_month": {"month": "built"},
    "left": {"difference": ["size", "floors"]},
    "gap": {"difference": ["serial", "debt"]},
    "share": {"ratio": ["debt", "size"]},
    "per_open": {"ratio": ["floors", "open"]},
    "place": {"concat": ["plain", "floors", "open"]},
    "lot": {"concat": ["serial", "built"]},
}
CATEGORICAL = ["city", "firm", "floors", "serial", "open", "built", "hour", "day", "place", "lot"]
NUMERIC = ["size", "age", "debt", "sold_day", "month", "built_month", "left", "gap", "share", "per_open"]
LARGEST_FLOAT = float(np.finfo(np.float32).max)
CLASSES = {"regression": (), "binary": ("no & never", "yes"), "multiclass": ("low", 'mid "<', "high")}


def export_dataset(task: str, **model: Any) -> Dataset:
    """A dataset with every type, rule and derivation."""
    data = {
        "name": "houses",
        "task": task,
        "label": {"name": "label", "expression": "size"},
        "id": ["row"],
        "tables": {"rows": {"daily": True, "columns": COLUMNS}},
        "split": {"kind": "hash"},
        "features": {"categorical": CATEGORICAL, "numeric": NUMERIC, "derived": DERIVED},
        "baseline": {"kind": "tree"},
        "model": model,
        "gate": {"metric": {"regression": "rmse"}.get(task, "log_loss")},
    }
    return parse_dataset(data)


def raw_rows(rows: int, seed: int, *, extreme: bool = False) -> pa.Table:
    """Raw rows with missing values; `extreme` adds what training has not seen."""
    rng = np.random.default_rng(seed)

    def column(values: Any, kind: Any = None, missing: float = 0.08) -> pa.Array:
        return pa.array(values, kind, mask=rng.random(rows) < missing)

    far = rng.random(rows) < (0.2 if extreme else 0)
    edges = np.array([0.0, -0.0, 3.4e38, -3.4e38, 1e-45, -1e-300, np.nan, np.inf, -np.inf, 1e30, 16777217.0])

    def number(values: Any) -> pa.Array:
        return column(np.where(far, rng.choice(edges, rows), values))

    floors = np.where(far, rng.choice([0, -1, 2**31 - 1, -(2**31)], rows), rng.integers(1, 6, rows))
    serial = np.where(far, rng.choice([2**53, 2**62 + 1, -(2**62), 0], rows), rng.integers(100, 106, rows))
    days = np.where(far, rng.integers(-40000, 40000, rows), rng.integers(18262, 18300, rows))
    moments = np.where(far, rng.integers(-(10**15), 10**15, rows), rng.integers(1577836800, 1609459200, rows) * 10**6)
    return pa.table(
        {
            "city": column(rng.choice(RAW_CITIES, rows)),
            "firm": column(rng.choice([" Acme Inc", "acme", "Bolt co.", "B2B 77", "  ", "b#b #", "new"], rows)),
            "plain": column(rng.choice(["a", "b", " a", "", "a|1"], rows)),
            "floors": column(floors, pa.int64()),
            "serial": column(serial, pa.int64()),
            "open": column(rng.random(rows) < 0.6),
            "built": column(days.astype("datetime64[D]")),
            "sold": column(moments, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "size": number(rng.normal(100, 30, rows)),
            "age": number(rng.exponential(20, rows)),
            "debt": number(np.round(rng.normal(0, 2, rows))),
        }
    )


def parity_rows(model: Model, rows: int = 1000, seed: int = 7) -> pa.Table:
    """Raw rows with missing, unseen and extreme values; XGBoost refuses numbers beyond single precision."""
    raw = raw_rows(rows * 2, seed, extreme=True)
    features = model.transform.apply(raw)
    numbers = np.column_stack([features[name].to_numpy() for name in model.transform.numeric])
    possible = (np.nan_to_num(np.abs(numbers)) <= LARGEST_FLOAT).all(axis=1)
    return raw.filter(pa.array(possible)).slice(0, rows)


def export_transform(dataset: Dataset, fills: dict[str, float]) -> Transform:
    """The transformation that some training might have fitted: not every value that occurs is known."""
    columns = {
        name: {
            "type": column.type,
            "clean": [rule if isinstance(rule, str) else rule.model_dump() for rule in column.clean],
        }
        for name, column in dataset.needed_columns.items()
    }
    flags = ("true", "false")
    categories = {
        "city": CITIES,
        "firm": ["acme", "b#b #", "bolt"],
        "floors": ["3", "1", "2", "-1"],
        "serial": ["104", "100", "0"],
        "open": flags,
        "built": [f"2020-01-{day:02}" for day in range(30, 0, -3)],
        "hour": [str(hour) for hour in (*range(12, 20), *range(9))],
        "day": ["7", "1", "2", "4", "5"],
        "place": [f"{plain}|{floors}|{flag}" for plain in ("a", " a", "a|1") for floors in (1, 2, 5) for flag in flags],
        "lot": [f"{serial}|2020-01-{day:02}" for serial in (0, 100, 103) for day in range(1, 32)],
    }
    return Transform.model_validate(
        {
            "format": 1,
            "dataset": dataset.name,
            "task": dataset.task,
            "date": "2020-03-31",
            "columns": columns,
            "derived": {name: item.model_dump(exclude_unset=True) for name, item in dataset.features.derived.items()},
            "categorical": categories,
            "numeric": {name: fills.get(name) for name in dataset.features.numeric},
            "names": dataset.features.names,
            "label": "label",
            "classes": CLASSES[dataset.task],
        }
    )


@functools.cache
def trained(
    task: str, categorical: str = "native", objective: str | None = None, rounds: int = 12, **params: Any
) -> Model:
    """A model fitted on such rows, with a signal in every kind of feature."""
    section = {"rounds": rounds, "early_stopping": 0, "categorical": categorical}
    wanted = {"max_depth": 6, "subsample": 0.9, "objective": objective} | params
    dataset = export_dataset(task, **section, params={key: value for key, value in wanted.items() if value is not None})
    transform = export_transform(dataset, {"age": 3.7, "share": -0.1})
    raw = raw_rows(4000, seed=1)
    features, columns = transform.apply(raw), feature_columns(dataset)
    label = _label(task, features, objective)
    import xgboost

    matrix = xgboost.QuantileDMatrix(features, label=label, feature_names=columns.names, feature_types=columns.types)
    rows, classes = Rows(matrix, label), list(CLASSES[task])
    parameters = booster_params(dataset, classes, 2)
    booster, _, curve = fit(dataset, parameters, rows, rows)
    ubj = bytes(booster.save_raw("ubj"))
    info = ModelInfo(
        dataset=dataset.name, task=task, date="2020-03-31", sha256=hashlib.sha256(ubj).hexdigest(), fingerprint="f",
        data_fingerprint="d", objective=parameters["objective"], params={}, rounds=booster.num_boosted_rounds(),
        threshold=0.31 if task == "binary" else None, classes=classes,
        features=dict(zip(columns.names, columns.types, strict=True)), metrics={}, learning_curve=curve, importance=[],
        versions={},
    )  # fmt: skip
    files = {UBJ: ubj, INFO: info.model_dump_json().encode(), TRANSFORM: transform.dumps()}
    return Model(info, transform, booster, files)


def _label(task: str, features: pa.Table, objective: str | None) -> Any:
    frame = features.to_pandas()
    rng = np.random.default_rng(2)
    signal = sum(((frame[name] * 7 + index) % 5 - 2).fillna(1) * 0.4 for index, name in enumerate(CATEGORICAL))
    for name in NUMERIC:
        ranked = frame[name].rank(pct=True).fillna(0.2)
        signal = signal + (ranked - 0.5)
    signal = signal.to_numpy() + rng.normal(0, 0.3, len(frame))
    if task == "binary":
        return (signal > np.median(signal)).astype(float)
    if task == "multiclass":
        return np.digitize(signal, np.quantile(signal, [0.3, 0.7])).astype(float)
    squeezed = {"reg:logistic": 1 / (1 + np.exp(-signal))}
    if objective in ("reg:gamma", "reg:tweedie", "count:poisson", "reg:squaredlogerror"):
        return np.round(np.exp(signal / 3)) + 1
    return squeezed.get(objective or "", signal * 100 + 3000)


def pmml_rows(raw: pa.Table) -> list[dict[str, Any]]:
    """Rows as a PMML evaluator takes them: dates and times as ISO texts, times in UTC without a zone."""

    def plain(value: Any) -> Any:
        return value.isoformat().removesuffix("+00:00") if hasattr(value, "isoformat") else value

    return [{name: plain(value) for name, value in row.items()} for row in raw.to_pylist()]


def evaluate(document: bytes, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What JPMML's evaluator answers, by column."""
    from jpmml_evaluator import make_evaluator

    start_java()
    evaluator = make_evaluator(document)
    answers = [evaluator.evaluate(dict(row), nan_as_missing=False) for row in rows]
    return {name: [answer[name] for answer in answers] for name in answers[0]}


@functools.cache
def start_java() -> None:
    """One JVM for all tests of this process."""
    import jpype
    from jpmml_evaluator import _classpath

    library = find_java().home / "lib/server/libjvm.so"
    jpype.startJVM("-Xmx512m", "-XX:+UseSerialGC", jvmpath=str(library), classpath=_classpath([]))


def pmml_of(transform: Transform, model: Any) -> bytes:
    """The document of a model."""
    from boostline.export.document import write_document

    sink = io.BytesIO()
    write_document(sink, transform, model, "test")
    return sink.getvalue()
