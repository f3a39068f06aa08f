"""Reading Parquet from S3 when S3 or the file is not as it should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.model_lab import parquet

from boostline.errors import StoreUnavailable, StoreUnsuitable, Superseded
from boostline.lake.arrow import ParquetDataset, read_parquet
from boostline.lake.store import Store

ROWS = parquet(pa.table({"id": np.random.default_rng(0).integers(0, 1000, 200_000)}))
READS: dict[str, Callable[[ParquetDataset], Any]] = {
    "table": lambda rows: rows.to_table(),
    "batches": lambda rows: list(rows.to_batches(columns=["id"])),
    "take": lambda rows: rows.take([0, 399_999]),
    "head": lambda rows: rows.head(400_000),
}


@pytest.fixture
def keys(store: Store) -> list[str]:
    """Two files of one attempt."""
    found = [f"a1/part-{number}.parquet" for number in range(2)]
    for key in found:
        store.put(key, ROWS)
    return found


class Relay:
    """A way to the server that can be cut."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._to, self._open = (host, int(port)), [socket.create_server(("127.0.0.1", 0))]
        self.endpoint = f"http://127.0.0.1:{self._open[0].getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        try:
            while True:
                ends = self._open[0].accept()[0], socket.create_connection(self._to)
                self._open += ends
                for pair in (ends, ends[::-1]):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()
        except OSError:
            return

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


@pytest.fixture
def relay(store: Store) -> Iterator[Relay]:
    found = Relay(str(store.settings.s3_endpoint))
    yield found
    found.cut()


def test_a_dead_store_is_a_retry_and_names_the_file(store: Store, keys: list[str]) -> None:
    dead = Store(store.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"}))
    with pytest.raises(
        StoreUnavailable, match=r"S3 at http://127.0.0.1:9 failed on s3://.*/a1/part-0.parquet"
    ) as error:
        read_parquet(dead, keys[:1])
    assert "Is this a" not in str(error.value)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_store_that_goes_away_between_two_reads_is_a_retry(
    store: Store, keys: list[str], relay: Relay, read: Callable[[ParquetDataset], Any]
) -> None:
    rows = ParquetDataset(Store(store.settings.model_copy(update={"s3_endpoint": relay.endpoint})), keys)
    relay.cut()
    with pytest.raises(StoreUnavailable, match=r"failed on s3://.*/a1/: "):
        read(rows)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_file_that_is_gone_says_which_tasks_to_clear(
    store: Store, keys: list[str], read: Callable[[ParquetDataset], Any]
) -> None:
    rows = ParquetDataset(store, keys)
    store.delete(keys[1:])
    with pytest.raises(Superseded, match=r"/a1/ is gone.*\nClear the earlier tasks"):
        read(rows)
    with pytest.raises(Superseded, match=r"/a1/ is gone"):
        ParquetDataset(store, keys[::-1])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"PAR1 not really", "not a parquet file"),
        (ROWS[:2000] + b"\xff" * 5000 + ROWS[7000:], "Corrupt snappy"),
        (ROWS[:-60] + b"\xff" * 40 + ROWS[-20:], "deserialize thrift"),
    ],
)
def test_a_broken_file_is_not_blamed_on_the_store(store: Store, body: bytes, says: str) -> None:
    store.put("broken.parquet", body)
    with pytest.raises((OSError, pa.ArrowInvalid), match=says):
        read_parquet(store, ["broken.parquet"])


def test_refused_keys_are_not_tried_again(store: Store, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreUnsuitable, match=r"part-0\.parquet: (ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH)"):
        read_parquet(store, keys[:1])
