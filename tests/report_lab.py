"""Reports of toy datasets, made as the report task makes them, for the tests of what a person reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from boostline.lake.job import Target
from boostline.lake.manifest import Manifest, Ref, attempt_files, publish, read_current
from boostline.lake.plan import WindowRefs
from boostline.metrics import evaluate
from boostline.registry.compare import judge
from boostline.registry.promotion import promote_candidate
from boostline.reporting.report import RunFacts, report_keys, write_report
from tests.model_lab import TOY_CLASSES, parquet, put_clean, put_features, toy_rows, train_toy

SPLITS = {"train": 1200, "valid": 300, "test": 600}


@dataclass
class Report:
    """What the report task wrote."""

    ref: Ref
    run: dict[str, Any]
    evaluation: dict[str, Any]
    page: str


class Lab:
    """Features, baseline, model, verdict, promotion and report of one toy dataset."""

    def __init__(self, store, settings, dataset):
        self.store, self.settings, self.dataset = store, settings, dataset

    def rows(self, day, seed):
        """Raw rows by split, with an id and a data date over the week that ends at the day."""
        found, start = {}, 0
        for index, (split, size) in enumerate(SPLITS.items()):
            table = toy_rows(self.dataset.task, size, seed + index, new_city=split != "train")
            days = [date.fromisoformat(day) - timedelta(days=6 - 7 * row // size) for row in range(size)]
            table = table.append_column("row", pa.array(range(start, start + size), pa.int64()))
            found[split] = table.append_column("data_date", pa.array(days, pa.date32()))
            start += size
        return found

    def run(self, day="2020-03-31", *, seed=0, raw=None, dataset=None, publish=True, baseline_rows=True) -> Report:
        """All that the tasks do after ingest, on these raw rows."""
        dataset, raw = dataset or self.dataset, raw or self.rows(day, seed)
        classes = TOY_CLASSES[dataset.task]
        features = put_features(self.store, dataset, day, raw, classes=classes, attempt=f"f-{day}-{seed}")
        rival = self.put_baseline(day, raw["test"], f"b-{day}-{seed}", baseline_rows)
        model = train_toy(self.store, self.settings, dataset, features, f"m-{day}-{seed}", publish=publish)
        verdict = judge(
            self.store, self.settings, dataset, date.fromisoformat(day), model=model, baseline=rival, features=features
        )
        promotion = {"promoted": False, "reason": "the gate said no"}
        if verdict["passed"]:
            promotion = promote_candidate(self.store, self.settings, dataset, model=model, is_backfill=False)
        facts = RunFacts(
            dataset=dataset,
            day=date.fromisoformat(day),
            run_id="manual__1",
            changes={} if publish else {"rounds": 5},
            publish=publish,
            window=WindowRefs(date=day, refs=[put_clean(self.store, self.dataset, day)], missing=[]),
            features=features,
            baseline=rival,
            model=model,
            verdict=verdict,
            promotion=promotion,
            seconds={"ingest": 20.0, "featurize": 15.2, "baseline": 12.0, "train": 3.1, "gate": 0.4, "promote": 0.2},
            memory={"gate": 150 * 2**20},
            spark={"ingest": {"driver_memory": "1g", "executor_memory": "1g"}},
        )
        return self.write(facts)

    def write(self, facts, attempt="r1"):
        """What the report task does."""
        found = read_current(self.store, "report", self.dataset.name, None, facts.day.isoformat())
        target = Target(
            partition=facts.day.isoformat(), fingerprint="report", expected_etag=found and found[1], inputs={}
        )
        self.facts = facts
        ref = write_report(self.store, self.settings, facts, target, f"{attempt}-{facts.day}")
        page, result = report_keys(ref)
        return Report(
            ref,
            json.loads(self.store.get(result)[0]),
            json.loads(self.store.get(result.replace("run.json", "evaluation.json"))[0]),
            self.store.get(page)[0].decode(),
        )

    def put_baseline(self, day, test, attempt, with_rows):
        """A published baseline that is a little better than chance, with its predictions as the Spark stage writes them."""
        label, task = test.column("_label").to_numpy(), self.dataset.task
        noise = np.random.default_rng(0).normal(0, 0.1, len(label))
        if task == "regression":
            prediction = label.mean() + 0.3 * (label - label.mean()) + noise
        elif task == "binary":
            prediction = np.clip(0.5 + 0.2 * (label - 0.5) + noise, 0.01, 0.99)
        else:
            prediction = np.full((len(label), 3), 0.3) + noise[:, None] * [1, -1, 0]
            prediction[np.arange(len(label)), label.astype(int)] += 0.1
            prediction = np.clip(prediction, 0.01, 1)
            prediction /= prediction.sum(axis=1, keepdims=True)
        kind = pa.list_(pa.float64()) if task == "multiclass" else pa.float64()
        columns = {"data_date": test["data_date"], "_id_row": test["row"], "_label": test["_label"]}
        table = pa.table(columns | {"prediction": pa.array(prediction.tolist(), kind)})
        folder = f"baseline/{self.dataset.name}/attempts/{attempt}/"
        if with_rows:
            self.store.put(f"{folder}test_predictions/part-00000.parquet", parquet(table))
        metrics = evaluate(task, label, prediction, classes=TOY_CLASSES[task])
        manifest = Manifest(
            stage="baseline",
            dataset=self.dataset.name,
            partition=day,
            attempt=attempt,
            fingerprint=f"baseline-{attempt}",
            inputs={},
            files=attempt_files(self.store, folder),
            rows={},
            columns={},
            row_hash=attempt,
            details={"kind": self.dataset.baseline.kind, "metrics": dict.fromkeys(("train", "valid", "test"), metrics)},
        )
        before = read_current(self.store, "baseline", self.dataset.name, None, day)
        return publish(self.store, manifest, before and before[1])
