"""Arrow IPC streams from strangers: what they hold is checked before anything computes on it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from boostline.serving.refusal import Refused

_RECORD_BATCH, _DICTIONARY_BATCH = "record batch", "dictionary"


def read_stream(body: bytes | bytearray, names: Iterable[str], max_rows: int) -> Any:
    """The named columns of an Arrow IPC stream, those that are there.

    Args:
        body: The stream.
        names: Other columns are dropped unread.
        max_rows: Reading stops, with a refusal, beyond so many.

    Returns:
        A `pyarrow.Table` whose buffers were validated: offsets within bounds, texts UTF-8.

    Raises:
        Refused: 400 where it is no such stream, or a compressed one: a few bytes of it may stand for gigabytes.
    """
    import pyarrow as pa

    remedy = "Send a stream as pyarrow.ipc.new_stream writes it, without compression"
    wanted, batches, rows = set(names), [], 0
    try:
        if _is_compressed(body):
            raise Refused(400, "the Arrow stream is compressed", remedy)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            kept = [name for name in reader.schema.names if name in wanted]
            schema = pa.schema([field for field in reader.schema if field.name in wanted])
            if len(kept) != len(set(kept)):
                twice = next(name for name in kept if kept.count(name) > 1)
                raise Refused(422, f"column {twice} is there twice", "Send each column once")
            for batch in reader:
                rows += batch.num_rows
                if rows > max_rows:
                    raise Refused(413, f"the request has more than {max_rows:,} rows", "Send them in several requests")
                batches.append(batch.select(kept))
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
        return table
    except (pa.ArrowException, ValueError, OSError, struct.error, TypeError, KeyError) as error:
        text = str(error).partition("\n")[0][:200]
        raise Refused(400, f"the body is not an Arrow stream: {text}", remedy) from error


def _is_compressed(body: bytes | bytearray) -> bool:
    """Whether a batch of the stream is compressed; PyArrow decompresses while it reads, and does not tell before."""
    import pyarrow as pa

    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        if message.type in (_RECORD_BATCH, _DICTIONARY_BATCH):
            header = _Flat(message.metadata.to_pybytes()).root().table(2)
            batch = header.table(1) if message.type == _DICTIONARY_BATCH else header
            if batch is None or batch.has(3):
                return True
    return False


class _Flat:
    """A table of a FlatBuffer: just enough of https://flatbuffers.dev/internals to follow Arrow's Message.fbs."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def root(self) -> _Flat:
        return _Flat(self._data, self._number("<I", self._at))

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def table(self, field: int) -> Any:
        place = self._place(field)
        return None if place is None else _Flat(self._data, place + self._number("<I", place))

    def _place(self, field: int) -> int | None:
        vtable = self._at - self._number("<i", self._at)
        slot = 4 + 2 * field
        if slot >= self._number("<H", vtable):
            return None
        offset = self._number("<H", vtable + slot)
        return self._at + offset if offset else None

    def _number(self, kind: str, at: int) -> int:
        if at < 0:
            raise ValueError("an offset points outside")
        return int(struct.unpack_from(kind, self._data, at)[0])
