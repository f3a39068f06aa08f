"""Every port that the embedded stack listens on, in one place."""

from __future__ import annotations

import os
import socket
from itertools import islice
from random import SystemRandom
from typing import NamedTuple

from boostline.errors import EnvironmentUnfit

HOST = "127.0.0.1"
PREFIX = "BOOSTLINE_PORT_"


class Ports(NamedTuple):
    """TCP ports on 127.0.0.1; `BOOSTLINE_PORT_S3` and so on change them."""

    s3: int = 8333
    s3_grpc: int = 18333
    s3_master: int = 9333
    s3_master_grpc: int = 19333
    s3_volume: int = 9340
    s3_volume_grpc: int = 19340
    s3_filer: int = 8888
    s3_filer_grpc: int = 18888
    s3_admin: int = 23646
    s3_admin_grpc: int = 33646
    spark_master: int = 7077
    spark_master_ui: int = 8980
    spark_worker: int = 7078
    spark_worker_ui: int = 8981
    spark_history: int = 18080
    mlflow: int = 5000
    airflow: int = 8080

    def to_env(self) -> dict[str, str]:
        """The variables that give another process the same ports."""
        return {variable(name): str(port) for name, port in self._asdict().items()}


def variable(name: str) -> str:
    """The environment variable that sets the port of this name."""
    return PREFIX + name.upper()


def ports_from_env() -> Ports:
    """The default ports with `BOOSTLINE_PORT_*` applied.

    Raises:
        EnvironmentUnfit: A variable holds no port number, or names no port of the stack.
    """
    chosen: dict[str, int] = {}
    for key in (key for key in os.environ if key.startswith(PREFIX)):
        name, value = key.removeprefix(PREFIX).lower(), os.environ[key]
        if name not in Ports._fields:
            known = ", ".join(variable(field) for field in Ports._fields)
            raise EnvironmentUnfit(f"{key} names no port of the stack", f"The variables are {known}")
        if not value.isdecimal() or not 1 <= int(value) <= 65535:
            raise EnvironmentUnfit(f"{key} is {value!r}, not a port", "Give a number from 1 to 65535")
        chosen[name] = int(value)
    return Ports(**chosen)


def check_free(ports: Ports) -> None:
    """Refuse to start where a port is taken or given twice.

    Raises:
        EnvironmentUnfit: Names each such port with its service and the variable that changes it.
    """
    bad: list[str] = []
    owners: dict[int, str] = {}
    for name, port in ports._asdict().items():
        if port in owners:
            bad.append(f"port {port} is given to both {owners[port]} and {name} ({variable(name)})")
        elif not is_free(port):
            bad.append(f"port {port} for {name} is in use ({variable(name)})")
        owners.setdefault(port, name)
    if bad:
        raise EnvironmentUnfit("; ".join(bad), "End the program that uses it, or set the variable to a free port")


def free_ports() -> Ports:
    """Ports that are free right now, for a stack beside another one.

    They lie below those that systems give to outgoing connections, one of which could take a port before its server does.
    """
    candidates = filter(is_free, SystemRandom().sample(range(20_000, 32_768), 1_000))
    return Ports(*islice(candidates, len(Ports._fields)))


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a socket in TIME_WAIT is no obstacle
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True
