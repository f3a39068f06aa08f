"""The sections of a dataset file, each with its ranges."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from boostline.dataset.pattern import check_pattern
from boostline.metrics import METRICS_BY_TASK

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mg]$")]
Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[^\s,]{1,64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Task = Literal["regression", "binary", "multiclass"]
CATEGORICAL_TYPES = frozenset({"string", "boolean", "date", "integer", "long"})
NUMERIC_TYPES = frozenset({"double", "boolean", "integer", "long"})
OBJECTIVES: dict[Task, tuple[str, ...]] = {
    "regression": (
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:logistic",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:gamma",
        "reg:tweedie",
        "count:poisson",
    ),
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
}
"""XGBoost's objectives by task, the default first: those that predict one number a row, or probabilities."""
RESERVED_COLUMNS = frozenset(
    {"data_date", "split", "date", "file", "reasons", "model_version", "prediction", "probability"}
)


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Replace(Section):
    """Replace each match of a regular expression by a literal text."""

    replace: str = Field(description="Regular expression; the subset that Spark and Arrow read alike")
    by: str = Field("", description="Literal text, may be empty")

    @model_validator(mode="after")
    def _same_everywhere(self) -> Self:
        check_pattern(self.replace)
        if set(self.by) & set("\\$"):
            raise ValueError("`by` is literal text and may not hold \\ or $")
        return self


class Column(Section):
    """The contract of one column. A value that breaks it sends its row to quarantine."""

    type: Literal["string", "integer", "long", "double", "boolean", "date", "timestamp"] = Field(
        description="A raw text that is none breaks the contract; `integer` has 32 bits, `long` 64"
    )
    source: str | None = Field(None, description="Name in the raw file, where it differs")
    required: bool = Field(False, description="A missing value breaks the contract")
    min: float | None = Field(None, description="Smallest allowed value, numbers only")
    max: float | None = Field(None, description="Largest allowed value, numbers only")
    allowed: tuple[str, ...] | None = Field(None, description="The only allowed values, strings only")
    clean: tuple[Literal["trim", "lower"] | Replace, ...] = Field((), description="Applied in this order, strings only")

    @model_validator(mode="after")
    def _rules_fit_type(self) -> Self:
        if (self.min is not None or self.max is not None) and self.type not in ("integer", "long", "double"):
            raise ValueError(f"min and max are for numbers, not for type {self.type}")
        if (self.allowed is not None or self.clean) and self.type != "string":
            raise ValueError(f"allowed and clean are for strings, not for type {self.type}")
        return self


class Source(Section):
    """How the raw files of a table are written. Files ending in .gz are decompressed."""

    format: Literal["csv", "json", "parquet"] = Field(
        "csv", description="`json` is an object per line; a key that a line leaves out is a missing value there"
    )
    header: Literal[True] = Field(True, description="CSV files carry a header; columns are matched by its names")
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = Field(
        ",", description="Between the fields of a CSV file"
    )
    null_values: tuple[str, ...] = Field(("", "NA"), description="Texts that mean: no value")


class Table(Section):
    """One table of raw files, with its contract."""

    daily: bool = Field(False, description="One folder of raw files per date; else one folder of reference rows")
    source: Source = Field(Source(), description="How its raw files are written")
    columns: dict[ColumnName, Column] = Field(
        min_length=1, description="Those to read, by name; other columns of the raw files are ignored"
    )
    key: tuple[ColumnName, ...] = Field((), description="Columns that identify a reference row; a join uses them")
    max_bad_share: Share = Field(0.0, description="More bad rows than this share of a date fail the run")

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        require_known(self.key, self.columns, "key")
        if taken := reserved(self.columns):
            raise ValueError(f"column names {taken} are reserved; rename with `source`")
        raw = [column.source or name for name, column in self.columns.items()]
        if doubled := repeated(raw):
            raise ValueError(f"raw columns {doubled} are read by more than one column; keep one of each")
        return self


class Label(Section):
    """What is predicted."""

    name: ColumnName = Field(description="A column of a table, or a new name with an expression")
    expression: str | None = Field(None, description="Spark SQL over the joined columns; no value drops the row")
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
    test_rows: int = Field(ge=1, description="So many rows with a label test")
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

    strategy: Literal["mean", "median", "constant"] = Field(description="Of the train rows, or the number `value`")
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
        description="Columns whose values are names: any type but double and timestamp. Unseen in train means missing",
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


class Baseline(Section):
    """The simple Spark ML model that XGBoost has to beat."""

    kind: Literal["linear", "logistic", "tree"] = Field(
        description="`linear` for a regression, `logistic` for classes, `tree` for both"
    )
    encoding: Literal["onehot", "ordinal"] = Field(
        "onehot", description="How categorical codes enter: a column of 0 and 1 for each category, or as numbers"
    )
    regularization: float = Field(
        0.0, ge=0, description="Weight of the penalty on coefficients (Spark's regParam); 0: none"
    )
    elastic_net: Share = Field(0.0, description="What the penalty is: 0 L2, 1 L1, between them a mix")
    max_iterations: int = Field(100, ge=1, description="Of `linear` and `logistic`, at most")
    max_depth: int = Field(5, ge=1, le=30, description="Of a tree")
    in_sample: bool = Field(False, description="Report a second fit, on all rows and measured on them")


