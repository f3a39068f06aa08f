"""The sections of a dataset file on its rows, features and runs."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from boostline.dataset.base import ColumnName, Section, repeated

Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mg]$")]
Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[^\s,]{1,64}$")]
CATEGORICAL_TYPES = frozenset({"string", "boolean", "date", "integer", "long"})
NUMERIC_TYPES = frozenset({"double", "boolean", "integer", "long"})


class Label(Section):
    """What is predicted."""

    name: ColumnName = Field(description="A column of a table, or a new name with an expression")
    expression: str | None = Field(
        None,
        description="Spark SQL over the joined columns, run as it stands: whoever writes a dataset file runs code in the jobs. No value drops the row",
    )
    classes: tuple[str, ...] = Field((), description="Class names in order; found in the train rows where not given")
    unit: str = Field("", max_length=40, description="Of a number, for the report: min, EUR")

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if doubled := repeated(self.classes):
            raise ValueError(f"classes: {doubled} named twice")
        return self


class TimeSplit(Section):
    """The last days test, the days before them validate."""

    kind: Literal["time"] = Field(description="Split by days")
    valid_days: int = Field(ge=1, description="Days before the test days; both together fewer than `window.days`")
    test_days: int = Field(ge=1, description="The last days of the window, the data date among them")
    test_is_valid: Literal[False] = Field(False, description="Only `first_rows` can have it so")


class HashSplit(Section):
    """By a hash of the id: a row never changes sides."""

    kind: Literal["hash"] = Field(description="Split by a hash of the id")
    valid_share: float = Field(0.1, gt=0, lt=1, description="About this share of the rows validates")
    test_share: float = Field(0.1, gt=0, lt=1, description="About this share of the rows tests; the rest trains")
    test_is_valid: Literal[False] = Field(False, description="Only `first_rows` can have it so")

    @model_validator(mode="after")
    def _rows_left_to_train(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share + test_share must be below 1: the rest is learnt from")
        return self


class FirstRowsSplit(Section):
    """The first rows by date and id test, the next validate."""

    kind: Literal["first_rows"] = Field(description="Split by order")
    test_rows: int = Field(
        ge=1,
        description="So many rows with a label test. With `window.days` above 1 they are new to champions of the same date only",
    )
    valid_rows: int = Field(0, ge=0, description="So many after them validate; 0 only with `test_is_valid: true`")
    test_is_valid: bool = Field(False, description="Early stopping sees the test rows, as some published protocols do")

    @model_validator(mode="after")
    def _valid_rows_given(self) -> Self:
        if (self.valid_rows > 0) == self.test_is_valid:
            raise ValueError("give either valid_rows or test_is_valid: true")
        return self


class Window(Section):
    """A model of date D learns from the days (D - days, D]."""

    days: int = Field(
        1, ge=1, le=3660, description="Days to read, the data date the last; those that validate and test count"
    )
    min_days: int = Field(1, ge=1, description="Fewer days with data fail the run")
    min_rows: int = Field(1, ge=1, description="Fewer rows with a label fail the run")

    @model_validator(mode="after")
    def _min_within(self) -> Self:
        if self.min_days > self.days:
            raise ValueError(f"min_days ({self.min_days}) is above days ({self.days})")
        return self


class Derived(Section):
    """One new column from others; exactly one operation. Null in, null out; a division by zero is null."""

    hour: ColumnName | None = Field(None, description="Hour (0-23, UTC) of a timestamp")
    weekday: ColumnName | None = Field(None, description="ISO day of the week (1 = Monday) of a date or timestamp")
    month: ColumnName | None = Field(None, description="Month (1-12) of a date or timestamp")
    difference: tuple[ColumnName, ColumnName] | None = Field(None, description="First minus second, numbers")
    ratio: tuple[ColumnName, ColumnName] | None = Field(None, description="First divided by second, numbers")
    concat: tuple[ColumnName, ...] | None = Field(None, description="Strings joined by |")

    @model_validator(mode="after")
    def _one_operation(self) -> Self:
        # A key that is left blank in the file is set, to no value.
        if len(self.model_fields_set) != 1 or not self.columns:
            raise ValueError(f"exactly one of {', '.join(type(self).model_fields)}, with its columns")
        return self

    @property
    def operation(self) -> str:
        """The operation's name."""
        return next(iter(self.model_fields_set))

    @property
    def type(self) -> str:
        """The new column's type, as a contract would name it."""
        return {"concat": "string", "difference": "double", "ratio": "double"}.get(self.operation, "integer")

    @property
    def source_types(self) -> frozenset[str]:
        """The types that its columns may have."""
        days = frozenset({"date", "timestamp"})
        by_operation = {"hour": frozenset({"timestamp"}), "weekday": days, "month": days}
        by_operation |= {"difference": NUMERIC_TYPES, "ratio": NUMERIC_TYPES}
        return by_operation.get(self.operation, CATEGORICAL_TYPES)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        value = getattr(self, self.operation)
        return (value,) if isinstance(value, str) else value


