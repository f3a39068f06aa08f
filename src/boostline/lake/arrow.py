"""Reading an attempt's Parquet files as Arrow, without a JVM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from boostline.errors import StoreUnavailable, StoreUnsuitable, Superseded
from boostline.lake.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REFUSALS = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_BUCKET")
"""PyArrow's names of the answers that another try does not mend."""


def read_parquet(store: Store, keys: list[str], columns: list[str] | None = None) -> Any:
    """A `pyarrow.Table` of the files, in the given order.

    Args:
        store: The lake.
        keys: Parquet files, from a manifest.
        columns: Only these columns; all where none.
    """
    return ParquetDataset(store, keys).to_table(columns=columns)


def as_numbers(column: Any) -> NDArray[np.float64]:
    """A column of predictions: shape (rows,), or (rows, classes) where each is a list of a number by class."""
    values = column.combine_chunks()
    if not values.type.num_fields:
        single: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
        return single
    several: NDArray[np.float64] = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
    return several


class ParquetDataset:
    """Exactly these files: a `pyarrow.dataset.Dataset` whose methods say what S3 did; PyArrow asks whether the file is
    Parquet.

    Args:
        store: The lake.
        keys: Parquet files, from a manifest.

    Raises:
        Superseded: A file is gone.
        StoreUnavailable: S3 does not answer.
    """

    def __init__(self, store: Store, keys: list[str]) -> None:
        import pyarrow.dataset as ds

        self._store, self._keys = store, keys
        full = [store.uri(key).removeprefix("s3://") for key in keys]
        # INT96, in which Spark and Hive write timestamps by default, would pass for nanoseconds.
        kind = ds.ParquetFileFormat(coerce_int96_timestamp_unit="us")
        with self._errors():
            self._dataset = ds.dataset(full, filesystem=_filesystem(store), format=kind)
        self.schema: Any = self._dataset.schema

    def count_rows(self) -> int:
        """Rows of all files, from their footers."""
        with self._errors():
            return int(self._dataset.count_rows())

    def to_table(self, columns: list[str] | None = None) -> Any:
        """All rows as a `pyarrow.Table`."""
        with self._errors():
            return self._dataset.to_table(columns=columns)

    def to_batches(self, **options: Any) -> Iterator[Any]:
        """All rows as record batches; the options are those of `pyarrow.dataset.Dataset.to_batches`."""
        with self._errors():
            yield from self._dataset.to_batches(**options)

    def take(self, places: Any) -> Any:
        """The rows at these places as a `pyarrow.Table`."""
        with self._errors():
            return self._dataset.take(places)

    def head(self, rows: int, columns: list[str] | None = None) -> Any:
        """The first rows as a `pyarrow.Table`."""
        with self._errors():
            return self._dataset.head(rows, columns=columns)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn PyArrow's errors of S3 into ours; a file that is broken stays its error."""
        try:
            yield
        except FileNotFoundError as error:
            raise Superseded(
                f"{self._where} is gone, or a part of it: it was removed after this task had been told of it",
                "Clear the earlier tasks of this run, so that they write again",
            ) from error
        except OSError as error:
            # A broken file is an OSError too. Only what S3 or the way to it answered is called an AWS Error.
            _, is_s3, answer = str(error).partition("AWS Error ")
            if not is_s3:
                raise
            told = f"S3 at {self._store.settings.s3_endpoint or 'AWS'} failed on {self._where}: {answer}"
            if answer.startswith(_REFUSALS):
                raise StoreUnsuitable(told, "Check the keys, their rights, and the bucket") from error
            raise StoreUnavailable(told, "Try again when it is up") from error

    @property
    def _where(self) -> str:
        """The file's address, or that of the folder where there are several."""
        return self._store.uri(self._keys[0] if len(self._keys) == 1 else self._keys[0].rpartition("/")[0] + "/")


def _filesystem(store: Store) -> Any:
    from pyarrow.fs import S3FileSystem

    settings = store.settings
    endpoint = settings.s3_endpoint or ""
    return S3FileSystem(
        endpoint_override=endpoint.split("://", 1)[-1] or None,
        scheme=endpoint.split("://", 1)[0] if endpoint else "https",
        region=settings.s3_region,
        connect_timeout=5,
        request_timeout=30,
    )
