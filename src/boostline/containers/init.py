"""The stack's one-time work: databases and their users, migrations, people, pools, buckets.

Each start runs it. It is skipped where versions, pools, passwords and the databases' migrations are those of the last time;
Airflow's command line takes seconds for each call.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from boostline.containers.servers import ARTIFACTS, LAKE, LOGS, buckets
from boostline.errors import EnvironmentUnfit
from boostline.local.places import POOLS
from boostline.settings import Settings

DATABASES = {"airflow": "airflow", "mlflow": "mlflow", "mlflow_login": "mlflow"}
"""Database → the user that owns it."""

MLFLOW_USERS = {
    "admin": "MLFLOW_AUTH_ADMIN_PASSWORD",
    "pipeline": "MLFLOW_PIPELINE_SECRET",
    "reader": "MLFLOW_READER_SECRET",
}
"""User → where the password is. Only the admin and who made a thing may change it; the others read."""


def initialise(say: Callable[[str], None]) -> None:
    """Bring everything up to date.

    Raises:
        EnvironmentUnfit: A step failed; names it.
    """
    make_buckets()
    with _superuser() as database:
        if _stored(database) == _stamp(_migrations(database)):
            say("Databases, users and pools are up to date")
            return
        make_databases(database)
    with ThreadPoolExecutor() as pool:
        for step in [pool.submit(migrate_airflow), pool.submit(migrate_mlflow)]:
            step.result()
    with _superuser() as database:
        _store(database, _stamp(_migrations(database)))
    say("Databases, users and pools are made or migrated")


def make_buckets() -> None:
    """Have the buckets, and the folder of Spark's event logs, which Spark does not make.

    Raises:
        EnvironmentUnfit: The S3 server does not answer, or refuses the admin; names the bucket.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    settings, events = Settings(), urlsplit(os.environ["BOOSTLINE_EVENT_LOG"])
    for bucket in buckets(*LAKE, *LOGS, *ARTIFACTS):
        try:
            client = boto3.client(
                "s3",
                endpoint_url=settings.s3_endpoint,
                region_name=settings.s3_region,
                aws_access_key_id=os.environ["S3_ADMIN_KEY"],
                aws_secret_access_key=os.environ["S3_ADMIN_SECRET"],
            )
            _make_bucket(client, bucket, settings.s3_region)
            if bucket == events.netloc:
                client.put_object(Bucket=bucket, Key=f"{events.path.strip('/')}/", Body=b"")
        except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: the endpoint is no address
            raise EnvironmentUnfit(
                f"bucket {bucket} of S3 at {settings.s3_endpoint or 'AWS'}: {error}",
                "Check BOOSTLINE_S3_ENDPOINT and BOOSTLINE_S3_REGION, S3_ADMIN_KEY and S3_ADMIN_SECRET in docker/secrets/secrets.env, "
                "and on AWS that nobody else has a bucket of that name",
            ) from error


def _make_bucket(client: Any, bucket: str, region: str) -> None:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        # AWS wants the region, except for its first one, where it must not be named.
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=bucket, **where)


def make_databases(database: Any) -> None:
    """Have the databases and their users, with the passwords of now."""
    from psycopg2 import sql

    with database.cursor() as cursor:
        for user in sorted(set(DATABASES.values())):
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [user])
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            statement = sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}")
            password = os.environ[f"{user.upper()}_DB_SECRET"]
            cursor.execute(statement.format(sql.Identifier(user), sql.Literal(password)))
            # Who is no superuser, as on a managed server, may give a database only to a role that it is a member of.
            cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(user)))
        for name, owner in DATABASES.items():
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
                )
            cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def migrate_airflow() -> None:
    """Create or upgrade Airflow's tables; have its pools, and the admin with the password of now."""
    _run("airflow", "db", "migrate")
    _run(sys.executable, "-m", "boostline.orchestration.pools", str(POOLS))
    # The prompt's answers come on standard input: a password on a command line is in every list of processes.
    twice = f"{os.environ['AIRFLOW_ADMIN_SECRET']}\n" * 2
    admin = ["--username", "admin"]
    name = ["--firstname", "Boostline", "--lastname", "Admin", "--email", "admin@localhost", "--role", "Admin"]
    if "already exist" in _run("airflow", "users", "create", *admin, *name, answers=twice):
        _run("airflow", "users", "reset-password", *admin, answers=twice)


