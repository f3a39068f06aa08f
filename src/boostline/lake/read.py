"""Reading what is published, in one line:

    published("clean", "nyc_flights", "2013-03-31", table="flights").to_pandas()

It follows the manifest of the partition and never lists a folder, so a run that is under way does not show.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from boostline.errors import DataMissing, EnvironmentUnfit
from boostline.lake import paths
from boostline.lake.arrow import read_parquet
from boostline.lake.day import parse_day
from boostline.lake.features import split_keys, test_raw_keys
from boostline.lake.manifest import Manifest, Stage, read_current
from boostline.lake.store import Store
from boostline.settings import Settings

Part = Literal["train", "valid", "test", "test_raw"]

_CHOICE: dict[Stage, str] = {"clean": "table", "features": "part", "predictions": "version"}
"""What has to be named beside dataset and date."""


@dataclass(frozen=True)
class Published:
    """What is published of one stage for one date.

    Attributes:
        manifest: Row counts, columns with their types, and `details`: metrics, warnings.
        keys: The Parquet files that hold the rows, in row order.
        store: The lake.
    """

    manifest: Manifest
    keys: tuple[str, ...] = field(repr=False)
    store: Store = field(repr=False)

    def to_arrow(self, columns: list[str] | None = None) -> Any:
        """The rows as a `pyarrow.Table`: all columns, or those named.

        Raises:
            DataMissing: The stage has no rows.
        """
        return read_parquet(self.store, self._rows(), columns)

    def to_pandas(self, columns: list[str] | None = None) -> Any:
        """The rows as a `pandas.DataFrame`."""
        return self.to_arrow(columns).to_pandas()

    def to_polars(self, columns: list[str] | None = None) -> Any:
        """The rows as a `polars.DataFrame`.

        Raises:
            EnvironmentUnfit: Polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise EnvironmentUnfit("Polars is not installed here", "Install it: pip install polars") from error
        return polars.from_arrow(self.to_arrow(columns))

    def to_spark(self, spark: Any) -> Any:
        """The rows as a `pyspark.sql.DataFrame`, read by the executors when they are asked for.

        Args:
            spark: A session, such as `boostline.spark.session.notebook_session` gives.
        """
        addresses = [self.store.uri(key, "s3a") for key in self._rows()]
        # Else Spark would add columns from the folders' names.
        return spark.read.option("recursiveFileLookup", True).parquet(*addresses)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the stage.

        Args:
            name: `transform.json` of features and model, `baseline.json`, `model.json`, or of a report `run.json`, which
                is what `boostline show --json` prints, and `evaluation.json`.

        Raises:
            DataMissing: The stage has no such file.
        """
        found = {item.key.rsplit("/", 1)[-1]: item.key for item in self.manifest.files}
        if name not in found:
            has = ", ".join(sorted(file for file in found if file.endswith(".json"))) or "none"
            raise DataMissing(f"{self._name} has no file {name}", f"Its JSON files: {has}")
        value: dict[str, Any] = json.loads(self.store.get(found[name])[0])
        return value

    @property
    def _name(self) -> str:
        return self.manifest.current_key.removesuffix("/current.json")

    def _rows(self) -> list[str]:
        if not self.keys:
            raise DataMissing(f"{self._name} has no rows", "Its manifest says what it holds: .manifest")
        return list(self.keys)


def published(
    stage: Stage,
    dataset: str,
    day: str | date | None,
    *,
    table: str | None = None,
    part: Part | None = None,
    version: str | None = None,
    store: Store | None = None,
) -> Published:
    """Find what is published of a stage for a date.

    Rows and their columns:
        clean: a `table`'s rows, the contract's columns, `data_date`.
        features: one `part` of the rows: `train`, `valid` and `test` hold `_id_…`, `data_date`, `_label` and the
            features as the model takes them; `test_raw` the test rows before the transformation, in the same order.
        baseline: its predictions of the test rows: `_id_…`, `data_date`, `prediction`.
        predictions: of a model `version`: the id's columns, `data_date`, `model_version`, `prediction` …
        model and report: no rows; see `Published.read_json` and `boostline.scoring.model_file.published_model`.

    Args:
        stage: One of these.
        dataset: Its name.
        day: The data date, `YYYY-MM-DD`; none for a reference table.
        table: For clean.
        part: For features.
        version: For predictions: a model version's number, as `boostline models` lists it.
        store: The lake; default that of the environment.

    Raises:
        DataMissing: Nothing is published for that date.
        RunDateInvalid: `day` is no date.
        TypeError: The stage needs another choice of `table`, `part` and `version`.
    """
    choice = {"table": table, "part": part, "version": version}
    wanted = _CHOICE.get(stage)
    if stage not in paths.STAGES or [name for name, value in choice.items() if value] != ([wanted] if wanted else []):
        needs = f"needs {wanted}=… and nothing else" if wanted else "takes neither table, part nor version"
        known = f"is none of {', '.join(paths.STAGES)}"
        raise TypeError(f"stage {stage} {needs if stage in paths.STAGES else known}")
    store, partition = store or Store(Settings()), _partition(day)
    found = read_current(store, stage, dataset, paths.version_folder(version) if version else table, partition)
    if found is None:
        what = f"{stage}/{dataset}" + "".join(f", {name} {value}" for name, value in choice.items() if value)
        job = f"score {dataset} --version {version}" if version else f"run {dataset}"
        when = "DATE" if partition == paths.REFERENCE else partition
        raise DataMissing(f"nothing is published for {partition} of {what}", f"Make it: boostline {job} --date {when}")
    return Published(found[0], tuple(_row_keys(found[0], part)), store)


def _partition(day: str | date | None) -> str:
    return paths.REFERENCE if day is None else parse_day(str(day), "day").isoformat()


def _row_keys(manifest: Manifest, part: Part | None) -> list[str]:
    if part:
        return test_raw_keys(manifest) if part == "test_raw" else split_keys(manifest, part)
    return [item.key for item in manifest.files if item.key.endswith(".parquet")]
