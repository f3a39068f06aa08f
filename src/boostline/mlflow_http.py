"""One connection to an MLflow server: every request ends in bounded time, and each failure says what to do."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from boostline.errors import EnvironmentUnfit, FailError, ServiceUnavailable
from boostline.settings import Settings

if TYPE_CHECKING:
    import ssl

    import httpx

CONNECT_SECONDS, ANSWER_SECONDS = 5, 30


class Missing(Exception):
    """MLflow has no experiment, model, version or alias of that name."""


class Exists(Exception):
    """MLflow has one of that name already."""


class Connection:
    """Requests to one MLflow server, see `connect`."""

    def __init__(self, address: str, client: httpx.Client) -> None:
        self.address, self._client = address, client
        self.answered = datetime.fromtimestamp(0, UTC)
        """By MLflow's clock, when it answered last."""

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Read; the path is below `/api/2.0/mlflow/`."""
        return self._object(self.request("GET", f"/api/2.0/mlflow/{path}", params=query))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Search or change something; the path is below `/api/2.0/mlflow/`."""
        return self._object(self.request("POST", f"/api/2.0/mlflow/{path}", json=body))

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        found = _json_object(answer)
        if found is None:
            raise EnvironmentUnfit(
                f"MLflow at {self.address} answers without JSON, as a login page does: {answer.text[:100]!r}",
                "Set BOOSTLINE_MLFLOW_URI to MLflow's own address, and the user or token that it asks for",
            )
        return found

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Any other request, by its whole path.

        Raises:
            Missing: What was asked for is not there.
            Exists: What was to be made is there.
            EnvironmentUnfit: The server refuses the user, or is no MLflow.
            ServiceUnavailable: It does not answer, or failed.
            FailError: It refuses the request.
        """
        import httpx

        try:
            answer = self._client.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"MLflow at {self.address} does not answer: {error}", "Start it, or set BOOSTLINE_MLFLOW_URI"
            ) from error
        if "date" in answer.headers:
            self.answered = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
        if answer.is_success:
            return answer
        self._refuse(answer)

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        """Raise what a failed answer means."""
        data = _json_object(answer) or {}
        code, text = str(data.get("error_code", "")), str(data.get("message", answer.text))[:500]
        if code == "RESOURCE_ALREADY_EXISTS":
            raise Exists(text)
        # An alias that is not set is INVALID_PARAMETER_VALUE in MLflow 3.
        missing = code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in text.lower())
        if missing and answer.request.method == "GET":
            raise Missing(text)
        if answer.status_code in (401, 403):
            raise EnvironmentUnfit(
                f"MLflow at {self.address} refuses this user ({answer.status_code})",
                "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise ServiceUnavailable(f"MLflow at {self.address} failed: {text}", "Try again when it is well")
        # Whoever changes something has seen it before: it was deleted meanwhile.
        remedy = "Clear the train task, so that it registers" if missing else "Read MLflow's log"
        raise FailError(f"MLflow at {self.address} refuses {answer.request.url.path}: {text}", remedy)


@contextmanager
def connect(settings: Settings) -> Iterator[Connection]:
    """A connection to the MLflow server that the settings name.

    User and password, or a token, come from `MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD` and
    `MLFLOW_TRACKING_TOKEN` in the environment, as MLflow's own client reads them. So do `HTTP_PROXY`, `HTTPS_PROXY` and
    `NO_PROXY`.

    Raises:
        EnvironmentUnfit: The address is not one of a server, or the proxy's is none.
    """
    import httpx

    if not _is_address(settings.mlflow_uri):
        # Whatever stands before an @ may hold a password.
        raise EnvironmentUnfit(
            f"BOOSTLINE_MLFLOW_URI is {settings.mlflow_uri.rpartition('@')[2]!r}, which is no server's address",
            "Start one with `mlflow server` and give its address, as in http://127.0.0.1:5000",
        )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request would bury the task's own
    user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
    try:
        client = httpx.Client(
            base_url=settings.mlflow_uri,
            auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
            headers={"Authorization": f"Bearer {token}"} if token and not user else None,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            verify=_verify(settings.mlflow_uri),
            mounts={"all://127.0.0.1": None, "all://localhost": None},  # no proxy stands before this machine
        )
    except (httpx.InvalidURL, ImportError):  # the latter of a SOCKS proxy; the text may hold a password
        raise EnvironmentUnfit(
            "the environment names a proxy that is no http:// address",
            "Set HTTP_PROXY, HTTPS_PROXY and ALL_PROXY to one, or NO_PROXY=*",
        ) from None
    with client:
        yield Connection(settings.mlflow_address, client)


@lru_cache
def _verify(address: str) -> ssl.SSLContext | bool:
    """What checks the server's certificate; reading the system's takes 35 ms, so not where http shows none, and once."""
    import httpx

    return httpx.create_ssl_context() if address.startswith("https:") else False


def _is_address(text: str) -> bool:
    import httpx

    try:
        return httpx.URL(text).scheme in ("http", "https")
    except httpx.InvalidURL:
        return False


def _json_object(answer: httpx.Response) -> dict[str, Any] | None:
    """What an answer says; none where it is no JSON object."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
