"""What the compose stack runs before its servers: secrets, preflight, identities. No engine needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import psycopg2
import psycopg2.errors
import pytest
import yaml

from boostline.containers import preflight
from boostline.containers.init import initialise, make_buckets, make_databases
from boostline.containers.minio import policy
from boostline.containers.servers import identities, write_mlflow_login, write_s3_identities
from boostline.errors import EnvironmentUnfit
from boostline.local.layout import S3_KEYS, Stack
from boostline.local.places import ROOT
from boostline.serving.settings import ServeSettings
from boostline.settings import Settings


def make_secrets(folder: Path) -> dict[str, str]:
    """Run the script in a folder of its own, and return what it made by file."""
    script = folder / "make-secrets.sh"
    shutil.copy(ROOT / "docker/make-secrets.sh", script)
    subprocess.run([script], check=True, capture_output=True)
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_secrets_are_private_and_kept(tmp_path: Path) -> None:
    first = make_secrets(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o600}
    assert make_secrets(tmp_path) == first
    secrets = values(first["secrets.env"])
    assert len(set(secrets.values())) == len(secrets)
    assert min(len(value) for value in secrets.values()) >= 18


def test_a_deleted_secret_is_made_anew_wherever_it_is_used(tmp_path: Path) -> None:
    first = make_secrets(tmp_path)
    source = tmp_path / "secrets/secrets.env"
    source.write_text("".join(line for line in source.read_text().splitlines(True) if "S3_PIPELINE_KEY" not in line))
    second = make_secrets(tmp_path)
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"secrets.env", "s3.env", "pipeline.env"}
    new = values(second["secrets.env"])
    assert values(second["pipeline.env"])["AWS_ACCESS_KEY_ID"] == new["S3_PIPELINE_KEY"]
    assert {
        key: value for key, value in values(first["secrets.env"]).items() if key != "S3_PIPELINE_KEY"
    }.items() <= new.items()


def test_only_secrets_are_rotated(tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    folder.mkdir()
    shutil.copy(ROOT / "docker/rotate.sh", folder)
    make_secrets(folder)
    file = folder / "secrets/secrets.env"
    file.write_text(file.read_text() + "BOOSTLINE_DB=postgresql://db:5432\n")
    before = file.read_text()
    for name in ("BOOSTLINE_DB", "NO_SECRET"):
        done = subprocess.run([folder / "rotate.sh", name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, f"error: docker/secrets/secrets.env has no secret {name}\n")
    assert file.read_text() == before


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_SECRET=pa$word",
        "TOKEN_X_SECRET=a b",
        'SPARK_SECRET="q"',
        "MLFLOW_DB_SECRET=a@b",
        "AIRFLOW_DB_SECRET=a/b",
    ],
)
def test_a_secret_of_ones_own_that_would_be_changed_on_the_way_is_refused(tmp_path: Path, line: str) -> None:
    first = make_secrets(tmp_path)
    name = line.partition("=")[0]
    kept = [kept for kept in first["secrets.env"].splitlines() if not kept.startswith(f"{name}=")]
    (tmp_path / "secrets/secrets.env").write_text("\n".join([*kept, line]) + "\n")
    script = tmp_path / "make-secrets.sh"
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"secrets.env: {name} has a character" in done.stderr
    assert line.partition("=")[2] not in done.stderr
    assert {file: (tmp_path / "secrets" / file).read_text() for file in first if file != "secrets.env"} == {
        file: text for file, text in first.items() if file != "secrets.env"
    }


def test_other_secrets_of_ones_own_are_kept(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    own = "POSTGRES_SECRET=Pa55@word!#%^&(x)\nTOKEN_X_SECRET=YWJj+/ZGVm=\n# a remark: it's mine\nBOOSTLINE_DB=[fd00::1]:5432\n"
    file = tmp_path / "secrets/secrets.env"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "POSTGRES" not in line) + own)
    made = make_secrets(tmp_path)
    assert made["secrets.env"].endswith(own)
    assert made["postgres.env"] == "POSTGRES_PASSWORD=Pa55@word!#%^&(x)\n"
    assert "TOKEN_X_SECRET=YWJj+/ZGVm=" in made["serving.env"]


def test_a_database_elsewhere_is_kept_and_named_to_its_clients(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    with (tmp_path / "secrets/secrets.env").open("a") as file:
        file.write("BOOSTLINE_DB=db.example.com:6432\n")
    made = make_secrets(tmp_path)
    addresses = [value for name in ("airflow.env", "mlflow.env") for value in values(made[name]).values()]
    assert sum("@db.example.com:6432/" in value for value in addresses) == 3
    assert make_secrets(tmp_path) == made


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compose file puts things."""
    for name, value in {
        "BOOSTLINE_LAKE": "s3://lake/boostline",
        "BOOSTLINE_LOGS": "s3://logs/airflow",
        "BOOSTLINE_EVENT_LOG": "s3a://logs/spark-events",
        "BOOSTLINE_MLFLOW_ARTIFACTS": "s3://mlflow/artifacts",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def all_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    made = make_secrets(tmp_path)
    found = {
        key: value
        for name, text in made.items()
        if name.endswith(".env")
        and name not in ("secrets.env", "serving.env", "reader.env", "cli.env", "postgres.env", "minio.env")
        for key, value in values(text).items()
    }
    for key, value in found.items():
        monkeypatch.setenv(key, value)
    return found


def test_preflight_knows_every_secret_that_is_made(
    all_secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(preflight.SECRETS) == set(all_secrets) - {"MLFLOW_TRACKING_USERNAME"}
    monkeypatch.setattr(preflight, "CHECKOUT", Path("/nowhere"))
    preflight.preflight()
    monkeypatch.delenv("BOOSTLINE_SPARK_SECRET")
    with pytest.raises(
        EnvironmentUnfit, match=r"no value for BOOSTLINE_SPARK_SECRET in docker/secrets.*\n.*make secrets"
    ):
        preflight.preflight()


def test_too_little_memory_is_named(all_secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CHECKOUT", Path("/nowhere"))
    monkeypatch.setattr(preflight, "NEEDED_GIB", 1e6)
    with pytest.raises(EnvironmentUnfit, match="GiB of memory here"):
        preflight.preflight()


def test_preflight_names_what_the_containers_may_not_read(
    all_secrets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_others(path: Path, mode: int) -> bool:  # root may read everything, whatever the modes
        return path.stat().st_mode & mode == mode

    monkeypatch.setattr(os, "access", of_others)
    monkeypatch.setattr(preflight, "CHECKOUT", tmp_path / "checkout")
    datasets, code = tmp_path / "checkout/conf/datasets", tmp_path / "checkout/src/a.py"
    for folder in (datasets, code.parent):
        folder.mkdir(parents=True)
    code.write_text("1")
    datasets.chmod(0o750)
    code.chmod(0o640)
    with pytest.raises(EnvironmentUnfit, match=r"may not read conf/datasets of the checkout.*\n.*chmod -R a\+rX src "):
        preflight.preflight()
    datasets.chmod(0o755)
    with pytest.raises(EnvironmentUnfit, match=r"may not read src/a\.py of the checkout"):
        preflight.preflight()


def test_the_code_hash_sees_code_and_not_datasets_or_caches(tmp_path: Path) -> None:
    code = ("src/a.py", "dags/b.py", "docker/entrypoint.sh", "requirements.txt")
    for name in (*code, "conf/datasets/c.yaml", "src/__pycache__/a.pyc", "docker/secrets/spark.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    first = preflight.code_hash(tmp_path)
    (tmp_path / "conf/datasets/c.yaml").write_text("2")
    (tmp_path / "src/__pycache__/a.pyc").write_text("2")
    (tmp_path / "docker/secrets/spark.env").write_text("2")
    assert preflight.code_hash(tmp_path) == first
    seen = {first}
    for name in code:
        (tmp_path / name).write_text("2")
        seen.add(preflight.code_hash(tmp_path))
    assert len(seen) == 1 + len(code)


def test_preflight_is_given_all_that_the_code_hash_reads() -> None:
    volumes = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["preflight"]["volumes"]
    assert volumes == [f"./{part}:/checkout/{part}:ro" for part in preflight.CODE]


def test_what_a_backup_stops_comes_back_at_the_next_boot() -> None:
    script = (ROOT / "docker/backup.sh").read_text()
    stopped = re.search(r"^s3_services\(\).* -xE '(\S+)'", script, re.MULTILINE)
    assert stopped
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    assert {name: services[name]["restart"] for name in stopped[1].split("|")} == {"s3": "always", "s3-store": "always"}


FIXED = {"spark_cds", "spark_master", "spark_history_command", "kafka"}
"""Settings of the embedded stack, and of the service `stream` alone."""
SIGN_IN = {"airflow_user", "airflow_password_file", "airflow_password"}
"""A secret of the service `cli`."""


def test_every_setting_reaches_the_services() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    for name in ("airflow-api", "airflow-scheduler", "airflow-dags", "airflow-triggerer", "cli", "stream", "serving"):
        wanted = {f"BOOSTLINE_{field.upper()}" for field in Settings.model_fields.keys() - FIXED - SIGN_IN}
        assert wanted - services[name]["environment"].keys() == set(), name
    wanted = {f"BOOSTLINE_SERVE_{field.upper()}" for field in ServeSettings.model_fields.keys() - {"port"}}
    assert wanted - services["serving"]["environment"].keys() == set()


def test_the_image_has_the_cpu_library_of_the_locked_xgboost() -> None:
    locked, smaller = ((ROOT / name).read_text() for name in ("requirements.txt", "docker/xgboost-cpu.txt"))
    version = next(line.split()[0].removeprefix("xgboost==") for line in locked.splitlines() if "xgboost==" in line)
    assert f"xgboost-cpu=={version} " in smaller


def test_minio_s_policies_grant_what_the_rights_say(places: None) -> None:
    assert policy(identities()["SERVING"])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
            "Resource": ["arn:aws:s3:::lake", "arn:aws:s3:::lake/*"],
        }
    ]


def test_rights_follow_the_settings(places: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOSTLINE_LAKE", "s3://team/lake")
    monkeypatch.setenv("BOOSTLINE_LOGS", "s3://team/logs")
    found = identities()
    assert found["SERVING"] == ["Read:team", "List:team"]
    assert {right.split(":")[1] for right in found["PIPELINE"]} == {"team", "logs"}


def test_buckets_are_those_of_the_settings(places: None, s3: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = dict(zip(("S3_ADMIN_KEY", "S3_ADMIN_SECRET"), (s3.env[name] for name in S3_KEYS), strict=True))
    settings = {"BOOSTLINE_S3_ENDPOINT": s3.s3_endpoint, "BOOSTLINE_S3_REGION": "eu-central-1", **keys}
    for name, value in {**settings, "BOOSTLINE_LAKE": "s3://team-lake/x"}.items():
        monkeypatch.setenv(name, value)
    make_buckets()
    make_buckets()
    client = boto3.session.Session().client("s3", endpoint_url=s3.s3_endpoint, region_name="eu-central-1")
    assert {item["Name"] for item in client.list_buckets()["Buckets"]} >= {"team-lake", "logs", "mlflow"}
    assert client.list_objects_v2(Bucket="logs")["Contents"][0]["Key"] == "spark-events/"
    monkeypatch.setenv("S3_ADMIN_SECRET", "wrong")
    with pytest.raises(EnvironmentUnfit, match=r"bucket logs of S3 at http.*403.*\n.*S3_ADMIN_SECRET"):
        make_buckets()
    monkeypatch.setenv("BOOSTLINE_S3_ENDPOINT", "http://:8333")
    with pytest.raises(EnvironmentUnfit, match=r"Invalid endpoint: http://:8333.*\n.*BOOSTLINE_S3_ENDPOINT"):
        make_buckets()


class PostgreSQL:
    """Connection and cursor of a server on which nothing is made yet; it keeps the statements, and refuses some of them."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.statements: list[str] = []

    def __call__(self, **_: object) -> PostgreSQL:
        return self

    cursor = __enter__ = __call__

    def __exit__(self, *_: object) -> None:
        return

    close = __exit__

    def execute(self, statement: object, _: object = None) -> None:
        text = str(statement)
        if self.refuses and self.refuses in text:
            raise psycopg2.errors.InsufficientPrivilege(f"permission denied to do so\nLINE 1: {text}\n")
        self.statements.append(text)

    def fetchone(self) -> None:
        return

    def fetchall(self) -> list[tuple[str, ...]]:
        return []


def test_databases_are_made_by_a_member_of_the_role_that_owns_them(all_secrets: dict[str, str]) -> None:
    """So a managed server wants it of who is no superuser."""
    server = PostgreSQL()
    make_databases(server)
    for owner in ("airflow", "mlflow"):
        role, member, *made = [text for text in server.statements if f"Identifier('{owner}')" in text]
        assert "CREATE ROLE" in role and "CREATE DATABASE" in made[0]
        assert member == f"Composed([SQL('GRANT '), Identifier('{owner}'), SQL(' TO CURRENT_USER')])"


@pytest.mark.parametrize("statement", ["CREATE TABLE", "CREATE ROLE", "CREATE DATABASE"])
def test_a_database_server_that_refuses_is_told_and_no_password_is(
    statement: str, places: None, all_secrets: dict[str, str], s3: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = dict(zip(("S3_ADMIN_KEY", "S3_ADMIN_SECRET"), (s3.env[name] for name in S3_KEYS), strict=True))
    for name, value in {"BOOSTLINE_S3_ENDPOINT": s3.s3_endpoint, **keys}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(psycopg2, "connect", PostgreSQL(refuses=statement))
    with pytest.raises(EnvironmentUnfit, match=r"database postgres: permission denied to do so\.\n.*CREATEDB") as told:
        initialise(str)
    assert "LINE 1" not in str(told.value)


@pytest.mark.parametrize("endpoint", ["", "http://s3:8333"])
def test_an_endpoint_reaches_every_client_and_none_means_aws(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOSTLINE_SPARK_SECRET", raising=False)
    env = {**os.environ, "BOOSTLINE_S3_ENDPOINT": endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    script = (
        "import boto3; from boostline.lake.store import Store; from boostline.settings import Settings;"
        "from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository as Artifacts;"
        "clients = boto3.client('s3', region_name='us-east-1'), Store(Settings())._client, Artifacts('s3://lake/x')._get_s3_client();"
        "print({client.generate_presigned_url('get_object', {'Bucket': 'lake', 'Key': 'k'}).split('?')[0] for client in clients})"
    )
    command = [ROOT / "docker/entrypoint.sh", sys.executable, "-c", script]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str({f"{endpoint}/lake/k" if endpoint else "https://lake.s3.amazonaws.com/k"})


@pytest.mark.parametrize(("own", "days"), [("", "14d"), ("60", "60d")])
def test_event_logs_are_kept_as_long_as_old_attempts(own: str, days: str, tmp_path: Path) -> None:
    settings = {"BOOSTLINE_SPARK_SECRET": "x", "BOOSTLINE_EVENT_LOG": "s3a://logs/e", "BOOSTLINE_KEEP_DAYS": own}
    env = {**os.environ, **settings, "SPARK_CONF_DIR": str(tmp_path)}
    subprocess.run([ROOT / "docker/entrypoint.sh", "true"], env=env, check=True)
    lines = (tmp_path / "spark-defaults.conf").read_text().splitlines()
    values = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    assert (values["spark.history.fs.cleaner.enabled"], values["spark.history.fs.cleaner.maxAge"]) == ("true", days)
    assert values["spark.eventLog.dir"] == values["spark.history.fs.logDirectory"] == "s3a://logs/e"


def test_identities_and_login_are_written_for_their_owner_only(
    places: None, all_secrets: dict[str, str], tmp_path: Path
) -> None:
    write_s3_identities(tmp_path / "s3.json")
    write_mlflow_login(tmp_path / "login.ini")
    found = json.loads((tmp_path / "s3.json").read_text())["identities"]
    serving = next(item for item in found if item["name"] == "serving")
    assert serving["actions"] == ["Read:lake", "List:lake"]
    assert serving["credentials"][0]["secretKey"] == all_secrets["S3_SERVING_SECRET"]
    assert all_secrets["MLFLOW_AUTH_ADMIN_PASSWORD"] not in (tmp_path / "login.ini").read_text()
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("s3.json", "login.ini")} == {0o600}
