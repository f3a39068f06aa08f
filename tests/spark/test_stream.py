"""Scoring rows as they come: the same answers as the batch job, each batch published exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest
import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, DataMissing, InputChanged, ServiceUnavailable, SparkLost
from boostline.lake import paths
from boostline.lake.arrow import read_parquet
from boostline.lake.manifest import Manifest, Ref, read_ref
from boostline.local.layout import Stack, spark_env
from boostline.settings import Settings
from boostline.spark import stream as stream_module
from boostline.spark.failures import explain
from boostline.spark.score import run_score
from boostline.spark.stream import CHECKPOINTS, Stream, messages, start_stream
from boostline.spark.stream_source import open_source
from tests.spark.lab import GOOD_ROWS, HEADER, ODD_CLASSES, Lab, csv, dataset_of, truncated_gzip
from tests.spark.model_lab import make_champion, put_model
from tests.spark.test_score import score_request

ROOT = Path(__file__).parents[2]
NEXT = "2024-03-11"


def published(lab: Lab, dataset: Dataset) -> list[Manifest]:
    """The manifests of all batches, in order."""
    found = lab.store.list(f"predictions/{dataset.name}/stream=")
    keys = sorted(item.key for item in found if item.key.endswith("/current.json"))
    return [Manifest.model_validate_json(lab.store.get(key)[0]) for key in keys]


def scored(lab: Lab, manifests: list[Manifest]) -> list[dict[str, Any]]:
    """All rows of these batches, by id."""
    keys = [item.key for manifest in manifests for item in manifest.files]
    rows = read_parquet(lab.store, keys).to_pylist() if keys else []
    return sorted(rows, key=lambda row: row["id"])


def drain(lab: Lab, settings: Settings, dataset: Dataset) -> None:
    """Score all that is there."""
    start_stream(Stream(lab.spark, lab.store, settings, dataset), once=True).awaitTermination()


@pytest.fixture
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return dataset_of({"stream": {"max_files": 1}, **getattr(request, "param", {})})


class World(NamedTuple):
    """A lake with a day landed and ingested, and its features' champion."""

    lab: Lab
    features: Manifest
    model: Ref
    version: str


@pytest.fixture
def world(ready: tuple[Lab, Manifest], settings: Settings, dataset: Dataset) -> World:
    lab, features = ready
    if dataset.task != "regression":
        features = lab.featurize(dataset)
    model = put_model(lab, dataset, features)
    return World(lab, features, model, make_champion(settings, model))


def test_a_stream_answers_row_by_row_as_the_batch_job_does(world: World, settings: Settings, dataset: Dataset) -> None:
    batch = read_ref(
        world.lab.store,
        run_score(world.lab.spark, world.lab.store, score_request(world.lab, dataset, world.model, world.version))[0],
    )
    drain(world.lab, settings, dataset)
    (manifest,) = published(world.lab, dataset)
    assert manifest.partition == "batch=000000000" and manifest.details["version"] == world.version
    assert scored(world.lab, [manifest]) == sorted(world.lab.rows(batch).to_pylist(), key=lambda row: row["id"])
    assert manifest.row_hash == batch.row_hash
    assert len(manifest.files) == 1, "a few rows make one file"
    # A file that lands later is a batch of its own, and nothing is scored twice.
    world.lab.land(csv(["50,a,1,on,2024-03-11T01:00:00Z,"]), day=NEXT)
    drain(world.lab, settings, dataset)
    drain(world.lab, settings, dataset)
    first, second = published(world.lab, dataset)
    assert first == manifest
    assert [(row["id"], str(row["data_date"])) for row in scored(world.lab, [second])] == [(50, NEXT)]


