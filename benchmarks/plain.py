"""The same two models from the same rows in one plain process: DuckDB, scikit-learn's logistic or linear model, XGBoost.

    python benchmarks/plain.py nyc_flights FOLDER --date 2013-03-31
    python benchmarks/plain.py liberty_mutual FILE

FOLDER holds `flights/2013-*.csv`, `weather.csv` and `planes.csv`, as `boostline.local.demo` makes them.
The last line is JSON: the metrics on the test rows, and wall and CPU seconds of the whole process, its imports included.

What the pipeline does and this script does not: it checks no contract, writes nothing, fits no baseline in sample,
chooses no threshold, explains nothing, registers nothing, compares with no champion, and writes no report.
"""

# ruff: noqa: E402 (the clock runs before the imports)

from __future__ import annotations

import time

STARTED = time.monotonic()

import argparse
import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

# Beside other work, OpenMP threads that spin while they wait make XGBoost many times slower; set before it loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import duckdb
import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from boostline.dataset import Dataset, load_dataset

DATASETS = Path(__file__).parents[1] / "conf/datasets"

FLIGHTS = """
select f.*, isodow(f.time_hour) as weekday, w.* exclude (origin, time_hour), p.* exclude (tailnum),
       (arr_delay > 15)::int as label
from read_csv('{folder}/flights/*.csv', nullstr = 'NA', types = {{'tailnum': 'VARCHAR'}}) f
left join (select origin, time_hour, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
           from read_csv('{folder}/weather.csv', nullstr = 'NA', sample_size = -1)) w using (origin, time_hour)
left join (select tailnum, year as plane_year, lower(type) as plane_type, lower(manufacturer) as manufacturer,
                  engines, seats, lower(engine) as engine
           from read_csv('{folder}/planes.csv', nullstr = 'NA', sample_size = -1)) p using (tailnum)
where arr_delay is not null and make_date(f.year, f.month, f.day) > date '{day}' - interval {days} day
  and make_date(f.year, f.month, f.day) <= date '{day}'
order by f.year, f.month, f.day, time_hour, carrier, flight
"""


def flights(folder: Path, day: date, dataset: Dataset) -> tuple[pd.DataFrame, np.ndarray]:
    """The joined rows of the window, and which split each is in."""
    sql = FLIGHTS.format(folder=folder, day=day, days=dataset.window.days)
    rows = duckdb.sql(sql).df()
    when = pd.to_datetime(rows[["year", "month", "day"]])
    split: Any = dataset.split
    test = when > pd.Timestamp(day - timedelta(days=split.test_days))
    valid = ~test & (when > pd.Timestamp(day - timedelta(days=split.test_days + split.valid_days)))
    return rows, np.select([test, valid], ["test", "valid"], "train")


def policies(file: Path, dataset: Dataset) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows by id, and which split each is in."""
    rows = duckdb.sql(f"select *, Hazard as label from read_csv('{file}') order by Id").df()
    split: Any = dataset.split
    order = np.arange(len(rows))
    valid = split.test_rows + (0 if split.test_is_valid else split.valid_rows)
    names = np.select([order < split.test_rows, order < valid], ["test", "valid"], "train")
    return rows, names


def levels(train: pd.DataFrame, dataset: Dataset) -> dict[str, list[Any]]:
    """The categories of each column in the order of their codes."""
    counts = {name: train[name].value_counts() for name in dataset.features.categorical}
    if dataset.features.category_order == "alphabetic":
        return {name: sorted(found.index) for name, found in counts.items()}
    return {name: sorted(found.index, key=lambda value: (-found[value], value)) for name, found in counts.items()}


def baseline_of(dataset: Dataset, train: pd.DataFrame, known: dict[str, list[Any]]) -> Any:
    """The baseline, fitted, encoded as the dataset file says. A missing or unseen category is all zeros, or a code of its own."""
    spec = dataset.baseline
    if spec.kind == "tree" or spec.regularization:
        sys.exit(f"error: {dataset.name}: only a linear or logistic baseline without regularization can be compared")

    def encoder(found: list[Any]) -> Any:
        if spec.encoding == "onehot":
            return OneHotEncoder(categories=[found], handle_unknown="ignore")
        return OrdinalEncoder(categories=[found], handle_unknown="use_encoded_value", unknown_value=len(found))

    columns = make_column_transformer(
        *((encoder(found), [name]) for name, found in known.items()),
        (make_pipeline(SimpleImputer(), StandardScaler()), list(dataset.features.numeric)),
    )
    # An infinite C is no penalty.
    logistic = LogisticRegression(C=np.inf, max_iter=spec.max_iterations)
    model = make_pipeline(columns, logistic if spec.kind == "logistic" else LinearRegression())
    return model.fit(train, train.label)


def learn(dataset: Dataset, rows: pd.DataFrame, split: np.ndarray) -> dict[str, float]:
    """Baseline and XGBoost on train, stopped on valid, measured on test."""
    categorical, numeric = list(dataset.features.categorical), list(dataset.features.numeric)
    parts = {name: rows[split == name] for name in ("train", "valid", "test")}
    if dataset.split.test_is_valid:
        parts["valid"] = parts["test"]
    binary, known = dataset.task == "binary", levels(parts["train"], dataset)
    baseline = baseline_of(dataset, parts["train"], known)

    def matrix(part: pd.DataFrame) -> xgb.DMatrix:
        frame = part[categorical + numeric].copy()
        for column in categorical:
            codes = pd.Categorical(part[column], categories=known[column])
            ordinal = dataset.model.categorical == "ordinal"
            frame[column] = pd.Series(codes.codes, index=part.index).where(codes.codes >= 0) if ordinal else codes
        return xgb.DMatrix(frame, part.label, enable_categorical=True)

    params = dataset.model.params.model_dump(by_alias=True, exclude_none=True, exclude_unset=True)
    params |= {"objective": "binary:logistic" if binary else "reg:squarederror", "seed": dataset.model.seed}
    booster = xgb.train(
        params,
        matrix(parts["train"]),
        dataset.model.rounds,
        evals=[(matrix(parts["valid"]), "valid")],
        early_stopping_rounds=dataset.model.early_stopping or None,
        verbose_eval=False,
    )
    best = (0, booster.best_iteration + 1) if dataset.model.early_stopping else (0, 0)
    predicted = booster.predict(matrix(parts["test"]), iteration_range=best)
    if binary:
        simple = baseline.predict_proba(parts["test"])[:, 1]
        return {"baseline": log_loss(parts["test"].label, simple), "xgboost": log_loss(parts["test"].label, predicted)}
    simple = baseline.predict(parts["test"])
    return {
        "baseline": root_mean_squared_error(parts["test"].label, simple),
        "xgboost": root_mean_squared_error(parts["test"].label, predicted),
    }


def main() -> None:
    """Run one dataset and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["nyc_flights", "liberty_mutual", "liberty_mutual_seed"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--date", type=date.fromisoformat, default=date(2013, 3, 31))
    args = parser.parse_args()
    dataset = load_dataset(DATASETS / f"{args.dataset}.yaml")
    rows, split = (
        flights(args.path, args.date, dataset) if args.dataset == "nyc_flights" else policies(args.path, dataset)
    )
    metrics = learn(dataset, rows, split)
    wall, cpu = time.monotonic() - STARTED, time.process_time()
    print(
        json.dumps({"rows": len(rows), "test": metrics, "wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)})
    )


if __name__ == "__main__":
    main()
