"""MLflow's address, and answers that are not MLflow's: what a person is told, and what they are not shown."""

from __future__ import annotations

import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from boostline.errors import EnvironmentUnfit, FailError, ServiceUnavailable
from boostline.settings import Settings
from boostline.tracking import tracking


@pytest.fixture
def answering():
    """`answering(status, body, certificate)`: a server that gives every request this answer; its port, what it was asked."""
    servers = []

    def start(status, body, certificate=None):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port, asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def certificate(tmp_path):
    """A file with a key, and the certificate for 127.0.0.1 that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlflow")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "mlflow.pem"
    path.write_bytes(private + signed.public_bytes(pem))
    return path


def test_a_servers_certificate_is_checked(answering, certificate, monkeypatch):
    answer = b'{"model_version": {"name": "toys", "version": "1"}}'
    port, asked = answering(200, answer, certificate)
    with (
        pytest.raises(ServiceUnavailable, match="certificate verify failed"),
        tracking(Settings(mlflow_uri=f"https://127.0.0.1:{port}")) as mlflow,
    ):
        mlflow.version("toys", "1")
    assert not asked
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    port, asked = answering(200, answer, certificate)
    with tracking(Settings(mlflow_uri=f"https://127.0.0.1:{port}")) as mlflow:
        assert mlflow.version("toys", "1").version == "1"
    assert asked


def test_mlflow_is_reached_by_the_proxy_that_the_environment_names_but_for_this_machine(answering, monkeypatch):
    answer = b'{"model_version": {"name": "toys", "version": "1"}}'
    (proxy, by_proxy), (port, direct) = answering(200, answer), answering(200, answer)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
    monkeypatch.setenv("no_proxy", "mlflow.near.invalid")
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "mlflow.far.invalid:5000"):
        with tracking(Settings(mlflow_uri=f"http://{host}")) as mlflow:
            assert mlflow.version("toys", "1").version == "1"
    assert [headers["Host"] for headers in by_proxy] == ["mlflow.far.invalid:5000"]
    assert len(direct) == 2
    with (
        pytest.raises(ServiceUnavailable, match="does not answer"),
        tracking(Settings(mlflow_uri="http://mlflow.near.invalid:5000")) as mlflow,
    ):
        mlflow.version("toys", "1")
    assert len(by_proxy) == 1


@pytest.mark.parametrize("proxy", ["socks5://ann:s3cret@127.0.0.1:9", "http://ann:s3/cret@127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(monkeypatch, proxy):
    monkeypatch.setenv("all_proxy", proxy)
    remedy = (
        r"a proxy that is no http:// address\.\nSet HTTP_PROXY, HTTPS_PROXY and ALL_PROXY to one, or NO_PROXY=\*\.$"
    )
    with pytest.raises(EnvironmentUnfit, match=remedy), tracking(Settings()):
        pass
    monkeypatch.setenv("no_proxy", "*")
    with tracking(Settings()):
        pass


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>Please sign in</html>", EnvironmentUnfit),
        (200, b"", EnvironmentUnfit),
        (200, b"[]", EnvironmentUnfit),
        (400, b'["wrong"]', FailError),
        (502, b'"bad gateway"', ServiceUnavailable),
    ],
)
def test_an_answer_that_is_not_mlflows_names_the_address_and_no_password(answering, status, body, error):
    port, asked = answering(status, body)
    settings = Settings(mlflow_uri=f"http://ann:s3cret@127.0.0.1:{port}")
    with pytest.raises(error, match=f"MLflow at http://127.0.0.1:{port} ") as caught, tracking(settings) as mlflow:
        mlflow.version("toys", "1")
    assert "s3cret" not in str(caught.value)
    assert asked[0]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://mlflow:5000:5000", "'http://mlflow:5000:5000'"),
        ("sqlite:///mlflow.db", "'sqlite:///mlflow.db'"),
        ("http://ann:s3c/ret@mlflow:5000", "'mlflow:5000'"),
        ("ann:s3cret@mlflow:5000", "'mlflow:5000'"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(address, shown):
    with (
        pytest.raises(EnvironmentUnfit, match=rf"BOOSTLINE_MLFLOW_URI is {shown}.*\n.*http://127.0.0.1:5000"),
        tracking(Settings(mlflow_uri=address)),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("https://ann:s3@cret@mlflow/ui/", "https://mlflow/ui"),
        ("http://hub/user/ann@example.org/mlflow", "http://hub/user/ann@example.org/mlflow"),
    ],
)
def test_links_hold_no_password(address, page):
    assert Settings(mlflow_uri=address).mlflow_page == page
    assert Settings(mlflow_link=address).mlflow_page == page


def test_a_run_that_was_deleted_meanwhile_is_no_traceback(settings):
    with (
        pytest.raises(FailError, match=r"runs/set-tag: .*not found(?s:.*)Clear the train task"),
        tracking(settings) as api,
    ):
        api.tag_run("0" * 32, "key", "value")


def test_parameters_that_mlflow_does_not_take_are_no_silent_loss(settings):
    with tracking(settings) as api:
        run = api.start_run("toys", "many", {})
        api.log(run, [], params={f"p{number}": "1" for number in range(100)})
        with pytest.raises(FailError, match="at most 100 params"):
            api.log(run, [], params={f"q{number}": "1" for number in range(101)})


def test_many_metrics_fit_beside_as_many_parameters_and_tags_as_mlflow_takes(settings):
    metrics = [(f"recall/class {number}", 1.0, 0) for number in range(1000)]
    few = {f"k{number}": "1" for number in range(100)}
    with tracking(settings) as api:
        run = api.start_run("toys", "many", {})
        api.log(run, metrics, params=few, tags=few)
    found = httpx.get(f"{settings.mlflow_uri}/api/2.0/mlflow/runs/get", params={"run_id": run.run_id}).json()
    data = found["run"]["data"]
    assert len(data["metrics"]) == 1000
    assert len(data["params"]) == 100
    assert few.keys() <= {tag["key"] for tag in data["tags"]}
