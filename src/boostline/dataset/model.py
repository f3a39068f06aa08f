"""A dataset file as one checked value."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from boostline.dataset.base import ColumnName, Name, Section, Task, require_known, require_type, reserved
from boostline.dataset.learning import OBJECTIVES, Baseline, Gate, Model
from boostline.dataset.sections import (
    CATEGORICAL_TYPES,
    NUMERIC_TYPES,
    Features,
    FirstRowsSplit,
    HashSplit,
    Label,
    Promotion,
    Spark,
    Stream,
    TimeSplit,
    Wait,
    Window,
)
from boostline.dataset.tables import Column, Table
from boostline.metrics import METRICS_BY_TASK


class Dataset(Section):
    """A dataset file."""

    name: Name = Field(description="Also the file's name and the DAG's prefix")
    description: str = Field("", description="One sentence for people: shown with the DAGs and in the report")
    task: Task = Field(description="What the label is: a number, one of two classes, or one of several")
    label: Label = Field(description="What is predicted")
    id: tuple[ColumnName, ...] = Field(min_length=1, description="Columns that identify a row of the daily table")
    tables: dict[Name, Table] = Field(min_length=1, description="Exactly one is daily: its rows are learnt from")
    joins: tuple[Name, ...] = Field(
        (),
        description="Reference tables joined to the daily table by their key, in order, as they are now: a run of a past "
        "date sees what a row says today",
    )
    split: TimeSplit | HashSplit | FirstRowsSplit = Field(
        discriminator="kind",
        description="Which rows train, which validate (they stop the training), which test (they measure the models)",
    )
    window: Window = Field(Window(), description="Which days a model learns from")
    features: Features = Field(description="What the models see of a row")
    baseline: Baseline = Field(description="The simple model that XGBoost has to beat")
    model: Model = Field(Model(), description="How XGBoost is trained")
    gate: Gate = Field(description="When a candidate is good enough")
    promotion: Promotion = Field(Promotion(), description="When a candidate that passed the gate becomes the champion")
    on_missing: Literal["wait", "skip", "fail"] = Field(
        "fail",
        description="Where the data date has no raw file: `wait` for it (see [Wait](#wait)), `skip` the run, which ends green, "
        "or `fail`. A day missing from the window after the first landed one fails the run with `fail`, else it is left out",
    )
    wait: Wait = Field(Wait(), description="How long to wait, with `on_missing: wait`")
    spark: Spark = Field(Spark(), description="Memory and cores of the Spark jobs")
    stream: Stream = Field(Stream(), description="Where `boostline stream` finds its rows")

    @property
    def daily_table(self) -> str:
        """Name of the one daily table."""
        return next(name for name, table in self.tables.items() if table.daily)

    @property
    def raw_columns(self) -> dict[str, Column]:
        """The contract's columns after the joins, by name."""
        columns = dict(self.tables[self.daily_table].columns)
        for name in self.joins:
            columns |= {key: value for key, value in self.tables[name].columns.items() if key not in columns}
        return columns

    @property
    def needed_columns(self) -> dict[str, Column]:
        """Those of them that the features read, themselves or through derived ones, in the contract's order."""
        derived = self.features.derived
        read = [derived[name].columns if name in derived else (name,) for name in self.features.names]
        used = {column for columns in read for column in columns}
        return {name: column for name, column in self.raw_columns.items() if name in used}

    @property
    def null_values(self) -> dict[str, tuple[str, ...]]:
        """The texts that mean "no value", by the columns of `raw_columns`: those of the table that a column comes from."""
        tables = [self.tables[name] for name in (self.daily_table, *self.joins)]
        return {column: table.source.null_values for table in reversed(tables) for column in table.columns}

    @property
    def split_rule(self) -> dict[str, Any]:
        """All that decides on which side of the split a row of a date is: `split`, the id with its types, the window."""
        columns = self.tables[self.daily_table].columns
        ids = {name: columns[name].type for name in self.id}
        return self.split.model_dump() | {"id": ids, "window_days": self.window.days}

    @model_validator(mode="after")
    def _tables_fit(self) -> Self:
        daily = [name for name, table in self.tables.items() if table.daily]
        if len(daily) != 1:
            raise ValueError(f"exactly one table must be daily, not {daily or 'none'}")
        seen = dict(self.tables[daily[0]].columns)
        require_known(self.id, seen, "id")
        if self.stream.answers and "batch" in self.id:
            raise ValueError("id: stream.answers names each answer's batch in `batch`; rename the column with `source`")
        for name in self.joins:
            if name not in self.tables or self.tables[name].daily:
                raise ValueError(f"joins: {name!r} is not a reference table")
            table = self.tables[name]
            if not table.key:
                raise ValueError(f"tables.{name}: a joined table needs a key")
            require_known(table.key, seen, f"tables.{name}.key in the daily table or an earlier join")
            self._key_types_fit(name, seen)
            if clash := (set(table.columns) - set(table.key)) & set(seen):
                raise ValueError(f"tables.{name}: columns {sorted(clash)} exist already; rename them with `source`")
            seen = {**table.columns, **seen}
        return self

    def _key_types_fit(self, name: str, seen: dict[str, Column]) -> None:
        for column in self.tables[name].key:
            own, other = self.tables[name].columns[column].type, seen[column].type
            # Spark would cast one to the other: the texts "7" and "07", two rows there, would both match the number 7.
            if own != other and {own, other} != {"integer", "long"}:
                raise ValueError(
                    f"tables.{name}.columns.{column}: a key of type {own}, which the daily table or an earlier join "
                    f"has as {other}; give both the same type"
                )

    @model_validator(mode="after")
    def _features_fit(self) -> Self:
        known = self.raw_columns
        for name, derived in self.features.derived.items():
            if name in known:
                raise ValueError(f"features.derived.{name}: a column of that name exists already")
            require_known(derived.columns, known, f"features.derived.{name}")
        names = self.features.names
        if not names:
            raise ValueError("features: name at least one categorical or numeric column")
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"features: {sorted(doubled)} named twice")
        require_known(names, {*known, *self.features.derived}, "features")
        self._feature_types_fit()
        require_known(self.features.impute, self.features.numeric, "features.impute")
        used = {*names, *(column for item in self.features.derived.values() for column in item.columns)}
        if leaks := used & {self.label.name, *self.features.never}:
            raise ValueError(f"features: {sorted(leaks)} would leak the label (label or never)")
        if taken := reserved(self.features.derived):
            raise ValueError(f"features.derived: {taken} are reserved names")
        if self.label.expression is None and self.label.name not in known:
            raise ValueError(f"label: {self.label.name!r} is no column; give an expression or one of {sorted(known)}")
        return self

    def _feature_types_fit(self) -> None:
        types: dict[str, str] = {name: column.type for name, column in self.raw_columns.items()}
        for name, derived in self.features.derived.items():
            for column in derived.columns:
                require_type(column, types[column], derived.source_types, f"features.derived.{name}")
        types |= {name: derived.type for name, derived in self.features.derived.items()}
        for name in self.features.categorical:
            require_type(name, types[name], CATEGORICAL_TYPES, "features.categorical")
        for name in self.features.numeric:
            require_type(name, types[name], NUMERIC_TYPES, "features.numeric")

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        if self.gate.metric not in METRICS_BY_TASK[self.task]:
            allowed = ", ".join(METRICS_BY_TASK[self.task])
            raise ValueError(f"gate.metric: {self.gate.metric!r} is none of {self.task}'s: {allowed}")
        fits = {"linear": ("regression",), "logistic": ("binary", "multiclass")}.get(self.baseline.kind)
        if fits and self.task not in fits:
            raise ValueError(f"baseline.kind: {self.baseline.kind} does not fit task {self.task}")
        objective = self.model.params.objective
        if objective is not None and objective not in OBJECTIVES[self.task]:
            allowed = ", ".join(OBJECTIVES[self.task])
            raise ValueError(f"model.params.objective: {objective!r} is none of {self.task}'s: {allowed}")
        if self.task == "regression" and self.label.classes:
            raise ValueError("label.classes: a regression predicts a number, which has no classes")
        if self.task == "binary" and len(self.label.classes) not in (0, 2):
            raise ValueError("label.classes: a binary label has two classes, the negative one first")
        if isinstance(self.split, TimeSplit) and self.split.valid_days + self.split.test_days >= self.window.days:
            raise ValueError(f"split: valid_days + test_days must be below window.days ({self.window.days})")
        return self
