"""One embedded stack: its folders, addresses and the environment of its processes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from boostline.local.places import AIRFLOW_ENV, ROOT, write_private
from boostline.local.ports import HOST, Ports

BUCKET = "lake"
USER = "admin"
HISTORY_SERVER = "org.apache.spark.deploy.history.HistoryServer"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# What boto3, PyArrow or S3A would take beside those keys, and then sign by another account's token or miss its profile.
OTHER_KEYS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE")
# What a person's shell may carry for other installations, and must not reach these processes.
FOREIGN = ("AIRFLOW", "AWS_", "JAVA_TOOL_OPTIONS", "MLFLOW_", "PYSPARK_", "PYTHONDONTWRITEBYTECODE", "SPARK_")


@dataclass(frozen=True)
class Stack:
    """Where one stack lies and listens. All paths are absolute.

    Attributes:
        home: Data, databases, logs and secrets of this stack.
        jars: Folder of the S3A jars; shared by all stacks of a checkout.
        cds: Folder of the class-data archives; shared likewise.
    """

    home: Path
    ports: Ports
    java_home: Path
    jars: Path
    cds: Path
    scratch: Path
    datasets: Path

    @property
    def s3_endpoint(self) -> str:
        """The S3 server's address."""
        return f"http://{HOST}:{self.ports.s3}"

    @property
    def spark_master(self) -> str:
        """The Spark master's address."""
        return f"spark://{HOST}:{self.ports.spark_master}"

    @property
    def mlflow_uri(self) -> str:
        """The MLflow server's address."""
        return f"http://{HOST}:{self.ports.mlflow}"

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's UI and API."""
        return f"http://{HOST}:{self.ports.airflow}"

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME."""
        return self.home / "airflow"

    @property
    def passwords(self) -> Path:
        """The file (mode 0600) with the UI's password, in the format of Airflow's simple auth manager."""
        return self.airflow_home / "passwords.json"

    @property
    def spark_conf(self) -> Path:
        """SPARK_CONF_DIR of the applications."""
        return self.home / "spark-conf"

    @property
    def spark_events(self) -> Path:
        """Where Spark writes what the History Server shows."""
        return self.home / "spark-events"

    @property
    def env(self) -> dict[str, str]:
        """What a client of the stack needs in its environment; holds the S3 keys."""
        keys = read_secrets(self)
        return {
            "BOOSTLINE_HOME": str(self.home),
            "BOOSTLINE_LAKE": f"s3://{BUCKET}/boostline",
            "BOOSTLINE_S3_ENDPOINT": self.s3_endpoint,
            "BOOSTLINE_DATASETS": str(self.datasets),
            "BOOSTLINE_JOBS": str(ROOT / "jobs"),
            "BOOSTLINE_SPARK_JARS": str(self.jars),
            "BOOSTLINE_SPARK_CDS": str(self.cds),
            "BOOSTLINE_SPARK_SCRATCH": str(self.scratch),
            "BOOSTLINE_MLFLOW_URI": self.mlflow_uri,
            "BOOSTLINE_AIRFLOW_URL": self.airflow_url,
            "BOOSTLINE_AIRFLOW_USER": USER,
            "BOOSTLINE_AIRFLOW_PASSWORD_FILE": str(self.passwords),
            "AWS_DEFAULT_REGION": "us-east-1",
            **{name: keys[name] for name in S3_KEYS},
        }


def read_secrets(stack: Stack) -> dict[str, str]:
    """The generated secrets of this stack by the names of their environment variables; made at the first call."""
    path = stack.home / "secrets.env"
    if not path.exists():
        made = {
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10).upper(),
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        }
        write_private(path, _env_text(made))
    return _read_env(path)


def read_password(stack: Stack) -> str:
    """The UI's password; made at the first call."""
    if not stack.passwords.exists():
        write_private(stack.passwords, json.dumps({USER: secrets.token_urlsafe(12)}))
    return str(json.loads(stack.passwords.read_text())[USER])


def keep_off_proxy(env: MutableMapping[str, str]) -> None:
    """Let no request to loopback go through a proxy that this environment names; its own exceptions stay."""
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        hosts = [host.strip() for host in (env.get(name) or env.get(other) or "").split(",") if host.strip()]
        if hosts != ["*"]:  # which means all hosts only where it stands alone
            hosts += [host for host in (HOST, "localhost") if host not in hosts]
        env[name] = ",".join(hosts)


def base_env() -> dict[str, str]:
    """This process's environment without what belongs to other installations, and with this one's programs first."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    keep_off_proxy(env)
    programs = str(Path(sys.executable).parent)
    return {**env, "PATH": f"{programs}{os.pathsep}{env.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}


def spark_env(stack: Stack) -> dict[str, str]:
    """The environment in which spark-submit, the master and the worker run."""
    import pyspark

    return {
        **base_env(),
        **stack.env,
        "JAVA_HOME": str(stack.java_home),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_CONF_DIR": str(stack.spark_conf),
        "SPARK_LOCAL_IP": HOST,
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def airflow_env(stack: Stack) -> dict[str, str]:
    """The environment of Airflow's processes, and so of every task; secrets are inherited, never rendered."""
    spark, database = spark_env(stack), f"sqlite:///{stack.airflow_home / 'airflow.db'}?timeout=30"
    return {
        **spark,
        **_read_env(AIRFLOW_ENV),
        **read_secrets(stack),
        "AIRFLOW_HOME": str(stack.airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(stack.passwords),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{stack.airflow_url}/execution/",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(stack.ports.airflow),
        "AIRFLOW__API__BASE_URL": stack.airflow_url,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(stack.home / "logs/tasks"),
        "BOOSTLINE_LOGS": str(stack.home / "logs/tasks"),
        "BOOSTLINE_EVENT_LOG": str(stack.spark_events),
        "BOOSTLINE_SPARK_HISTORY": f"http://{HOST}:{stack.ports.spark_history}",
        "BOOSTLINE_SPARK_HISTORY_COMMAND": shlex.join([f"{spark['SPARK_HOME']}/bin/spark-class", HISTORY_SERVER]),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": stack.spark_master}),
    }


def write_stack_env(stack: Stack) -> None:
    """Leave `stack.env` for clients in other terminals."""
    write_private(stack.home / "stack.env", _env_text(stack.env))


def load_stack_env(home: Path) -> None:
    """Put the environment of the stack of this HOME into `os.environ`, where not set already.

    S3 keys belong to their endpoint: the stack's replace the person's own, a token and a profile among them, unless the
    person also set the endpoint.
    """
    path = home / "stack.env"
    if not path.exists():
        return
    own_endpoint = "BOOSTLINE_S3_ENDPOINT" in os.environ
    for key, value in _read_env(path).items():
        if key in S3_KEYS and not own_endpoint:
            os.environ[key] = value
        elif key not in S3_KEYS:
            os.environ.setdefault(key, value)
    if not own_endpoint:
        forget_other_keys()


def forget_other_keys() -> None:
    """Leave none of `OTHER_KEYS` in this process's environment, where the stack's own S3 is used."""
    for name in OTHER_KEYS:
        os.environ.pop(name, None)


def _env_text(values: dict[str, str]) -> str:
    return "".join(f"{key}='{value}'\n" for key, value in values.items())


def _read_env(path: Path) -> dict[str, str]:
    return {key: value or "" for key, value in dotenv_values(path, interpolate=False).items()}
