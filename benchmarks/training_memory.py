"""Peak memory of training on a generated table, in memory and out of core, on a stack that is up.

    python benchmarks/training_memory.py --rows 1000000 --columns 30

Each training runs in a process of its own. Prints its peak beside the bound, 3 times the Arrow input plus 500 MiB.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from datetime import date
from secrets import token_hex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from boostline.dataset import Dataset, parse_dataset
from boostline.lake import paths
from boostline.lake.manifest import Manifest, Ref, attempt_files, publish, read_ref
from boostline.lake.plan import plan_stage
from boostline.lake.store import Store
from boostline.local.layout import load_stack_env
from boostline.local.places import stack_home
from boostline.settings import Settings
from boostline.training.train import train_model
from boostline.transform import RawColumn, Transform

DAY = "2020-01-01"
MIB = 2**20


def main() -> None:
    """Make the features, train twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--train", nargs=2, metavar=("REF", "LIMIT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    load_stack_env(stack_home())
    dataset = wide_dataset(args.columns)
    if args.train:
        train(dataset, Ref.model_validate_json(args.train[0]), int(args.train[1]))
        return
    ref = make_features(Store(Settings()), dataset, args.rows)
    arrow = args.rows * (args.columns + 1) * 8 / MIB
    print(f"{arrow:.0f} MiB of Arrow; bound {3 * arrow + 500:.0f} MiB")
    for limit in (2**62, 0):
        command = [sys.executable, __file__, "--columns", str(args.columns)]
        subprocess.run([*command, "--train", ref.model_dump_json(), str(limit)], check=True)


def wide_dataset(columns: int) -> Dataset:
    """A dataset of so many numbers."""
    names = [f"x{index}" for index in range(columns)]
    return parse_dataset(
        {
            "name": f"memory_{columns}",
            "task": "regression",
            "label": {"name": "y"},
            "id": ["y"],
            "tables": {"rows": {"daily": True, "columns": {name: {"type": "double"} for name in [*names, "y"]}}},
            "split": {"kind": "hash"},
            "features": {"numeric": names},
            "baseline": {"kind": "linear"},
            "model": {"rounds": 20},
            "gate": {"metric": "rmse"},
        }
    )


def make_features(store: Store, dataset: Dataset, rows: int) -> Ref:
    """Write and publish features, a tenth of the rows each beside them for valid and test."""
    attempt, names, random = token_hex(8), dataset.features.numeric, np.random.default_rng(0)
    folder = paths.attempt_folder("features", dataset.name, attempt)

    def put(key: str, size: int) -> None:
        values = random.normal(size=(len(names), size))
        table = pa.table({**dict(zip(names, values, strict=True)), "_label": values[0] + values[1] * values[2]})
        sink = io.BytesIO()
        pq.write_table(table, sink)
        store.put(f"{folder}{key}/part-{token_hex(4)}.parquet", sink.getvalue())

    for _ in range(10):
        put("rows/split=train", rows // 10)
    for key in ("rows/split=valid", "rows/split=test", "test_raw"):
        put(key, rows // 10)
    number = RawColumn(type="double", clean=())
    transform = Transform(
        format=1,
        dataset=dataset.name,
        task="regression",
        date=DAY,
        columns=dict.fromkeys(names, number),
        derived={},
        categorical={},
        numeric=dict.fromkeys(names),
        names=names,
        label="y",
        classes=(),
    )
    store.put(folder + "transform.json", transform.dumps())
    manifest = Manifest(
        stage="features",
        dataset=dataset.name,
        partition=DAY,
        attempt=attempt,
        fingerprint=attempt,
        inputs={},
        files=attempt_files(store, folder),
        rows={},
        columns={},
        row_hash=attempt,
    )
    return publish(store, manifest, None, to_current=False)


def train(dataset: Dataset, features: Ref, limit: int) -> None:
    """Train as an experiment and print the peak."""
    settings = Settings(external_memory_bytes=limit)
    store = Store(settings)
    plan = plan_stage(store, "model", dataset, date.fromisoformat(DAY), {"features": features.identity})
    ref = train_model(
        store,
        settings,
        dataset,
        features=features,
        target=plan.target,
        attempt=token_hex(8),
        publish=False,
        tags={"benchmark": "memory"},
    )
    details = read_ref(store, ref).details
    where = "in memory" if limit else "out of core"
    print(f"{where}: peak {details['peak_memory_bytes'] / MIB:.0f} MiB, {details['seconds']} s")


if __name__ == "__main__":
    main()
