"""Batch scoring inside Spark beside one plain process that reads, transforms, scores and writes the same rows.

    python benchmarks/scoring.py --rows 5000000 --cores 1

Starts an S3 server of its own, from which both read and to which both write. Each side runs in a process of its own, held
to the same number of cores, JVM and Python workers together. They take turns. Prints rows per second and core, wall and CPU
seconds of each turn, and the median ratio with its quartiles. Start-up of either is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from boostline.lake.arrow import ParquetDataset
from boostline.lake.store import Store
from boostline.local.layout import BUCKET, S3_KEYS, spark_env
from boostline.local.ports import free_ports
from boostline.local.services import S3
from boostline.local.stack import running_stack
from boostline.scoring.engine import import_xgboost
from boostline.scoring.matrix import Columns, single_precision
from boostline.scoring.model_file import INFO, TRANSFORM, UBJ, Model, ModelInfo, load_model
from boostline.settings import Settings
from boostline.transform import RawColumn, Transform

FILES, TURNS = 8, 3
NUMBERS, TEXTS = [f"x{index}" for index in range(12)], {"carrier": 16, "origin": 3, "tail": 200}
MODEL = "model/"


def main() -> None:
    """Make rows and a model, score them twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--side", choices=["plain", "spark"], help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        {"plain": plain, "spark": spark}[args.side](args.cores, args.out)
        return
    with tempfile.TemporaryDirectory() as home, running_stack(Path(home), free_ports(), services=(S3,)) as stack:
        env = spark_env(stack) | {"BOOSTLINE_LAKE": f"s3://{BUCKET}/scoring", "PYSPARK_PYTHON": sys.executable}
        os.environ.update({name: env[name] for name in S3_KEYS})
        make(Store(Settings(lake=env["BOOSTLINE_LAKE"], s3_endpoint=stack.s3_endpoint)), args.rows, args.rounds)
        ratios = []
        for turn in range(TURNS):
            speeds = {}
            for side in ("plain", "spark"):
                command = [sys.executable, __file__, "--side", side, "--cores", str(args.cores)]
                command += ["--out", f"predictions/{side}-{turn}/"]
                done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                speeds[side] = args.rows / found["wall"] / args.cores
                costs = f"{found['wall']:.1f} s wall, {found['cpu']:.1f} s CPU"
                print(f"{side}: {speeds[side]:,.0f} rows/s per core, {costs}")
            ratios.append(speeds["spark"] / speeds["plain"])
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"Spark reaches {middle:.0%} of the plain process ({TURNS} turns, quartiles {low:.0%} to {high:.0%})")


def plain(cores: int, out: str) -> None:
    """One process, PyArrow and XGBoost."""
    os.sched_setaffinity(0, range(cores))
    pa.set_cpu_count(cores)
    store = Store(Settings())
    model = stored_model(store)
    start, cpu = time.monotonic(), time.process_time()
    rows = ParquetDataset(store, row_keys(store))
    with tempfile.NamedTemporaryFile() as sink:
        with pq.ParquetWriter(sink, answer_schema()) as writer:
            for batch in rows.to_batches(batch_size=65_536):
                table = pa.Table.from_batches([batch])
                found = model.answer(table, cores)
                writer.write_table(pa.table({"row": table["row"], "prediction": found["prediction"]}))
        sink.flush()
        store.upload(f"{out}part-0.parquet", Path(sink.name))
    print(json.dumps({"wall": time.monotonic() - start, "cpu": time.process_time() - cpu}))