def test_a_large_batch_goes_to_all_tasks_and_gives_the_same_rows(
    world: World, settings: Settings, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(world.lab, settings, dataset)
    (small,) = published(world.lab, dataset)
    world.lab.store.delete([item.key for item in world.lab.store.list(paths.checkpoint_folder(dataset.name))])
    monkeypatch.setattr(stream_module, "BYTES_PER_TASK", 100)
    drain(world.lab, settings, dataset)
    (large,) = [item for item in published(world.lab, dataset) if item.table != small.table]
    assert (len(small.files), len(large.files)) == (1, 2), "the rows of one date are shared out among the tasks"
    assert large.row_hash == small.row_hash and large.rows == small.rows


def test_few_rows_of_many_dates_make_one_file(world: World, settings: Settings, dataset: Dataset) -> None:
    for number in range(4):
        world.lab.land(csv([f"{50 + number},a,1,on,,"]), day=f"2024-03-1{number + 1}")
    many = dataset.model_copy(update={"stream": dataset.stream.model_copy(update={"max_files": 5})})
    drain(world.lab, settings, many)
    (manifest,) = published(world.lab, dataset)
    assert manifest.rows["rows"] == 16 and len(manifest.files) == 1


def test_bad_rows_and_bad_files_do_not_stop_it(world: World, settings: Settings, dataset: Dataset) -> None:
    world.lab.land(csv(["60,a,-5,on,,", "61,b,1,maybe,,", "62,c,2,off,,", "ragged"]), day=NEXT, name="a.csv")
    broken = world.lab.land("not,the,header\n1,2,3\n", day=NEXT, name="b.csv")
    drain(world.lab, settings, dataset)
    batches = published(world.lab, dataset)
    assert [item.rows["rows"] for item in batches] == [12, 1, 0]
    assert [item.rows["quarantined"] for item in batches] == [0, 3, 0]
    assert list(batches[2].details["refused"]) == [broken]
    assert "has no header, or a wrong one" in batches[2].details["refused"][broken]
    keys = [item.key for item in world.lab.store.list(f"quarantine/{dataset.name}/") if item.key.endswith(".parquet")]
    told = {
        row["id"]: row["reasons"]
        for row in read_parquet(world.lab.store, [key for key in keys if "stream-" in key]).to_pylist()
    }
    assert told["60"] == ["power: '-5' is below 0"] and "none of on, off" in told["61"][0]
    # Of the next batch one file can be read but to its middle.
    world.lab.land(csv(["63,c,2,off,,"]), day=NEXT, name="c.csv")
    broken = world.lab.land(truncated_gzip(), day=NEXT, name="c.csv.gz")
    drain(
        world.lab, settings, dataset.model_copy(update={"stream": dataset.stream.model_copy(update={"max_files": 2})})
    )
    last = published(world.lab, dataset)[3]
    assert [row["id"] for row in scored(world.lab, [last])] == [63] and list(last.details["refused"]) == [broken]
    assert "c.csv.gz is truncated or corrupt" in last.details["refused"][broken]


def test_the_model_is_followed_between_batches(world: World, settings: Settings, dataset: Dataset) -> None:
    drain(world.lab, settings, dataset)
    version = make_champion(settings, put_model(world.lab, dataset, world.features, rounds=9))
    assert version != world.version
    world.lab.land(csv(["50,a,1,on,2024-03-11T01:00:00Z,"]), day=NEXT)
    drain(world.lab, settings, dataset)
    assert [item.details["version"] for item in published(world.lab, dataset)] == [world.version, version]


def test_a_day_before_since_is_left_alone(world: World, settings: Settings, dataset: Dataset) -> None:
    late = dataset.model_copy(update={"stream": dataset.stream.model_copy(update={"since": date.fromisoformat(NEXT)})})
    world.lab.land(csv(["50,a,1,on,2024-03-11T01:00:00Z,"]), day=NEXT)
    drain(world.lab, settings, late)
    assert [row["id"] for row in scored(world.lab, published(world.lab, dataset))] == [50]


def test_a_file_is_read_once_however_old_it_is(lab: Lab, settings: Settings, dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / paths.raw_folder(dataset.name, dataset.daily_table, NEXT)
    folder.mkdir(parents=True)
    # Files of this machine, since an S3 server says itself when it got one.
    here = SimpleNamespace(
        uri=lambda key, scheme: (tmp_path / key).as_uri(),
        list=lambda key: [SimpleNamespace(key=str(path.relative_to(tmp_path))) for path in folder.iterdir()],
    )
    lab.spark.conf.set("spark.sql.streaming.checkpointFileManagerClass", CHECKPOINTS)
    read: list[str] = []
    for name, days in (("a.csv", 30), ("b.csv", 0), ("c.csv", 20), ("a.csv", 0)):
        (folder / name).write_bytes(csv())
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
        rows = open_source(lab.spark, here, settings, dataset)  # type: ignore[arg-type]
        writer = rows.writeStream.foreachBatch(lambda batch, _: read.extend(row["path"] for row in batch.collect()))
        writer = writer.option("checkpointLocation", lab.store.uri("checkpoint", "s3a"))
        writer.trigger(availableNow=True).start().awaitTermination()
    assert [path.rpartition("/")[2] for path in read] == ["a.csv", "b.csv", "c.csv"]


def test_what_is_missing_is_named(lab: Lab, settings: Settings) -> None:
    dataset = dataset_of({"name": "nobody", "stream": {}})
    lab.name = dataset.name
    with pytest.raises(DataMissing, match="there is no raw file below"):
        drain(lab, settings, dataset)
    lab.land_all()
    with pytest.raises(Exception, match="no champion yet") as caught:
        drain(lab, settings, dataset)
    assert isinstance(explain(caught.value), ServiceUnavailable)


def test_a_crash_between_publishing_and_committing_publishes_nothing_twice(
    world: World, settings: Settings, dataset: Dataset
) -> None:
    drain(world.lab, settings, dataset)
    before = published(world.lab, dataset)
    forget_last_commit(world.lab, dataset)
    drain(world.lab, settings, dataset)
    assert published(world.lab, dataset) == before


@pytest.mark.parametrize("dataset", [ODD_CLASSES], indirect=True, ids=["odd class names"])
def test_messages_are_scored_and_answered(
    world: World, settings: Settings, dataset: Dataset, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "BYTES_PER_TASK", 500)  # the messages have some more, and their offsets far less
    rows, answers = f"{dataset.name}_rows", f"{dataset.name}_answers"
    stream = dataset.stream.model_copy(update={"source": "kafka", "topic": rows, "answers": answers})
    dataset = dataset.model_copy(update={"stream": stream})
    settings = settings.model_copy(update={"kafka": kafka})
    batch = read_ref(
        world.lab.store,
        run_score(world.lab.spark, world.lab.store, score_request(world.lab, dataset, world.model, world.version))[0],
    )
    expected = {row["id"]: row["prediction"] for row in world.lab.rows(batch).to_pylist()}
    names = HEADER.split(",")
    sent = [
        json.dumps({name: value or None for name, value in zip(names, row.split(","), strict=True)})
        for row in GOOD_ROWS
    ]
    broken = ["{", json.dumps({"id": 70, "power": "much"})]
    frame = world.lab.spark.createDataFrame([(text,) for text in [*sent, *broken, sent[0]]], "value string").coalesce(1)
    frame.write.format("kafka").option("kafka.bootstrap.servers", kafka).option("topic", rows).save()
    drain(world.lab, settings, dataset)
    (manifest,) = published(world.lab, dataset)
    assert manifest.inputs == {f"{rows}/0": "0-14"} and len(manifest.files) == 2
    assert manifest.rows == {"rows": 12, "quarantined": 2, "duplicates": 1}
    assert {row["id"]: row["prediction"] for row in scored(world.lab, [manifest])} == expected
    forget_last_commit(world.lab, dataset)
    with pytest.raises(Exception, match="Option.get") as caught:  # SPARK-57438
        drain(world.lab, settings, dataset)
    assert isinstance(explain(caught.value), SparkLost)
    drain(world.lab, settings, dataset)
    assert published(world.lab, dataset) == [manifest]
    # The batch was sent twice, which its key and its batch tell.
    reader = world.lab.spark.read.format("kafka").option("kafka.bootstrap.servers", kafka).option("subscribe", answers)
    found = [(row["key"].decode(), json.loads(row["value"])) for row in reader.load().collect()]
    assert len(found) == 24
    once = {(key, value["batch"]): value for key, value in found}
    assert {value["id"]: value["prediction"] for value in once.values()} == pytest.approx(expected)
    assert {(key, value["model_version"]) for (key, _), value in once.items()} == {
        (f'{{"id":{number}}}', world.version) for number in expected
    }


def test_messages_that_their_sender_took_back_are_not_scored(
    world: World, settings: Settings, dataset: Dataset, kafka: str
) -> None:
    stream = dataset.stream.model_copy(update={"source": "kafka", "topic": dataset.name + "_transactions"})
    dataset = dataset.model_copy(update={"stream": stream})
    settings = settings.model_copy(update={"kafka": kafka})
    with sender(world.lab, kafka, stream.topic or "") as send:
        send({"id": 81}, False)
        drain(world.lab, settings, dataset)
        send({"id": 82}, True)
        send({"id": 83}, False)
        drain(world.lab, settings, dataset)
    batches = published(world.lab, dataset)
    assert [row["id"] for row in scored(world.lab, batches)] == [82]
    assert [item.rows["rows"] for item in batches] == [0, 1]


@contextmanager
def sender(lab: Lab, kafka: str, topic: str) -> Iterator[Callable[[dict[str, Any], bool], None]]:
    """Sends one message in a transaction, and commits it or takes it back."""
    jvm: Any = lab.spark._jvm
    clients = jvm.org.apache.kafka.clients
    options = jvm.java.util.HashMap()
    options.put("bootstrap.servers", kafka)
    admin = clients.admin.Admin.create(options)
    # The broker itself would want three of its kind for this topic.
    new = [clients.admin.NewTopic(name, count, 1) for name, count in (("__transaction_state", 50), (topic, 1))]
    admin.createTopics(jvm.java.util.List.of(*new)).all().get()
    admin.close()
    options.put("transactional.id", topic)
    for part in ("key", "value"):
        options.put(f"{part}.serializer", "org.apache.kafka.common.serialization.StringSerializer")
    producer = clients.producer.KafkaProducer(options)
    producer.initTransactions()

    def send(row: dict[str, Any], commit: bool) -> None:
        producer.beginTransaction()
        producer.send(clients.producer.ProducerRecord(topic, json.dumps(row))).get()
        producer.commitTransaction() if commit else producer.abortTransaction()

    try:
        yield send
    finally:
        producer.close()


def test_ids_that_differ_by_microseconds_have_keys_of_their_own(spark: SparkSession) -> None:
    dataset = dataset_of({"id": ["at"]})
    times = ["2024-03-10 01:00:00.0001", "2024-03-10 01:00:00.0002", "2024-03-10 01:00:00"]
    rows = spark.createDataFrame([(text, 1.5) for text in times], "at string, prediction double")
    sent = messages(rows.withColumn("at", F.col("at").cast("timestamp")), dataset, "stream/batch=7").collect()
    texts = [f"2024-03-10T01:00:00.{fraction}Z" for fraction in ("000100", "000200", "000000")]
    assert [json.loads(row["key"]) for row in sent] == [{"at": text} for text in texts]
    values = [{"at": text, "prediction": 1.5, "batch": "stream/batch=7"} for text in texts]
    assert [json.loads(row["value"]) for row in sent] == values


def test_a_champion_that_learnt_from_otherwise_clean_rows_is_refused(
    world: World, settings: Settings, dataset: Dataset
) -> None:
    rules = {"type": "string", "allowed": ["on", "off"], "clean": ["lower"]}
    other = dataset_of({"tables.readings.columns.state": rules})
    with pytest.raises(Exception, match="column state") as caught:
        drain(world.lab, settings, other)
    error = explain(caught.value)
    assert isinstance(error, DataInvalid) and "learnt from column state as string, clean: []" in error.message
    assert published(world.lab, dataset) == []


def test_a_stream_begins_anew_where_the_dataset_file_changed(
    world: World, settings: Settings, dataset: Dataset, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"datasets": tmp_path})
    changed = dataset_of({"stream": {"max_files": 1}, "tables.sites.columns.note": {"type": "string"}})
    write_file(changed, tmp_path)
    with pytest.raises(Exception, match="changed since the stream began") as caught:
        drain(world.lab, settings, dataset)
    assert isinstance(explain(caught.value), InputChanged)
    assert published(world.lab, dataset) == []
    write_file(dataset, tmp_path)
    drain(world.lab, settings, dataset)
    assert len(published(world.lab, dataset)) == 1


def write_file(dataset: Dataset, folder: Path) -> None:
    """The dataset's file, below a folder."""
    body = dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
    (folder / f"{dataset.name}.yaml").write_text(yaml.safe_dump(body))


def forget_last_commit(lab: Lab, dataset: Dataset) -> None:
    """What a crash after publishing leaves: a batch that the checkpoint does not know to be done."""
    commits = lab.store.list(paths.checkpoint_folder(dataset.name) + "commits/")
    lab.store.delete([max((item.key for item in commits), key=lambda key: int(key.rsplit("/", 1)[1]))])


@pytest.mark.slow
def test_a_killed_stream_goes_on_and_publishes_each_row_once(
    world: World, settings: Settings, dataset: Dataset, s3: Stack, tmp_path: Path
) -> None:
    for number in range(3):
        rows = [f"{100 * (number + 1) + row},a,1,on,2024-03-11T01:00:00Z," for row in range(20)]
        world.lab.land(csv(rows), day=NEXT, name=f"{number}.csv")
    write_file(dataset, tmp_path)
    env = {
        **spark_env(s3),
        "BOOSTLINE_LAKE": settings.lake,
        "BOOSTLINE_MLFLOW_URI": settings.mlflow_uri,
        "BOOSTLINE_DATASETS": str(tmp_path),
    }
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[1]"]
    command += [str(ROOT / "jobs/score_stream.py"), "--dataset", dataset.name, "--once"]
    with (tmp_path / "log").open("w") as log:
        killed = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        while len(published(world.lab, dataset)) < 2:
            assert killed.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.05)
        for process in [*psutil.Process(killed.pid).children(recursive=True), psutil.Process(killed.pid)]:
            process.send_signal(signal.SIGKILL)
        killed.wait(20)
    done = published(world.lab, dataset)
    assert len(done) < 4
    again = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    batches = published(world.lab, dataset)
    assert batches[: len(done)] == done
    assert [item.partition for item in batches] == [f"batch={number:09d}" for number in range(4)]
    ids = [row["id"] for row in scored(world.lab, batches)]
    assert ids == sorted([*range(1, 13), *(100 * (n + 1) + row for n in range(3) for row in range(20))])
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in again.stdout + again.stderr
