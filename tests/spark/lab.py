"""A small dataset, raw files landed as bytes, and the three Spark stages run as their tasks would."""

from __future__ import annotations

import gzip
import io
import random
from dataclasses import dataclass, field
from datetime import date
from secrets import token_hex
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from boostline.dataset import Dataset, parse_dataset
from boostline.lake import paths
from boostline.lake.arrow import read_parquet
from boostline.lake.features import split_keys, transform_key
from boostline.lake.job import JobRequest
from boostline.lake.manifest import Manifest, read_ref
from boostline.lake.plan import plan_ingest, plan_stage
from boostline.lake.store import Store
from boostline.spark.baseline import run_baseline
from boostline.spark.features import run_featurize
from boostline.spark.ingest import run_ingest
from boostline.transform import Transform

DAY = "2024-03-10"
HEADER = "id,site,power,state,at,load"
PLAIN = {
    "name": "meters",
    "task": "regression",
    "label": {"name": "load"},
    "id": ["id"],
    "tables": {
        "readings": {
            "daily": True,
            "columns": {
                "id": {"type": "long", "required": True},
                "site": {"type": "string", "clean": ["trim", "lower"]},
                "power": {"type": "double", "min": 0},
                "state": {"type": "string", "allowed": ["on", "off"]},
                "at": {"type": "timestamp"},
                "load": {"type": "double"},
            },
        },
        "sites": {
            "key": ["site"],
            "columns": {"site": {"type": "string", "required": True}, "area": {"type": "integer"}},
        },
    },
    "joins": ["sites"],
    "split": {"kind": "first_rows", "test_rows": 2, "valid_rows": 2},
    "window": {"days": 1},
    "features": {"categorical": ["site", "state", "hour"], "numeric": ["power", "area"],
                 "derived": {"hour": {"hour": "at"}}},
    "baseline": {"kind": "linear", "encoding": "onehot"},
    "gate": {"metric": "rmse"},
}  # fmt: skip
GOOD_ROWS = [f"{n},{'abc'[n % 3]},{n}.5,{'on' if n % 2 else 'off'},{DAY}T0{n % 9}:00:00Z,{2 * n + n % 3}"
             for n in range(1, 13)]  # fmt: skip
SITES = "site,area\na,1\nb,2\nc,3\n"
CLASSES: dict[str, Any] = {"label": {"name": "kind", "expression": "CASE WHEN load < 8 THEN 'low' WHEN load < 20 THEN 'mid' ELSE 'high' END"},
           "task": "multiclass", "gate": {"metric": "log_loss"},
           "baseline": {"kind": "logistic", "encoding": "onehot"}}  # fmt: skip
ODD_CLASSES = {**CLASSES, "label": {"name": "kind", "expression": "if(load < 20, 'St. Louis', 'v1.`0`')"}}
"""Two classes, and names that Spark would read as something else."""
GOLDEN = {"clean": "ffffffffffffffffcecfe534a956af0b", "features": "fffffffffffffffe5fc611da2d8c88df",
          "baseline": "de4f32079004849e5d8c37e744c75106"}  # fmt: skip
"""Hashes of a fixed input. One that changes means: the stage's output changed, so raise its STAGE_VERSION, and only then
write the new hash here."""


def dataset_of(changes: dict[str, Any] | None = None) -> Dataset:
    """The plain dataset with values replaced by dotted path; None takes a key out."""
    import copy

    data: dict[str, Any] = copy.deepcopy(PLAIN)
    for path, value in (changes or {}).items():
        *parents, leaf = path.split(".")
        node = data
        for parent in parents:
            node = node[parent]
        if value is None:
            del node[leaf]
        else:
            node[leaf] = value
    return parse_dataset(data)