def spark(cores: int, out: str) -> None:
    """The function that the score job uses, on `local[cores]`."""
    os.sched_setaffinity(0, range(cores))
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[{cores}] --driver-memory 2g pyspark-shell"
    from boostline.spark.paths import read_files
    from boostline.spark.scoring import share, with_predictions
    from boostline.spark.session import spark_session

    store = Store(Settings())
    model = stored_model(store)
    with spark_session("benchmark") as session:
        schema = ", ".join(["row bigint", *(f"{name} double" for name in NUMBERS), *(f"{n} string" for n in TEXTS)])
        session.range(1).collect()
        start, cpu = time.monotonic(), cpu_seconds()
        rows = read_files(session.read.schema(schema).parquet, store, row_keys(store))
        with_predictions(rows, share(session, model, "1"), ["row"]).write.parquet(store.uri(out, "s3a"))
        print(json.dumps({"wall": time.monotonic() - start, "cpu": cpu_seconds() - cpu}))


def cpu_seconds() -> float:
    """Of this process and all below it."""
    here = psutil.Process()
    times = [item.cpu_times() for item in [here, *here.children(recursive=True)]]
    return sum(item.user + item.system + item.children_user + item.children_system for item in times)


def make(store: Store, rows: int, rounds: int) -> None:
    """Rows in several files, and a model that learnt from some of them."""
    random = np.random.default_rng(0)
    for number in range(FILES):
        size = rows // FILES
        columns = {"row": pa.array(np.arange(size) + number * size)}
        columns |= {name: pa.array(random.normal(size=size)) for name in NUMBERS}
        for name, count in TEXTS.items():
            codes = pa.array(random.integers(count, size=size), pa.int32())
            columns[name] = pa.array([f"{name}{n}" for n in range(count)]).take(codes)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        store.put(f"rows/part-{number}.parquet", sink.getvalue().to_pybytes())
    transform = make_transform()
    sample = ParquetDataset(store, row_keys(store)[:1]).head(100_000)
    kinds = {name: "c" if name in TEXTS else "q" for name in transform.names}
    columns = Columns(list(kinds), list(kinds.values()))
    matrix = import_xgboost().DMatrix(
        single_precision(transform.apply(sample), columns), feature_names=columns.names, feature_types=columns.types
    )
    signal = (
        sample["x0"].to_numpy()
        + sample["x1"].to_numpy() * sample["x2"].to_numpy()
        + random.normal(size=sample.num_rows)
    )
    matrix.set_label(signal)
    body = bytes(import_xgboost().train({"max_depth": 7, "eta": 0.1}, matrix, rounds).save_raw("ubj"))
    empty = {"metrics": {}, "learning_curve": {}, "importance": [], "versions": {}, "params": {}, "classes": []}
    names = {"fingerprint": "", "data_fingerprint": "", "objective": "reg:squarederror", "dataset": "scoring"}
    info = ModelInfo(
        **empty,
        **names,
        task="regression",
        date="2020-01-01",
        sha256=hashlib.sha256(body).hexdigest(),
        rounds=rounds,
        threshold=None,
        features=kinds,
    )
    for name, content in ((UBJ, body), (INFO, info.model_dump_json().encode()), (TRANSFORM, transform.dumps())):
        store.put(MODEL + name, content)


def make_transform() -> Transform:
    """Texts to codes, numbers as they are."""
    text, number = RawColumn(type="string", clean=("trim", "lower")), RawColumn(type="double", clean=())
    return Transform(
        format=1,
        dataset="scoring",
        task="regression",
        date="2020-01-01",
        columns=dict.fromkeys(TEXTS, text) | dict.fromkeys(NUMBERS, number),
        derived={},
        categorical={name: tuple(f"{name}{n}" for n in range(count)) for name, count in TEXTS.items()},
        numeric=dict.fromkeys(NUMBERS),
        names=(*TEXTS, *NUMBERS),
        label="y",
        classes=(),
    )


def stored_model(store: Store) -> Model:
    """The benchmark's model."""
    return load_model({name: store.get(MODEL + name)[0] for name in (UBJ, INFO, TRANSFORM)}, "benchmark")


def row_keys(store: Store) -> list[str]:
    """The benchmark's rows."""
    return [item.key for item in store.list("rows/")]


def answer_schema() -> pa.Schema:
    """What the plain process writes."""
    return pa.schema({"row": pa.int64(), "prediction": pa.float64()})


if __name__ == "__main__":
    main()
