"""`boostline check` and MLflow, against a real MLflow server that asks for a login."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers import mlflow_server

from boostline.containers.servers import write_mlflow_login
from boostline.errors import EnvironmentUnfit, ServiceUnavailable
from boostline.local.ports import free_ports
from boostline.orchestration.check import connection_checks
from boostline.settings import Settings

PASSWORD = "a password of its own"


@pytest.fixture(scope="module")
def mlflow_with_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server as the compose stack starts it, with the user admin."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_ports().mlflow
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_LOGIN_STORE_URI", f"sqlite:///{folder}/login.db")
        write_mlflow_login(folder / "login.ini")
    environ = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "login.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key",
    }
    with mlflow_server(folder, port, "--app-name", "basic-auth", **environ) as uri:
        yield uri


def mlflow_check(uri: str) -> Any:
    """What `boostline check` does about MLflow."""
    settings = Settings(mlflow_uri=uri)
    return dict(connection_checks(settings))[f"MLflow at {settings.mlflow_address}"]


@pytest.mark.parametrize("login", [{}, {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "s3cret"}])
def test_a_login_that_is_missing_or_wrong_is_told(
    mlflow_with_login: str, login: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentUnfit, match=r"refuses this user \(401\)(?s:.*)MLFLOW_TRACKING_PASSWORD") as told:
        mlflow_check(mlflow_with_login)()
    assert "s3cret" not in str(told.value)


def test_the_right_login_is_well(mlflow_with_login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    mlflow_check(mlflow_with_login)()


@pytest.mark.parametrize(
    ("uri", "kind", "says"),
    [
        ("http://ann:s3cret@127.0.0.1:9", ServiceUnavailable, "MLflow at http://127.0.0.1:9 does not answer"),
        ("ann:s3cret@mlflow:5000", EnvironmentUnfit, "BOOSTLINE_MLFLOW_URI is 'mlflow:5000'"),
    ],
)
def test_a_server_that_is_not_there_is_told_without_its_password(uri: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as told:
        mlflow_check(uri)()
    assert "s3cret" not in str(told.value)
