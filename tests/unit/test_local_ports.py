"""Ports come from one place, and a taken one is named."""

from __future__ import annotations

import socket

import pytest

from boostline.errors import EnvironmentUnfit
from boostline.local.ports import HOST, Ports, check_free, free_ports, ports_from_env


def test_default_ports_are_all_different() -> None:
    assert len(set(Ports())) == len(Ports())


def test_a_variable_moves_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOSTLINE_PORT_SPARK_MASTER_UI", "12345")
    assert ports_from_env() == Ports(spark_master_ui=12345)


@pytest.mark.parametrize("value", ["", "http", "0", "65536", "-1", "80.5"])
def test_a_variable_that_is_no_port_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BOOSTLINE_PORT_S3", value)
    with pytest.raises(EnvironmentUnfit, match="BOOSTLINE_PORT_S3 is"):
        ports_from_env()


def test_a_variable_for_an_unknown_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOSTLINE_PORT_SPARK", "7077")
    with pytest.raises(EnvironmentUnfit, match="(?s)BOOSTLINE_PORT_SPARK names no port.*BOOSTLINE_PORT_SPARK_MASTER"):
        ports_from_env()


def test_a_taken_port_is_named_with_its_service_and_variable() -> None:
    ports = free_ports()
    check_free(ports)
    with socket.socket() as sock:
        sock.bind((HOST, ports.mlflow))
        sock.listen()
        with pytest.raises(EnvironmentUnfit) as caught:
            check_free(ports)
    assert str(caught.value).startswith(f"port {ports.mlflow} for mlflow is in use (BOOSTLINE_PORT_MLFLOW).")


def test_one_port_for_two_services_is_refused() -> None:
    ports = free_ports()
    with pytest.raises(EnvironmentUnfit, match="given to both mlflow and airflow"):
        check_free(ports._replace(airflow=ports.mlflow))
