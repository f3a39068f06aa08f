"""Who may ask: bearer tokens from a file that only the service's user can read."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

from boostline.errors import BoostlineError, EnvironmentUnfit
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings

log = logging.getLogger("boostline.serving")

SHORTEST_TOKEN = 16
_REMEDY = "Write lines of `NAME TOKEN` into it, a token of at least 16 characters, and make it mode 0600"


def check_exposure(settings: ServeSettings) -> None:
    """Refuse to be open to others without a login.

    Raises:
        EnvironmentUnfit: There is no tokens file, and the address is not this machine's alone.
    """
    if settings.tokens_file is None and not _is_loopback(settings.host):
        raise EnvironmentUnfit(
            f"the service would listen at {settings.host} for anybody: no tokens file is set",
            "Set BOOSTLINE_SERVE_TOKENS_FILE, or listen at 127.0.0.1",
        )


def token_check(path: Path) -> Callable[[str | None], str]:
    """What tells the caller's name from an Authorization header.

    The file is read again when it changes, so tokens are rotated by replacing it: add the new one in a line of its own
    with the same name, give it out, remove the old one. A changed file that cannot be used leaves the tokens as they
    were, and says so in the log.

    Args:
        path: Lines of `NAME TOKEN`; empty ones and those with # do not count.

    Returns:
        A function of the header's value. It returns the name, and raises `Refused` 401 where no token fits.

    Raises:
        EnvironmentUnfit: The file is missing, empty, broken or readable by others.
    """
    state = _state(path)
    tokens = read_tokens(path)

    def check(header: str | None) -> str:
        nonlocal state, tokens
        if (now := _state(path)) != state:
            state = now
            try:
                tokens = read_tokens(path)
                log.info("read %d tokens from %s", len(tokens), path)
            except BoostlineError as error:
                log.error("the tokens stay as they were: %s", error.message)
        scheme, _, sent = (header or "").partition(" ")
        # All of them are compared, each in constant time: how long it takes tells nothing.
        found = [name for name, token in tokens if hmac.compare_digest(token, sent.strip().encode())]
        if scheme.lower() == "bearer" and found:
            return found[0]
        message = "the token is not valid" if sent else "there is no token"
        raise Refused(401, message, "Send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    return check


def read_tokens(path: Path) -> list[tuple[str, bytes]]:
    """Names and tokens; a name may have several, as while its token is rotated.

    Raises:
        EnvironmentUnfit: The file is missing, empty, broken or readable by others.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentUnfit(f"the tokens file {path} cannot be read: {error}", _REMEDY) from error
    if mode & 0o077:
        raise EnvironmentUnfit(f"the tokens file {path} has mode {mode:04o}: others may read it", f"chmod 600 {path}")
    tokens: list[tuple[str, bytes]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, token = line.strip().partition(" ")
        token = token.strip()
        if not name.isprintable() or len(token) < SHORTEST_TOKEN or " " in token:
            raise EnvironmentUnfit(f"line {number} of the tokens file {path} is not a name and a token", _REMEDY)
        tokens.append((name, token.encode()))
    if not tokens:
        raise EnvironmentUnfit(f"the tokens file {path} holds no token", _REMEDY)
    return tokens


def _state(path: Path) -> tuple[int, int, int, int] | None:
    """What changes when the file does, its mode included."""
    try:
        found = os.stat(path)  # noqa: PTH116 (once per request: three times as fast as Path.stat)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
