"""Feature rows as XGBoost takes them: batch by batch from Parquet on S3, never a second copy of all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostline.dataset import Dataset
from boostline.errors import DataInvalid
from boostline.lake.arrow import ParquetDataset
from boostline.lake.features import LABEL, test_raw_keys
from boostline.lake.manifest import Manifest
from boostline.lake.store import Store
from boostline.scoring.engine import import_xgboost
from boostline.scoring.matrix import Columns, single_precision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

BATCH_ROWS = 65_536
EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Rows:
    """One split: what XGBoost holds of it, and its labels."""

    matrix: Any
    label: NDArray[np.float64]


def feature_columns(dataset: Dataset) -> Columns:
    """Names and XGBoost types of the features, in column order."""
    code = "c" if dataset.model.categorical == "native" else "int"
    categorical, numeric = dataset.features.categorical, dataset.features.numeric
    return Columns([*categorical, *numeric], [code] * len(categorical) + ["q"] * len(numeric))


class SplitFiles:
    """The Parquet files of one split, read in row order as often as XGBoost asks.

    Args:
        store: The lake.
        keys: The split's files.
        columns: The features.
    """

    def __init__(self, store: Store, keys: list[str], columns: Columns) -> None:
        self.columns = columns
        self._wanted = [*columns.names, LABEL]
        if not keys:
            raise DataInvalid("the features have no file of one of the splits", "Clear the featurize task")
        self._dataset = ParquetDataset(store, keys)
        self.rows = self._dataset.count_rows()
        if absent := set(self._wanted) - set(self._dataset.schema.names):
            raise DataInvalid(f"{store.uri(keys[0])} has no column {sorted(absent)}", "Clear the featurize task")

    def arrow_bytes(self) -> int:
        """Size of the columns as Arrow in memory, from the files' own row counts and the types' widths."""
        widths = [self._dataset.schema.field(name).type.bit_width + 1 for name in self._wanted]
        return self.rows * int(sum(widths)) // 8

    def batches(self) -> Iterator[Any]:
        """Arrow record batches, few at a time in memory."""
        return self._dataset.to_batches(
            columns=self._wanted, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1
        )

    def table(self) -> Any:
        """All rows as one Arrow table."""
        return self._dataset.to_table(columns=self._wanted)

    def labels(self) -> NDArray[np.float64]:
        """The labels, shape (rows,); XGBoost itself keeps them in single precision only."""
        labels: NDArray[np.float64] = self._dataset.to_table(columns=[LABEL]).column(LABEL).to_numpy()
        return labels

    def sample(self, size: int) -> Any:
        """At most `size` rows, evenly spaced, as an Arrow table."""
        import numpy as np

        return self._dataset.take(np.unique(np.linspace(0, self.rows - 1, min(size, self.rows)).astype(np.int64)))


def load_split(
    files: SplitFiles, *, max_bin: int, threads: int, like: Rows | None, cache: Path | None, limit: int
) -> Rows:
    """Quantise one split for training.

    Args:
        files: The split.
        max_bin: Histogram bins of a feature.
        threads: For XGBoost.
        like: The train rows, whose bins the other splits share.
        cache: An empty folder, for rows beyond `limit`.
        limit: Bytes of Arrow above which the rows stay on disk instead of in memory.
    """
    xgboost, size = import_xgboost(), files.arrow_bytes()
    options = {"max_bin": max_bin, "nthread": threads, "ref": like.matrix if like else None}
    if cache is not None and size > limit:
        log.info("%.1f MiB of Arrow are above %.1f MiB: out of core", size / 2**20, limit / 2**20)
        source = _batch_iterator(files.batches, files.columns, cache)
        matrix = xgboost.ExtMemQuantileDMatrix(source, **options)
    else:
        # Decoded once, dropped as soon as it is quantised; the batches are views, so nothing is copied.
        table = files.table()
        source = _batch_iterator(lambda: iter(table.to_batches(BATCH_ROWS)), files.columns, None)
        matrix = xgboost.QuantileDMatrix(source, **options)
    return Rows(matrix, files.labels())


def raw_sample(store: Store, features: Manifest, names: list[str]) -> list[dict[str, Any]]:
    """The first raw test rows, as a person would send them to be scored."""
    found = ParquetDataset(store, test_raw_keys(features)).head(EXAMPLE_ROWS, columns=names)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _batch_iterator(make: Callable[[], Iterator[Any]], columns: Columns, cache: Path | None) -> Any:
    import pyarrow as pa

    class Batches(import_xgboost().DataIter):  # type: ignore[misc]
        """XGBoost's view of a source of batches that can be read again and again."""

        def __init__(self) -> None:
            self._batches = make()
            super().__init__(cache_prefix=str(cache / "page") if cache else None, release_data=True)

        def next(self, input_data: Callable[..., None]) -> bool:
            batch = next((item for item in self._batches if item.num_rows), None)
            if batch is None:
                return False
            table = pa.Table.from_batches([batch])
            input_data(
                data=single_precision(table, columns),
                label=table.column(LABEL).to_numpy(),
                feature_names=columns.names,
                feature_types=columns.types,
            )
            return True

        def reset(self) -> None:
            self._batches = make()

    return Batches()
