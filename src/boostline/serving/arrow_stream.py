"""Arrow IPC streams from strangers: what they hold is checked before anything computes on it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from boostline.serving.fit import Limits, check_rows, is_text
from boostline.serving.refusal import Refused

MOST_BATCHES = 10_000
"""What a batch takes beside its values is many times the bytes that an empty one comes in."""
_RECORD_BATCH, _DICTIONARY_BATCH = "record batch", "dictionary"


def read_stream(body: bytes | bytearray, names: Iterable[str], limits: Limits) -> Any:
    """The named columns of an Arrow IPC stream, those that are there.

    Args:
        body: The stream.
        names: Other columns are dropped unread.
        limits: Reading stops, with a refusal, beyond so many rows and bytes.

    Returns:
        A `pyarrow.Table` whose buffers were validated: offsets within bounds, texts UTF-8.

    Raises:
        Refused: 400 where it is no such stream, or a compressed one: a few bytes of it may stand for gigabytes. 413
            where it has too many rows, or its dictionaries and string views stand for too many bytes.
    """
    import pyarrow as pa

    remedy = "Send a stream as pyarrow.ipc.new_stream writes it, without compression"
    wanted, rows, size = set(names), 0, 0
    batches: list[Any] = []
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
                check_rows(rows, limits.rows)
                if len(batches) == MOST_BATCHES:
                    raise Refused(413, f"the Arrow stream has more than {MOST_BATCHES:,} batches", "Send larger ones")
                batches.append(batch.select(kept))
                # Each batch is validated with its dictionaries, which a stream may share among thousands of batches.
                size += batches[-1].get_total_buffer_size()
                _check_size(size, limits)
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
        _check_texts(table, limits)
        return table
    except (pa.ArrowException, ValueError, OSError, struct.error, TypeError, KeyError) as error:
        text = str(error).partition("\n")[0][:200]
        raise Refused(400, f"the body is not an Arrow stream: {text}", remedy) from error


def _check_texts(table: Any, limits: Limits) -> None:
    """Refuse texts that are there many times and were sent once, before they are written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = 0
    for column in table.columns:
        coded = pa.types.is_dictionary(column.type)
        kind = column.type.value_type if coded else column.type
        if not (pa.types.is_string_view(kind) or (coded and is_text(kind))):
            continue
        for part in column.chunks:
            lengths = _lengths(part.dictionary if coded else part)
            size += pc.sum(lengths).as_py() or 0
            if coded:
                size += pc.sum(lengths.take(part.indices)).as_py() or 0
            _check_size(size, limits)


def _lengths(texts: Any) -> Any:
    """Bytes of each text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string_view(texts.type):
        return pc.binary_length(texts)
    # No kernel tells them; a view has 16 bytes, and the first four are the length.
    first, last = 4 * texts.offset, 4 * (texts.offset + len(texts))
    numbers = np.frombuffer(texts.buffers()[1] or b"", np.int32)[first:last:4]
    return pa.array(numbers, mask=texts.is_null().to_numpy(zero_copy_only=False))


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.size:
        text = (
            f"the Arrow stream has more than {limits.size:,} bytes when its dictionaries and string views are decoded"
        )
        raise Refused(413, text, "Send the rows in several requests")


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