class Impute(Section):
    """What stands in for a missing number. Without it a number stays missing and XGBoost learns where it goes."""

    strategy: Literal["mean", "median", "constant"] = Field(
        description="Of the train rows (of an even number the lower median), or the number `value`"
    )
    value: float | None = Field(None, description="For `constant`")

    @model_validator(mode="after")
    def _value_for_constant(self) -> Self:
        if (self.strategy == "constant") != (self.value is not None):
            raise ValueError("value goes with strategy constant, and only with it")
        return self


class Features(Section):
    """What the model sees."""

    categorical: tuple[ColumnName, ...] = Field(
        (),
        description="Columns whose values are names: any type but double and timestamp. Unseen in train means missing. "
        "Together they may have about 100,000 values in train",
    )
    numeric: tuple[ColumnName, ...] = Field(
        (), description="Columns whose values are amounts: numbers, or boolean as 0 and 1"
    )
    derived: dict[ColumnName, Derived] = Field({}, description="New columns; list each as categorical or numeric too")
    impute: dict[ColumnName, Impute] = Field({}, description="By numeric column")
    category_order: Literal["frequency", "alphabetic"] = Field(
        "frequency",
        description="Which category gets code 0: the most frequent of the train rows, or the first by alphabet. It matters "
        "where codes are numbers: `baseline.encoding: ordinal`, `model.categorical: ordinal`",
    )
    never: tuple[ColumnName, ...] = Field((), description="Columns that would leak the label; using one is an error")

    @property
    def names(self) -> tuple[str, ...]:
        """All features in the order of the feature columns."""
        return (*self.categorical, *self.numeric)


class Promotion(Section):
    """When a candidate that passed the gate becomes the champion."""

    approval: Literal["none", "required"] = Field("none", description="`required`: a person says yes first, in Airflow")
    approvers: tuple[UserName, ...] = Field(
        (), description="Airflow users who may answer; none named: all who may there"
    )
    timeout_hours: float = Field(72, gt=0, le=14 * 24, description="How long an answer is waited for")
    on_timeout: Literal["reject", "approve"] = Field("reject", description="What no answer in that time means")
    in_backfill: bool = Field(False, description="A backfill's candidates may become champion too")

    @model_validator(mode="after")
    def _approvers_are_asked(self) -> Self:
        if self.approvers and self.approval == "none":
            raise ValueError("approvers are named, but nobody is asked: write approval: required, or leave them out")
        return self


class Wait(Section):
    """How long a run waits for its date, with `on_missing: wait`."""

    timeout_minutes: int = Field(360, ge=1, le=7 * 24 * 60, description="After so long the run fails")
    poll_seconds: int = Field(60, ge=1, le=24 * 60 * 60, description="Between two looks")
    marker: Annotated[str, StringConstraints(pattern=r"^[_.][A-Za-z0-9_.-]*[A-Za-z0-9_-]$")] | None = Field(
        None,
        description="File name that says the date is complete, such as _SUCCESS. It begins with `_` or a dot: any other file "
        "is read as data",
    )


class Spark(Section):
    """The share of the cluster that a Spark job of this dataset takes."""

    driver_memory: Memory = Field("1g", description="Heap of the driver: a number with m or g")
    executor_memory: Memory = Field("1g", description="Heap of each executor: a number with m or g")
    executor_cores: int | None = Field(
        None,
        ge=1,
        description="Cores of an executor; none: on each worker one executor with all cores that Spark takes there",
    )
    cores_max: int = Field(2, ge=1, description="Cores of the whole application")
    shuffle_partitions: int = Field(
        4, ge=1, description="Tasks of a join or an aggregation: spark.sql.shuffle.partitions"
    )
    timeout_minutes: float = Field(60, gt=0, le=7 * 24 * 60, description="A Spark task that takes longer is ended")

    @property
    def properties(self) -> dict[str, str]:
        """The same as Spark properties. They are shown in `ps`: nothing secret goes here."""
        values = {
            "spark.driver.memory": self.driver_memory,
            "spark.executor.memory": self.executor_memory,
            "spark.executor.cores": self.executor_cores,
            "spark.cores.max": self.cores_max,
            "spark.sql.shuffle.partitions": self.shuffle_partitions,
            # Many small files are packed into tasks of equal size: at least two for each core, so that none idles at the end.
            "spark.sql.files.minPartitionNum": 2 * self.cores_max,
        }
        return {key: str(value) for key, value in values.items() if value is not None}


class Stream(Section):
    """How `boostline stream` scores rows as they come."""

    source: Literal["files", "kafka"] = Field("files", description="Landed files of the daily table, or JSON messages")
    since: date | None = Field(None, description="For `files`: files of earlier dates are left alone")
    topic: Topic | None = Field(None, description="For `kafka`: where the rows come from")
    answers: Topic | None = Field(None, description="A topic that predictions are sent to as well")
    trigger_seconds: float = Field(5, gt=0, description="How often to look for new rows")
    max_files: int = Field(100, ge=1, description="For `files`: most files of a batch")
    max_messages: int = Field(100_000, ge=1, description="For `kafka`: most messages of a batch")

    @model_validator(mode="after")
    def _topic_fits(self) -> Self:
        if (self.source == "kafka") != (self.topic is not None):
            raise ValueError("stream: name a topic for source: kafka, and only then")
        return self
