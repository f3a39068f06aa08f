"""The DAG files: they parse fast and without heavy libraries, keep the team's rules, and survive a broken dataset."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError
from tests.servers import put_database

from boostline.dataset import Dataset, change_dataset, dataset_files, load_dataset
from boostline.errors import DatasetInvalid
from boostline.lake.store import Store
from boostline.local.layout import Stack, airflow_env
from boostline.local.ports import Ports
from boostline.orchestration.run import FORM_PATHS, form_default
from boostline.orchestration.spark_job import spark_job
from boostline.registry.approval import LONGEST_REASON

DAGS = Path("dags").resolve()
DATASETS = [path.stem for path in dataset_files(Path("conf/datasets"))]
STAGES = ["ingest", "featurize", "baseline", "train", "gate", "promote", "report"]


def load_dags() -> dict[str, Any]:
    bag = DagBag(dag_folder=str(DAGS), bundle_name="test")
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    return load_dags()


def test_every_dataset_has_a_training_dag(dags: dict[str, Any]) -> None:
    each = {f"{name}_{kind}" for name in DATASETS for kind in ("train", "score")}
    assert set(dags) == {*each, "boostline_maintenance"}


@pytest.mark.parametrize("name", DATASETS)
def test_stages_follow_what_they_read(dags: dict[str, Any], name: str) -> None:
    dag = dags[f"{name}_train"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "ingest": {"featurize"},
        "featurize": {"baseline", "train"},
        "baseline": {"gate"},
        "train": {"gate"},
        "gate": {"promote"},
        "promote": {"report"},
        "report": set(),
    }
    assert {dag.task_dict[job].operator_name for job in STAGES[:3]} == {"SparkJob"}
    assert {dag.task_dict[job].operator_name for job in STAGES[3:]} == {"PythonOperator"}


def test_every_task_of_a_training_is_in_a_group_and_keeps_its_name(dags: dict[str, Any]) -> None:
    groups = dags["nyc_flights_train"].task_group.get_task_group_dict()
    assert {name: set(group.children) for name, group in groups.items() if name} == {
        "data": {"ingest", "featurize", "baseline"},
        "model": {"train", "gate", "promote", "report"},
    }


def test_spark_tasks_link_to_their_job(dags: dict[str, Any]) -> None:
    for name in ("ingest", "featurize", "baseline"):
        assert [link.name for link in dags["nyc_flights_train"].get_task(name).operator_extra_links] == ["Spark job"]


def test_python_tasks_link_to_report_and_mlflow(dags: dict[str, Any]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.from_dict(DagSerialization.to_dict(dags[f"{DATASETS[0]}_train"]))
    for task_id in STAGES[3:]:
        assert set(dag.task_dict[task_id].operator_extra_link_dict) == {"Report", "MLflow run"}


@pytest.mark.parametrize("name", DATASETS)
def test_a_published_day_is_what_scoring_listens_to(dags: dict[str, Any], name: str) -> None:
    (outlet,) = dags[f"{name}_train"].task_dict["ingest"].outlets
    assert outlet.name == f"{name}_clean"
    dag = dags[f"{name}_score"]
    assert dag.timetable.asset_condition.name == outlet.name
    assert [task.task_id for task in dag.topological_sort()] == ["ingest", "score"]
    assert {task.operator_name for task in dag.tasks} == {"SparkJob"}
    assert {task.pool for task in dag.tasks} == {"spark"}


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The DAGs of a dataset that requires approval, beside one that does not."""
    text = Path("conf/datasets/nyc_flights.yaml").read_text()
    policy = "promotion: {approval: required, approvers: [ann], timeout_hours: 1.5, on_timeout: approve}"
    (tmp_path / "nyc_flights.yaml").write_text(text.replace("promotion: {approval: none, in_backfill: false}", policy))
    shutil.copy("conf/datasets/liberty_mutual.yaml", tmp_path)
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    return load_dags()


def test_approval_is_a_dag_of_its_own(approved: dict[str, Any]) -> None:
    assert {name for name in approved if name.endswith("_promote")} == {"nyc_flights_promote"}
    train, dag = approved["nyc_flights_train"], approved["nyc_flights_promote"]
    assert [task.task_id for task in train.topological_sort()] == [*STAGES, "ask"]
    assert "ask" not in approved["liberty_mutual_train"].task_dict
    ask = train.task_dict["ask"]
    assert (ask.trigger_dag_id, ask.skip_when_already_exists, ask.wait_for_completion) == (dag.dag_id, True, False)
    assert [task.task_id for task in dag.topological_sort()] == ["question", "approve", "decide", "report"]
    assert dag.task_dict["decide"].pool == "promotion"
    # A paused DAG, or one that runs few at a time, would keep questions from people.
    assert dag.is_paused_upon_creation is False and dag.max_active_runs > 100
    approve = dag.task_dict["approve"]
    assert approve.operator_name == "HITLOperator"
    assert approve.assigned_users == [{"id": "ann", "name": "ann"}]
    assert (approve.response_timeout, approve.defaults) == (timedelta(hours=1.5), ["Approve"])
    assert f"{LONGEST_REASON} characters" in approve.params.get_param("reason").description
    test_team_rules(approved)


