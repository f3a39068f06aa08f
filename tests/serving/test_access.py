"""Who may ask, and how often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from boostline.errors import EnvironmentUnfit
from boostline.serving.auth import read_tokens, token_check
from boostline.serving.refusal import Refused
from tests.serving.conftest import raw_rows, serving, wait_for

ANN, BOB, EVE = "a" * 32, "b" * 32, "e" * 32


def write(path, text, mode=0o600):
    path.touch(mode)
    path.chmod(mode)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tokens") / "tokens", f"# who may ask\nann {ANN}\nbob {BOB}\n")


@pytest.fixture(scope="module")
def server(world, tokens, tmp_path_factory):
    options = {"SERVE_TOKENS_FILE": str(tokens), "SERVE_REQUESTS_PER_SECOND": "20"}
    with serving(world, tmp_path_factory.mktemp("serve"), datasets=("binary",), **options) as running:
        yield running


def ask(server, token=None, path="/v1/models"):
    headers = {"Authorization": token if " " in token else f"Bearer {token}"} if token else {}
    return server.client.get(path, headers=headers)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/binary", "/openapi.json", "/nothing"])
def test_without_a_valid_token_nothing_is_told(server, path):
    for token, text in ((None, "no token"), (EVE, "not valid"), (f"Basic {ANN}", "not valid"), (ANN[:-1], "not valid")):
        answer = ask(server, token, path)
        assert answer.status_code == 401 and text in answer.json()["error"]
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_valid_token_may_ask_and_its_name_is_logged(server):
    answer = server.predict(
        "binary", raw_rows("binary", 1), headers={"Authorization": f"Bearer {BOB}", "X-Request-ID": "bobs"}
    )
    assert answer.status_code == 200
    assert server.line("bobs")["caller"] == "bob"
    assert BOB not in server.log.read_text() and EVE not in server.log.read_text()


def test_health_and_metrics_need_no_token(server):
    assert ask(server, path="/health/live").status_code == ask(server, path="/health/ready").status_code == 200
    assert "boostline_requests_total" in ask(server, path="/metrics").text


def test_too_many_requests_of_one_token_are_told_when_to_go_on(server):
    wait_for("ann's turn", lambda: ask(server, ANN).status_code == 200, 5)
    answers = [ask(server, ANN) for _ in range(60)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert "more than 20 requests in a second" in refused[0].json()["error"]
    assert ask(server, BOB).status_code == 200, "another's limit is his own"


def test_wrong_tokens_are_limited_too(server):
    answers = [ask(server, EVE) for _ in range(60)]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert ask(server, BOB).status_code == 200, "the address is limited, not who has a token"
    wait_for("her turn", lambda: ask(server, EVE).status_code == 401, 5)


def test_tokens_are_rotated_without_a_restart(server, tokens):
    new = "n" * 32
    text = tokens.read_text()
    write(tokens, text.replace(ANN, new))
    wait_for("ann's new token", lambda: ask(server, new).status_code == 200, 5)
    wait_for("the end of the old one", lambda: ask(server, ANN).status_code == 401, 5)
    write(tokens, "broken")
    assert ask(server, BOB).status_code == 200, "a broken file changes nothing"
    assert "is not a name and a token" in server.log.read_text()
    write(tokens, text)
    wait_for("ann's old token", lambda: ask(server, ANN).status_code == 200, 5)


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (f"ann {ANN}\n", 0o640, "has mode 0640: others may read it"),
        ("", 0o600, "holds no token"),
        ("ann short\n", 0o600, "line 1"),
        (f"# x\n\n{ANN}\n", 0o600, "line 3"),
        (f"ann {ANN} {BOB}\n", 0o600, "line 1"),
    ],
)
def test_a_tokens_file_that_is_not_fit_is_refused(tmp_path, text, mode, message):
    with pytest.raises(EnvironmentUnfit, match=message) as caught:
        read_tokens(write(tmp_path / "tokens", text, mode))
    assert ANN not in str(caught.value)


def test_a_name_may_have_two_tokens_while_it_changes_them(tmp_path):
    check = token_check(write(tmp_path / "tokens", f"ann {ANN}\nann {EVE}\nbob {BOB}\n"))
    assert [check(f"Bearer {token}") for token in (ANN, EVE, BOB)] == ["ann", "ann", "bob"]


def test_a_file_that_others_could_read_counts_once_its_mode_is_right(tmp_path):
    path = write(tmp_path / "tokens", f"ann {ANN}\n")
    check = token_check(path)
    write(path, f"ann {EVE}\n", 0o644)
    assert check(f"Bearer {ANN}") == "ann"
    path.chmod(0o600)
    assert check(f"Bearer {EVE}") == "ann"


def test_a_token_beyond_ascii_is_just_not_valid(tokens):
    check = token_check(tokens)
    for header in ("Bearer \xe4\xf6", "Bearer", "", None, "Bearer  ", "bearer\t" + ANN):
        with pytest.raises(Refused):
            check(header)
    assert check(f"bearer {ANN}") == "ann"


def test_without_tokens_it_listens_to_this_machine_only(tmp_path):
    for arguments, text in (
        (["--host", "0.0.0.0"], "no tokens file is set"),
        (["--port", "99999"], "BOOSTLINE_SERVE_PORT"),
    ):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "boostline"), "serve", *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(server, world, tmp_path):
    port = server.url.rpartition(":")[2]
    with pytest.raises(AssertionError, match=f"cannot listen at 127.0.0.1:{port}"), \
         serving(world, tmp_path, datasets=("binary",), port=port):  # fmt: skip
        pass


def test_the_application_is_light_to_import():
    program = "import sys, boostline.serving.server; print([m for m in ('mlflow', 'pandas', 'sklearn', 'pyspark', 'airflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