def csv(rows: list[str] = GOOD_ROWS, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def truncated_gzip() -> bytes:
    """A file whose end is lost, and whose start alone does not show it."""
    chance = random.Random(0)
    return gzip.compress(csv([f"{n},s{chance.random()},{n},on,,{chance.random()}" for n in range(20_000)]))[:-5000]


def parquet(int96: bool = False, /, **columns: Any) -> bytes:
    """A Parquet file; `int96`: with timestamps as Spark, Hive and Impala write them by default."""
    body = io.BytesIO()
    pq.write_table(pa.table(columns), body, use_deprecated_int96_timestamps=int96)
    return body.getvalue()


def hostile_lines() -> list[str]:
    """1,600 raw rows. The first 1,000 have values that the others have not, and many are missing."""
    rng = np.random.default_rng(3)
    lines = []
    for number in range(1, 1601):
        test = number <= 1000
        power = (
            rng.choice(["", "0", "1e30", "1e-300"]) if rng.random() < (0.2 if test else 0.05) else rng.normal(50, 20)
        )
        power = f"{abs(power):.17g}" if isinstance(power, float) else power
        site = rng.choice(["a", " B", "c", "d", "", "q"] if test else ["a", " B", "c", "d"])
        state, hour = rng.choice(["on", "off", ""]), rng.integers(0, 24 if test else 20)
        load = hour + len(site) * 3 + (state == "on") * 4 + rng.normal(0, 2)
        lines.append(f"{number},{site},{power},{state},{DAY}T{hour:02}:10:00Z,{load:.3f}")
    return lines


@dataclass
class Lab:
    """A session and a fresh lake."""

    spark: SparkSession
    store: Store

    def land(self, body: bytes | str, day: str = DAY, name: str = "part.csv", table: str = "readings") -> str:
        key = paths.raw_folder(self.name, table, day) + name
        self.store.put(key, body if isinstance(body, bytes) else body.encode())
        return key

    def land_all(self, body: bytes | str | None = None, **more: Any) -> None:
        self.land(SITES, paths.REFERENCE, table="sites")
        self.land(csv() if body is None else body, **more)

    def request(self, job: str, dataset: Dataset, day: str, **more: Any) -> JobRequest:
        return JobRequest(job=job, dataset=dataset, date=day, attempt=token_hex(6), publish=True, **more)  # type: ignore[arg-type]

    def ingest(self, dataset: Dataset, day: str = DAY) -> dict[tuple[str | None, str], Manifest]:
        """Plan, ingest, publish: the written manifests by table and partition."""
        plan = plan_ingest(self.store, dataset, date.fromisoformat(day))
        request = self.request("ingest", dataset, day, targets=plan.stale)
        refs = run_ingest(self.spark, self.store, request)
        return {(ref.table, ref.partition): read_ref(self.store, ref) for ref in refs}

    def featurize(self, dataset: Dataset, day: str = DAY) -> Manifest:
        reads = plan_ingest(self.store, dataset, date.fromisoformat(day)).current
        named = {f"{ref.table}/{ref.partition}": ref.identity for ref in reads}
        plan = plan_stage(self.store, "features", dataset, date.fromisoformat(day), named)
        request = self.request("featurize", dataset, day, targets=[plan.target], reads=reads)
        return self._run(run_featurize, request)

    def features(self, dataset: Dataset, day: str = DAY) -> Manifest:
        """Ingest and featurize."""
        self.ingest(dataset, day)
        return self.featurize(dataset, day)

    def baseline(self, dataset: Dataset, source: Manifest) -> Manifest:
        ref = self.refs[source.attempt]
        plan = plan_stage(self.store, "baseline", dataset, date.fromisoformat(DAY), {"features": ref.identity})
        return self._run(run_baseline, self.request("baseline", dataset, DAY, targets=[plan.target], reads=[ref]))

    def rows(self, manifest: Manifest, split: str | None = None) -> pa.Table:
        keys = split_keys(manifest, split) if split else [item.key for item in manifest.files]  # type: ignore[arg-type]
        return read_parquet(self.store, keys)

    def transform(self, manifest: Manifest) -> Transform:
        return Transform.loads(self.store.get(transform_key(manifest))[0])

    def quarantined(self, table: str = "readings") -> list[dict[str, Any]]:
        """Quarantined rows of all attempts."""
        keys = [item.key for item in self.store.list("quarantine/") if f"/{table}/" in item.key]
        return read_parquet(self.store, [key for key in keys if key.endswith(".parquet")]).to_pylist() if keys else []

    def _run(self, run: Any, request: JobRequest) -> Manifest:
        (ref,) = run(self.spark, self.store, request)
        self.refs[request.attempt] = ref
        return read_ref(self.store, ref)

    refs: dict[str, Any] = field(default_factory=dict)
    name: str = "meters"
    """The dataset that raw files are landed for."""
