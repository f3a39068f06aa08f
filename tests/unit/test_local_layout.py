"""Secrets, environments and configuration of a stack."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import boto3
import pytest

from boostline.errors import EnvironmentUnfit
from boostline.local.layout import (
    OTHER_KEYS,
    Stack,
    airflow_env,
    keep_off_proxy,
    load_stack_env,
    read_password,
    read_secrets,
    write_stack_env,
)
from boostline.local.ports import Ports
from boostline.local.services import ALL, services
from boostline.local.setup import set_up
from boostline.local.spark_conf import write_spark_conf
from boostline.settings import Settings


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test puts into the environment is gone after it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(
        home=tmp_path / "home",
        ports=Ports(),
        java_home=Path("/java"),
        jars=tmp_path / "jars",
        cds=tmp_path / "cds",
        scratch=tmp_path / "scratch",
        datasets=tmp_path / "datasets",
    )


def test_secrets_are_made_once_and_readable_by_their_owner_only(stack: Stack) -> None:
    made, password = read_secrets(stack), read_password(stack)
    assert read_secrets(stack) == made
    assert read_password(stack) == password
    assert len(set(made.values())) == len(made)
    write_stack_env(stack)
    for path in (stack.home / "secrets.env", stack.passwords, stack.home / "stack.env"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_no_secret_is_on_a_command_line_or_in_sparks_properties(stack: Stack) -> None:
    write_spark_conf(stack)
    shown = (stack.spark_conf / "spark-defaults.conf").read_text()
    shown += " ".join(argument for service in services(stack) for argument in service.argv)
    for secret in [*read_secrets(stack).values(), read_password(stack)]:
        assert secret not in shown


def test_every_server_is_told_to_listen_on_loopback(stack: Stack) -> None:
    for service in services(stack):
        if service.name.startswith("airflow"):
            assert service.env["AIRFLOW__API__HOST"] == "127.0.0.1"
        else:
            assert any("127.0.0.1" in argument for argument in service.argv), service.name
    assert {service.name for service in services(stack)} == set(ALL)


def test_settings_of_other_installations_do_not_reach_the_services(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "SPARK_HOME", "AIRFLOW__CORE__EXECUTOR", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "theirs")
    for service in services(stack):
        assert "theirs" not in service.env.values(), service.name


@pytest.mark.parametrize(
    ("own", "lower", "upper"),
    [
        ({}, "127.0.0.1,localhost", "127.0.0.1,localhost"),
        ({"NO_PROXY": "a.org"}, "a.org,127.0.0.1,localhost", "a.org,127.0.0.1,localhost"),
        ({"no_proxy": "a, localhost", "NO_PROXY": "b.org"}, "a,localhost,127.0.0.1", "b.org,127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*", "*"),
    ],
)
def test_loopback_stays_out_of_a_proxy(stack: Stack, own: dict[str, str], lower: str, upper: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    os.environ.update(own)
    for _ in range(2):  # the second time, nothing is added
        keep_off_proxy(os.environ)
        assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (lower, upper)
    env = airflow_env(stack)
    assert (env["no_proxy"], env["NO_PROXY"]) == (lower, upper)


def test_airflow_finds_sparks_master_by_a_connection(stack: Stack) -> None:
    env = airflow_env(stack)
    assert env["AIRFLOW_CONN_SPARK_DEFAULT"] == '{"conn_type": "spark", "host": "spark://127.0.0.1:7077"}'
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"


def test_maintenance_finds_the_logs_where_airflow_and_spark_write_them(stack: Stack) -> None:
    write_spark_conf(stack)
    env = airflow_env(stack)
    assert env["BOOSTLINE_LOGS"] == env["AIRFLOW__LOGGING__BASE_LOG_FOLDER"]
    events = Path(env["BOOSTLINE_EVENT_LOG"]).as_uri()
    assert f"spark.eventLog.dir {events}\n" in (stack.spark_conf / "spark-defaults.conf").read_text()


def test_sparks_properties_have_the_shared_defaults_and_absolute_paths(stack: Stack) -> None:
    write_spark_conf(stack)
    lines = (stack.spark_conf / "spark-defaults.conf").read_text().splitlines()
    values = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    assert values["spark.sql.session.timeZone"] == "UTC"
    assert values["spark.driver.maxResultSize"] == "0"
    assert "spark.executor.memory" not in values  # the dataset file says it
    assert values["spark.history.fs.cleaner.maxAge"] == "14d"
    assert values["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:8333"
    assert values["spark.driver.extraClassPath"].startswith(f"{stack.jars}/*:")
    assert f"-XX:SharedArchiveFile={stack.cds}/spark.jsa" in values["spark.executor.defaultJavaOptions"]


@pytest.mark.parametrize("name", ["my files", "it's", 'a"b', "a\\b", "a\tb"])
@pytest.mark.parametrize("variable", ["BOOSTLINE_HOME", "BOOSTLINE_SPARK_SCRATCH"])
def test_a_folder_that_javas_flags_cannot_name_is_refused_at_set_up(
    variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, str(tmp_path / name))
    says: list[str] = []
    with pytest.raises(EnvironmentUnfit, match=r"a blank, a quote or a backslash\.\nMove the checkout") as told:
        set_up(lambda step, needed: says.append(step))
    assert repr(str(tmp_path / name))[1:-1] in str(told.value)
    assert not says and not any(tmp_path.iterdir())


def test_a_client_in_another_terminal_finds_the_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in stack.env:
        monkeypatch.delenv(name, raising=False)
    write_stack_env(stack)
    load_stack_env(stack.home)
    settings = Settings()
    assert settings.s3_endpoint == stack.s3_endpoint
    assert settings.airflow_url == stack.airflow_url
    assert settings.home == stack.home
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == read_secrets(stack)["AWS_SECRET_ACCESS_KEY"]


def test_what_a_person_set_wins_and_keys_stay_with_their_endpoint(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*stack.env, *OTHER_KEYS):
        monkeypatch.setenv(name, f"own {name}")
    write_stack_env(stack)
    load_stack_env(stack.home)
    assert os.environ["BOOSTLINE_MLFLOW_URI"] == "own BOOSTLINE_MLFLOW_URI"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "own AWS_ACCESS_KEY_ID"
    assert os.environ["AWS_SESSION_TOKEN"] == "own AWS_SESSION_TOKEN"
    monkeypatch.delenv("BOOSTLINE_S3_ENDPOINT")
    load_stack_env(stack.home)
    assert os.environ["AWS_ACCESS_KEY_ID"] == read_secrets(stack)["AWS_ACCESS_KEY_ID"]
    assert not os.environ.keys() & set(OTHER_KEYS)
    assert boto3.session.Session().get_credentials().token is None


def test_no_stack_leaves_the_environment_alone(tmp_path: Path) -> None:
    before = dict(os.environ)
    load_stack_env(tmp_path)
    assert dict(os.environ) == before
