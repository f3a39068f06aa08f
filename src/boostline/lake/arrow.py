"""Reading an attempt's Parquet files as Arrow, without a JVM."""

from __future__ import annotations

from typing import Any

from boostline.lake.store import Store


def read_parquet(store: Store, keys: list[str], columns: list[str] | None = None) -> Any:
    """A `pyarrow.Table` of the files, in the given order.

    Args:
        store: The lake.
        keys: Parquet files, from a manifest.
        columns: Only these columns; all where none.
    """
    return parquet_dataset(store, keys).to_table(columns=columns)


def parquet_dataset(store: Store, keys: list[str]) -> Any:
    """A `pyarrow.dataset.Dataset` of exactly these files, to read batch by batch."""
    import pyarrow.dataset as ds
    from pyarrow.fs import S3FileSystem

    settings = store.settings
    endpoint = settings.s3_endpoint or ""
    filesystem = S3FileSystem(
        endpoint_override=endpoint.split("://", 1)[-1] or None,
        scheme=endpoint.split("://", 1)[0] if endpoint else "https",
        region=settings.s3_region,
        connect_timeout=5,
        request_timeout=30,
    )
    full = [store.uri(key).removeprefix("s3://") for key in keys]
    return ds.dataset(full, filesystem=filesystem, format="parquet")
