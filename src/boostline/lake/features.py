"""How the feature attempt is laid out: what featurize writes, and baseline, train and gate read.

    rows/split=train|valid|test/*.parquet   sorted by date and id: `_id_<column>` …, `data_date`, `_label`, the features
    test_raw/*.parquet                      the test rows before the transformation, same order: contract columns,
                                            `data_date`, `_label`
    transform.json                          the fitted transformation as data
    pipeline/                               the fitted Spark ML pipeline

Categorical features are nullable int32 codes, numeric ones nullable float64. `_label` is float64: the number, 0 or 1,
or the class index. Where the dataset says `test_is_valid`, there are no `split=valid` files and the test rows serve.
"""

from __future__ import annotations

from typing import Literal

from boostline.lake.manifest import Manifest

LABEL = "_label"
ID_PREFIX = "_id_"
DATA_DATE = "data_date"

Split = Literal["train", "valid", "test"]


def split_keys(manifest: Manifest, split: Split) -> list[str]:
    """The Parquet files of one split, in row order."""
    folder = "test" if split == "valid" and manifest.details.get("test_is_valid") else split
    return [item.key for item in manifest.files if f"/rows/split={folder}/" in item.key]


def test_raw_keys(manifest: Manifest) -> list[str]:
    """The Parquet files of the raw test rows, in row order."""
    return [item.key for item in manifest.files if "/test_raw/" in item.key]


def transform_key(manifest: Manifest) -> str:
    """The key of transform.json."""
    return next(item.key for item in manifest.files if item.key.endswith("/transform.json"))
