"""Runs in a container of the stack, where the lake is: lands files, and tells what lies there. Prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from boostline.dataset import dataset_path, load_dataset
from boostline.lake.arrow import read_parquet
from boostline.lake.manifest import read_current
from boostline.lake.raw import land
from boostline.lake.read import published as read_published
from boostline.lake.store import Store
from boostline.settings import Settings

SETTINGS = Settings()
STORE = Store(SETTINGS)


def put(folder: str, *names: str) -> list[str]:
    """Land `TABLE.csv` and `TABLE-YYYY-MM-DD.csv` of a folder in each of these datasets."""
    for name in names:
        dataset = load_dataset(dataset_path(SETTINGS.datasets, name))
        for path in sorted(Path(folder).glob("*.csv")):
            table, _, day = path.stem.partition("-")
            if table in dataset.tables:
                land(STORE, dataset, table, [path], date.fromisoformat(day) if day else None)
    return list(names)


def published(dataset: str, day: str) -> dict[str, Any]:
    """Per stage: the published attempt's hash of rows, and how many attempts came so far as to make a manifest."""
    found: dict[str, Any] = {}
    for stage in ("features", "baseline", "model", "report"):
        current = read_current(STORE, stage, dataset, None, day)
        attempts = [
            item.key
            for item in STORE.list(f"{stage}/{dataset}/attempts/")
            if item.key.endswith(f"/manifests/date={day}.json")
        ]
        if current:
            found[stage] = {"hash": current[0].row_hash, "attempt": current[0].attempt, "manifests": len(attempts)}
    return found


def batches(dataset: str) -> list[dict[str, Any]]:
    """Rows and model version of each batch that the dataset's stream published."""
    keys = [item.key for item in STORE.list(f"predictions/{dataset}/stream=") if item.key.endswith("/current.json")]
    found = [json.loads(STORE.get(key)[0]) for key in keys]
    return [{"rows": item["rows"]["rows"], "version": item["details"]["version"]} for item in found]


def streamed(dataset: str, day: str, version: str) -> dict[str, Any]:
    """Rows of a date's batch predictions and of the stream's, and the columns in which they differ."""
    keys = [item.key for item in STORE.list(f"predictions/{dataset}/stream=") if item.key.endswith("/current.json")]
    files = [entry["key"] for key in keys for entry in json.loads(STORE.get(key)[0])["files"]]
    batch = read_published("predictions", dataset, day, version=version, store=STORE).to_arrow()
    stream = read_parquet(STORE, [key for key in files if key.endswith(".parquet")]).select(batch.column_names)
    order = [(name, "ascending") for name in load_dataset(dataset_path(SETTINGS.datasets, dataset)).id]
    rows, others = (table.sort_by(order).to_pylist() for table in (batch, stream))
    differ = {name for row, other in zip(rows, others, strict=False) for name in row if row[name] != other[name]}
    return {"batch": len(rows), "stream": len(others), "differ": sorted(differ)}


def committers(dataset: str) -> list[str]:
    """What each Spark write of a dataset's says committed it."""
    keys = [
        item.key
        for stage in ("clean", "features")
        for item in STORE.list(f"{stage}/{dataset}/attempts/")
        if item.key.endswith("/_SUCCESS")
    ]
    return [json.loads(STORE.get(key)[0])["committer"] for key in keys]


def uploads() -> list[str]:
    """Multipart uploads that nobody finished."""
    client = boto3.client("s3", endpoint_url=SETTINGS.s3_endpoint)
    return [item["Key"] for item in client.list_multipart_uploads(Bucket=SETTINGS.bucket).get("Uploads", [])]


def rights() -> list[str]:
    """What the identity of this process may do on the S3 server."""
    client = boto3.client("s3", endpoint_url=SETTINGS.s3_endpoint)
    tried: dict[str, Callable[[], Any]] = {"create a bucket": lambda: client.create_bucket(Bucket="more")}
    for bucket in ("lake", "logs", "mlflow"):
        tried[f"list {bucket}"] = partial(client.list_objects_v2, Bucket=bucket)
    tried["write lake"] = lambda: client.put_object(Bucket="lake", Key="rights", Body=b"")
    tried["delete lake"] = lambda: client.delete_object(Bucket="lake", Key="rights")
    found = []
    for what, attempt in tried.items():
        try:
            attempt()
            found.append(what)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                raise
    return found


def conditional() -> list[int]:
    """The answers to a first and a second creation, and to a replacement of what has changed and of what has not."""
    client = boto3.client("s3", endpoint_url=SETTINGS.s3_endpoint)
    name = {"Bucket": SETTINGS.bucket, "Key": "conditional"}

    def put(**condition: str) -> int:
        try:
            return int(client.put_object(**name, Body=b"", **condition)["ResponseMetadata"]["HTTPStatusCode"])
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])

    answers = [put(IfNoneMatch="*"), put(IfNoneMatch="*"), put(IfMatch='"0123456789abcdef0123456789abcdef"')]
    answers.append(put(IfMatch=client.head_object(**name)["ETag"]))
    client.delete_object(**name)
    return answers


VERBS = {
    "put": put,
    "published": published,
    "batches": batches,
    "streamed": streamed,
    "committers": committers,
    "uploads": uploads,
    "rights": rights,
    "conditional": conditional,
}

if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    sys.stdout.write(f"{json.dumps(VERBS[verb](*arguments))}\n")
