"""`python -m boostline.containers …`: called by the compose file and the image's entrypoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from boostline.containers import preflight as checks
from boostline.containers import servers
from boostline.errors import BoostlineError
from boostline.local.places import ROOT

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Target = Annotated[Path, typer.Argument(help="File to write, mode 0600")]


@app.command(epilog="Example: python -m boostline.containers code-hash")
def code_hash() -> None:
    """Print the SHA-256 of the project's code."""
    typer.echo(checks.code_hash(ROOT))


@app.command(epilog="Example: python -m boostline.containers preflight")
def preflight() -> None:
    """Check secrets, memory, and that the image was built from the code of the checkout."""
    checks.preflight()
    typer.echo("All secrets are there, the image holds this checkout's code, and the memory suffices")


@app.command(epilog="Example: python -m boostline.containers s3-identities s3.json")
def s3_identities(target: Target) -> None:
    """Write who may do what on the S3 server, from the keys in the environment."""
    servers.write_s3_identities(target)


@app.command(epilog="Example: python -m boostline.containers mlflow-login login.ini")
def mlflow_login(target: Target) -> None:
    """Write the settings of MLflow's login."""
    servers.write_mlflow_login(target)


@app.command(epilog="Example: python -m boostline.containers minio-users")
def minio_users() -> None:
    """Have MinIO's users, where it is the S3 server."""
    from boostline.containers.minio import make_users

    make_users()


@app.command(epilog="Example: python -m boostline.containers init")
def init() -> None:
    """Bring databases, users, buckets and pools up to date; nothing to do is done in a second."""
    from boostline.containers.init import initialise

    initialise(typer.echo)


if __name__ == "__main__":
    try:
        app()
    except BoostlineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