def migrate_mlflow() -> None:
    """Create or upgrade MLflow's tables; have its users with the passwords of now."""
    from mlflow.db import commands
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    # `mlflow db upgrade`, but in this process: the address holds a password.
    commands.main(["upgrade", os.environ["MLFLOW_BACKEND_STORE_URI"]], standalone_mode=False)
    store = SqlAlchemyStore()
    store.init_db(os.environ["MLFLOW_LOGIN_STORE_URI"])
    for user, variable in MLFLOW_USERS.items():
        put = store.update_user if store.has_user(user) else store.create_user
        put(user, os.environ[variable], is_admin=user == "admin")


def _stamp(migrations: list[str]) -> str:
    """Changes with the versions, the pools and the passwords. A hash, so that the database tells none of them."""
    packages = ("apache-airflow", "apache-airflow-providers-fab", "mlflow")
    names = ("AIRFLOW_DB_SECRET", "MLFLOW_DB_SECRET", "AIRFLOW_ADMIN_SECRET", *MLFLOW_USERS.values())
    parts = [
        *migrations,
        *(version(package) for package in packages),
        POOLS.read_text(),
    ]
    return hashlib.sha256("\n".join([*parts, *(os.environ[name] for name in names)]).encode()).hexdigest()


def _migrations(database: Any) -> list[str]:
    """Where each database's tables stand: a restored backup may be behind the versions that run."""
    from psycopg2 import sql

    found = []
    with database.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s) ORDER BY 1", [list(DATABASES)])
        names = [name for (name,) in cursor.fetchall()]
    for name in names:
        with _superuser(name) as each, each.cursor() as cursor:
            cursor.execute(
                r"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'alembic\_version%' ORDER BY 1"
            )
            for (table,) in cursor.fetchall():
                cursor.execute(sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(table)))
                found += [f"{name} {table} {number}" for (number,) in cursor.fetchall()]
    return found


@contextmanager
def _superuser(name: str = "postgres") -> Iterator[Any]:
    import psycopg2

    address = urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    try:
        database = psycopg2.connect(
            host=address.hostname,
            port=address.port,
            user="postgres",
            password=os.environ["POSTGRES_SECRET"],
            dbname=name,
            connect_timeout=10,
        )
    except psycopg2.OperationalError as error:
        raise EnvironmentUnfit(
            f"PostgreSQL at {address.hostname} refuses its superuser: {str(error).strip()}",
            "Its volume may be older than docker/secrets: see 'Rotation of secrets' in docs/deploy.md",
        ) from error
    database.autocommit = True
    try:
        yield database
    except psycopg2.Error as error:
        # Only the first line: those behind it may quote a statement, and that a password.
        raise EnvironmentUnfit(
            f"PostgreSQL at {address.hostname}, database {name}: {str(error).partition(chr(10))[0]}",
            "Its user postgres has to be a superuser, or to have CREATEDB and CREATEROLE and own the database postgres",
        ) from error
    finally:
        database.close()


def _stored(database: Any) -> str | None:
    with database.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS boostline_init (stamp text)")
        cursor.execute("SELECT stamp FROM boostline_init")
        found = cursor.fetchone()
        return str(found[0]) if found else None


def _store(database: Any, stamp: str) -> None:
    with database.cursor() as cursor:
        cursor.execute("DELETE FROM boostline_init")
        cursor.execute("INSERT INTO boostline_init VALUES (%s)", [stamp])


def _run(*command: str, answers: str = "") -> str:
    done = subprocess.run(command, input=answers, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise EnvironmentUnfit(f"`{' '.join(command[:3])}` ended {done.returncode}: {' | '.join(lines[-5:])}")
    return done.stdout + done.stderr