def test_team_rules(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        assert "boostline" in dag.tags
        assert dag.doc_md
        assert "When it fails" in dag.doc_md
        assert not dag.catchup
        for task in dag.tasks:
            assert task.owner == "boostline"
            assert task.retries == 2
            assert task.execution_timeout is not None


@pytest.mark.parametrize("name", DATASETS)
def test_pools_and_concurrency(dags: dict[str, Any], name: str) -> None:
    tasks = dags[f"{name}_train"].task_dict
    assert {tasks[job].pool for job in STAGES[:3]} == {"spark"}
    assert (tasks["train"].pool, tasks["promote"].pool) == ("training", "promotion")
    assert tasks["ingest"].max_active_tis_per_dag == 1


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("kind", ["train", "score"])
def test_the_form_explains_every_field(dags: dict[str, Any], name: str, kind: str) -> None:
    params = dags[f"{name}_{kind}"].params
    assert next(iter(params)) == "date"
    for field in params:
        schema = params.get_param(field).schema
        assert schema["title"], field
        assert params.get_param(field).description, field
        assert "type" in schema, field


@pytest.mark.parametrize("name", DATASETS)
def test_an_untouched_form_holds_no_value_of_the_file(dags: dict[str, Any], name: str) -> None:
    # Airflow's form sends what it shows, and a run keeps it: the file's values would outlive their mending.
    params = dags[f"{name}_train"].params
    assert {params[field] for field in FORM_PATHS} == {None}
    rounds = load_dataset(Path(f"conf/datasets/{name}.yaml")).model.rounds
    assert f" {rounds}." in params.get_param("rounds").description


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("rounds", [1, 100_000], [0, 100_001, 1.5]),
        ("eta", [0.001, 1], [0, 1.1]),
        ("max_depth", [0, 64], [-1, 65]),
        ("beat_baseline", [-1, 1], [-1.1, 1.1]),
        ("beat_champion", [-1, 1], [-1.1, 1.1]),
        ("window_days", [90, 3660], [0, 3661]),
        ("driver_memory", ["512m", "2g"], ["2", "0g", "2 g"]),
        ("executor_memory", ["512m", "2g"], ["2", "0g", "2 g"]),
        ("executor_cores", [1, 8], [0]),
        ("cores_max", [1, 8], [0]),
    ],
)
def test_the_form_takes_what_the_dataset_file_takes_and_nothing_else(
    dags: dict[str, Any], field: str, good: list[Any], bad: list[Any]
) -> None:
    param = dags["nyc_flights_train"].params.get_param(field)
    dataset = load_dataset(Path("conf/datasets/nyc_flights.yaml"))
    for value in (None, *good):
        assert param.resolve(value) == value
    for value in good:
        assert form_default(change_dataset(dataset, {FORM_PATHS[field]: value}), field) == value
    for value in bad:
        with pytest.raises(ParamValidationError):
            param.resolve(value)
        with pytest.raises(DatasetInvalid):
            change_dataset(dataset, {FORM_PATHS[field]: value})


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.name)
def test_dag_files_are_wiring(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 100


def test_parsing_loads_no_heavy_library() -> None:
    heavy = ["pyspark", "xgboost", "mlflow", "pandas", "pyarrow", "sklearn", "boto3", "jinja2.loaders"]
    paths = [str(path) for path in sorted(DAGS.glob("*.py"))]
    code = (
        "import sys, json, runpy; import airflow.sdk; "
        "from airflow.providers.standard.operators.python import PythonOperator; before = set(sys.modules); "
        f"print(json.dumps([(path, runpy.run_path(path) and sorted(set(sys.modules) - before)) for path in {paths}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [path for path, _ in loaded] == paths
    assert [(path, name) for path, names in loaded for name in heavy if name in names] == []


def test_one_broken_file_leaves_the_other_datasets_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("conf/datasets", tmp_path, dirs_exist_ok=True)
    (tmp_path / "bad name!.yaml").write_text("name: x\n")
    (tmp_path / "houses.yaml").write_text("name: houses\ntask: guess\nextra: ../../etc\n")
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    dags = load_dags()
    assert {f"{name}_train" for name in DATASETS} < set(dags)
    broken: DAG = dags["houses_train_invalid"]
    assert "invalid" in broken.tags
    # Under the DAG's own id, what Airflow first sees would be kept: its pause, and that runs under way lost their tasks.
    assert not {"houses_train", "houses_score", "houses_promote"} & set(dags)
    (task,) = broken.tasks
    with pytest.raises(AirflowFailException) as error:
        task.python_callable(**task.op_kwargs)
    assert "houses.yaml: extra: unknown key" in str(error.value)
    assert "task: Input should be 'regression', 'binary' or 'multiclass'" in str(error.value)


def test_a_file_that_cannot_be_parsed_or_read_leaves_the_other_datasets_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("conf/datasets", tmp_path, dirs_exist_ok=True)
    (tmp_path / "dated.yaml").write_text("name: dated\nsince: 2013-02-30\n")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    dags = load_dags()
    assert {f"{name}_train" for name in DATASETS} < set(dags)
    for name, says in (
        ("dated", "not YAML: day is out of range for month"),
        ("folder", "cannot be read: Is a directory"),
        ("loop", "cannot be read: Too many levels"),
    ):
        assert f"{name}.yaml: {says}" in dags[f"{name}_train_invalid"].doc_md


@pytest.mark.parametrize("quoted", ["{{ task }}", "{% if x %}", "{{ nothing }}"])
def test_a_broken_file_is_quoted_as_it_is(quoted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "houses.yaml").write_text(f"name: houses\ntask: '{quoted}'\n")
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    (task,) = load_dags()["houses_train_invalid"].tasks
    task.render_template_fields({})
    with pytest.raises(AirflowFailException, match=re.escape(f"(given: '{quoted}')")):
        task.execute({})


def test_a_fault_that_no_check_foresaw_leaves_the_other_datasets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_half_way(job: str, dataset: Dataset, **kwargs: Any) -> Any:
        if (job, dataset.name) == ("featurize", "nyc_flights"):
            raise OverflowError("days=99999999999 is too much")
        return spark_job(job, dataset, **kwargs)

    monkeypatch.setattr("boostline.orchestration.spark_job.spark_job", fail_half_way)
    dags = load_dags()
    assert {f"{name}_train" for name in DATASETS} - set(dags) == {"nyc_flights_train"}
    assert [name for name, dag in dags.items() if "invalid" in dag.tags] == ["nyc_flights_train_invalid"]
    (task,) = dags["nyc_flights_train_invalid"].tasks
    with pytest.raises(AirflowFailException, match=r"nyc_flights\.yaml: OverflowError: days=99999999999 is too much"):
        task.python_callable(**task.op_kwargs)


def test_a_dataset_that_waits_gets_a_waiting_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path("conf/datasets/nyc_flights.yaml").read_text()
    (tmp_path / "nyc_flights.yaml").write_text(text.replace("on_missing: skip", "on_missing: wait"))
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    dag = load_dags()["nyc_flights_train"]
    assert dag.task_dict["wait_for_raw_files"].downstream_task_ids == {"ingest"}
    assert dag.max_active_runs == 3


def test_a_task_that_starts_makes_its_own_dag_alone(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def load(path: Path) -> Dataset:
        read.append(path.stem)
        return load_dataset(path)

    monkeypatch.setattr("boostline.orchestration.dag.load_dataset", load)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "nyc_flights_train")
    assert set(load_dags()) == {"nyc_flights_train", "boostline_maintenance"}
    assert read == ["nyc_flights"]


def test_parsing_leaves_no_lines_in_logs_that_nothing_removes(tmp_path: Path) -> None:
    stack = Stack(tmp_path, Ports(), Path("/java"), tmp_path, tmp_path, tmp_path, Path("conf/datasets").resolve())
    stack.airflow_home.mkdir()
    put_database("airflow.db", stack.airflow_home)
    made = (stack.airflow_home / "airflow.db").exists()  # by set-up
    for command in ([] if made else [["db", "migrate"]]) + [["dag-processor", "--num-runs", "1"]]:
        subprocess.run([sys.executable, "-m", "airflow", *command], env=airflow_env(stack), check=True, timeout=120)
    logs = {path.name: path.read_text() for path in stack.airflow_home.rglob("*.py.log")}
    assert logs == {f"{path.name}.log": "" for path in DAGS.glob("*.py")}


def test_maintenance_removes_old_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, log in (("LOGS", "dag_id=a/attempt=1.log"), ("EVENT_LOG", "app-1")):
        path = tmp_path / name / log
        path.parent.mkdir(parents=True)
        path.write_bytes(b"log")
        os.utime(path, (0, 0))
        monkeypatch.setenv(f"BOOSTLINE_{name}", str(tmp_path / name))
    task = load_dags()["boostline_maintenance"].task_dict["remove_old_logs"]
    assert task.python_callable() == {"files": 2, "bytes": 6}
    assert not [*tmp_path.rglob("*.log"), *tmp_path.rglob("app-*")]


def test_maintenance_aborts_uploads_of_killed_jobs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        days = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=cls.days)

    store._client.create_multipart_upload(Bucket=store.settings.bucket, Key=f"{store.settings.prefix}/rows")
    monkeypatch.setenv("BOOSTLINE_LAKE", store.settings.lake)
    monkeypatch.setenv("BOOSTLINE_S3_ENDPOINT", str(store.settings.s3_endpoint))
    abort = load_dags()["boostline_maintenance"].task_dict["abort_old_uploads"].python_callable
    monkeypatch.setitem(abort.__globals__, "datetime", Later)
    for Later.days, uploads in ((0, 0), (13, 0), (15, 1), (15, 0)):
        assert abort() == {"uploads": uploads}
    assert store.abort_uploads(datetime.now(UTC) + timedelta(days=15)) == 0