class XGBoostParams(Section):
    """XGBoost's own parameters, by its own names."""

    eta: float = Field(
        0.1, gt=0, le=1, description="Learning rate: how much each tree counts. Smaller needs more rounds"
    )
    max_depth: int = Field(6, ge=0, le=64, description="Of a tree; 0: no limit")
    max_leaves: int = Field(0, ge=0, description="Of a tree; 0: no limit")
    min_child_weight: float = Field(1.0, ge=0, description="Smallest sum of second derivatives (hessian) in a leaf")
    gamma: float = Field(0.0, ge=0, description="Smallest gain that a split must bring")
    subsample: float = Field(1.0, gt=0, le=1, description="Share of the rows drawn for each tree")
    colsample_bytree: float = Field(1.0, gt=0, le=1, description="Share of the columns drawn for each tree")
    colsample_bylevel: float = Field(1.0, gt=0, le=1, description="Of those, for each level")
    colsample_bynode: float = Field(1.0, gt=0, le=1, description="Of those, for each split")
    reg_lambda: float = Field(1.0, ge=0, alias="lambda", description="L2 penalty on the leaves' weights")
    alpha: float = Field(0.0, ge=0, description="L1 penalty on the leaves' weights")
    max_delta_step: float = Field(0.0, ge=0, description="Largest step of a leaf; 0: no limit")
    scale_pos_weight: float = Field(1.0, gt=0, description="Weight of the positive rows of a binary label")
    max_bin: int = Field(256, ge=2, le=65535, description="Histogram bins of a numeric column")
    grow_policy: Literal["depthwise", "lossguide"] = Field(
        "depthwise", description="Split level by level, or where the loss falls most"
    )
    max_cat_to_onehot: int = Field(4, ge=1, description="With fewer categories a split takes one against the rest")
    max_cat_threshold: int = Field(64, ge=1, description="Most categories that a split considers")
    objective: str | None = Field(
        None,
        description="One of the task's, the first by default. "
        + "; ".join(f"{task}: {', '.join(names)}" for task, names in OBJECTIVES.items()),
    )


class Threshold(Section):
    """How the decision threshold of a binary model is chosen on the valid rows."""

    choose: Literal["f1", "recall", "cost"] = Field(
        "f1", description="The best F1, the best precision at a recall, or the least cost of wrong answers"
    )
    min_recall: float = Field(0.8, gt=0, le=1, description="For `recall`: best precision with at least this recall")
    cost_false_positive: float = Field(1.0, ge=0, description="For `cost`: of a negative row that is called positive")
    cost_false_negative: float = Field(1.0, ge=0, description="For `cost`: of a positive row that is called negative")


class Model(Section):
    """How XGBoost is trained."""

    params: XGBoostParams = Field(XGBoostParams(), description="XGBoost's own parameters")
    rounds: int = Field(500, ge=1, le=100_000, description="At most so many trees (per class)")
    early_stopping: int = Field(30, ge=0, description="Stop after so many rounds without gain on valid; 0 never stops")
    categorical: Literal["native", "ordinal"] = Field("native", description="Codes as categories or as numbers")
    seed: int = Field(0, ge=0, description="Of what is drawn at random: `subsample`, `colsample_…`")
    threshold: Threshold = Field(
        Threshold(), description="For a binary label: from which probability on a row is positive"
    )


class Gate(Section):
    """When a candidate is good enough. Margins are relative: 0.01 is one per cent better."""

    metric: str = Field(
        description="Measured on the test rows, one of the task's. "
        + "; ".join(f"{task}: {', '.join(names)}" for task, names in METRICS_BY_TASK.items())
    )
    beat_baseline: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="So much better than the baseline; 0: as good will do; negative: so much worse will do",
    )
    beat_champion: float = Field(
        0.0, ge=-1, le=1, description="The same against the champion, if there is one, on the same test rows"
    )


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
    marker: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]*[A-Za-z0-9_-]$")] | None = Field(
        None, description="File name that says the date is complete, such as _SUCCESS"
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


def reserved(names: Iterable[str]) -> list[str]:
    """Those of the names that columns of Boostline's own have, or may get."""
    return sorted(name for name in names if name in RESERVED_COLUMNS or name.startswith("_"))


def repeated(names: Sequence[str]) -> list[str]:
    """Those of the names that stand there more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def require_type(name: str, found: str, allowed: frozenset[str], what: str) -> None:
    """Refuse a column whose type does not suit its place."""
    if found not in allowed:
        raise ValueError(f"{what}: {name} is of type {found}; allowed there: {', '.join(sorted(allowed))}")


def require_known(names: Any, known: Any, what: str) -> None:
    """Refuse a name that is not among the known ones, with the nearest one as a hint."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            raise ValueError(f"{what}: {name!r} is not known{hint}")
