"""A first dataset file from a sample of a CSV file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from boostline.dataset.base import RESERVED_COLUMNS
from boostline.dataset.file import dataset_path, parse_dataset
from boostline.errors import DataInvalid, DataMissing, DatasetInvalid

SAMPLE_BYTES = 8 * 1024 * 1024
MANY_CATEGORIES = 200
LONGEST_NAME = 100
"""Characters of a column's name; a few are left to tell apart what is cut to the same."""


def draft_dataset(file: Path, label: str, folder: Path, *, name: str | None, id_columns: list[str]) -> Path:
    """Write `NAME.yaml` for a CSV file, and check it like any dataset file.

    Args:
        file: A CSV file with a header.
        label: The column to predict.
        folder: Where dataset files lie.
        name: Default: the file's name, made a plain name.
        id_columns: Default: the first column whose values are all there and all different.

    Raises:
        DatasetInvalid: The file exists already or cannot be written, or nothing can be learnt from the sample.
        DataMissing: The CSV file is not there, or cannot be read.
    """
    sample = _sample(file)
    name = name or re.sub(r"[^a-z0-9]+", "_", file.stem.lower()).strip("_") or "dataset"
    try:
        path = dataset_path(folder, name)
    except DatasetInvalid as error:
        rule = "a small letter, then small letters, digits and _, 63 characters at most"
        raise DatasetInvalid(error.message, f"Name the dataset: --name NAME, {rule}") from error
    if path.exists():
        raise DatasetInvalid(f"{path} exists already", "Give another --name, or edit that file")
    missing = [column for column in (label, *id_columns) if column not in sample.column_names]
    if missing:
        raise DatasetInvalid(f"{file} has no column {missing[0]!r}", f"Columns: {', '.join(sample.column_names)}")
    data = _draft(name, sample, label, id_columns or _find_id(sample, label))
    dataset = parse_dataset(data, source=str(path))
    used = {dataset.label.name, *dataset.id, *dataset.features.names}
    unused = [name for name in dataset.raw_columns if name not in used]
    head = (
        f"# A first version from {sample.num_rows:,} sampled rows. Read every line: names, types, features, the gate.\n"
        "# What the sample cannot tell may be added to a column: min, max, allowed, required.\n"
        f"# Not used as features: {', '.join(unused) or 'none'}\n"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + yaml.safe_dump(data, sort_keys=False, width=110, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise DatasetInvalid(
            f"{path}: cannot be written: {error.strerror}", "Set BOOSTLINE_DATASETS to a folder that you may write to"
        ) from error
    return path


def _sample(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    try:
        if not file.is_file():
            raise DataMissing(f"no such file: {file}", "Check the path")
        with file.open("rb") as stream:
            text = stream.read(SAMPLE_BYTES)
    except OSError as error:
        raise DataMissing(f"{file}: cannot be read: {error.strerror}", "Check the rights to it") from error
    if len(text) == SAMPLE_BYTES:
        text = text[: text.rfind(b"\n") + 1]
    convert = csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    _require_commas(file, text)
    try:
        text.decode()  # says where it is no UTF-8; Arrow shows the bytes
        table = csv.read_csv(pa.BufferReader(text), convert_options=convert)
        names = [column.strip() for column in table.column_names]  # as ingest reads them
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataInvalid(
            f"{file} is no CSV file with a header: {error}", "Save it as comma-separated UTF-8"
        ) from error
    if twice := sorted({column for column in names if names.count(column) > 1}):
        raise DataInvalid(f"{file} has two columns named {twice[0]!r}", "Give each column a name of its own")
    if not table.num_rows:
        raise DataInvalid(f"{file} has a header and no rows", "Give a file with data")
    # To Arrow 0x1F and 01002 are whole numbers; written like that they are names, and ingest takes no hexadecimal number.
    convert.column_types = {field.name: pa.string() for field in table.schema if pa.types.is_integer(field.type)}
    texts = csv.read_csv(pa.BufferReader(text), convert_options=convert)
    for place, field in enumerate(table.schema):
        column = texts.column(place)
        if pa.types.is_integer(field.type) and pc.any(pc.match_substring_regex(column, r"^\s*-?0[0-9xX]")).as_py():
            table = table.set_column(place, field.name, column)
    return table.rename_columns(names)


def _require_commas(file: Path, text: bytes) -> None:
    """Refuse what is known by its first bytes to be something else than comma-separated text."""
    by_hand = (
        "Save it as comma-separated UTF-8, or write the dataset file by hand: see docs/dataset-file.md, with source: "
    )
    start = text.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"PAR1"):
        raise DataInvalid(f"{file} is Parquet, and init reads CSV", by_hand + "{format: parquet}")
    if re.match(rb'(\[\s*)?\{\s*"', start):
        raise DataInvalid(f"{file} is JSON, and init reads CSV", by_hand + "{format: json}")
    if start.startswith(b"\x1f\x8b"):
        raise DataInvalid(
            f"{file} is gzip, and init reads plain CSV", "Give it an unpacked copy; `land` takes it packed"
        )
    header = start.partition(b"\n")[0]
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs")):
        if b"," not in header and delimiter.encode() in header:
            raise DataInvalid(
                f"{file} is separated by {name}, and init reads commas",
                f"{by_hand}{{delimiter: {json.dumps(delimiter)}}}",
            )


def _draft(name: str, sample: Any, label: str, id_columns: list[str]) -> dict[str, Any]:
    safe = _safe_names(sample.column_names)
    columns = {name: _column(sample, column, name) for column, name in safe.items()}
    task, classes = _task(sample, label)
    keys = [safe[column] for column in id_columns]
    usable = [
        column
        for column in sample.column_names
        if column != label and column not in id_columns and sample.column(column).null_count < sample.num_rows
    ]
    texts = [
        safe[column]
        for column in usable
        if columns[safe[column]]["type"] in ("string", "boolean")
        and len(sample.column(column).unique()) <= max(2, min(MANY_CATEGORIES, sample.num_rows // 2))
    ]
    numbers = [safe[column] for column in usable if columns[safe[column]]["type"] in ("integer", "long", "double")]
    baseline = {"regression": "linear", "binary": "logistic", "multiclass": "logistic"}[task]
    return {
        "name": name,
        "description": f"Predict {label}",
        "task": task,
        "label": {"name": safe[label], **({"classes": classes} if classes else {})},
        "id": keys,
        "tables": {"rows": {"daily": True, "max_bad_share": 0.01, "columns": columns}},
        "split": {"kind": "hash", "valid_share": 0.15, "test_share": 0.15},
        "window": {"days": 1, "min_rows": 100},
        "features": {"categorical": texts, "numeric": numbers},
        "baseline": {"kind": baseline},
        "model": {"params": {"eta": 0.1, "max_depth": 6}, "rounds": 1000, "early_stopping": 30},
        "gate": {"metric": "rmse" if task == "regression" else "log_loss", "beat_baseline": 0.0},
        # Whoever lands one file has none for yesterday, which the scheduler asks for as soon as the DAG is unpaused.
        "on_missing": "skip",
    }


def _column(sample: Any, column: str, safe: str) -> dict[str, Any]:
    from pyarrow import types

    kind = sample.schema.field(column).type
    names: list[tuple[Any, str]] = [
        (types.is_boolean, "boolean"),
        (types.is_integer, "long"),
        (types.is_floating, "double"),
        (types.is_date, "date"),
        (types.is_timestamp, "timestamp"),
    ]
    found = next((name for test, name in names if test(kind)), "string")
    return {"type": found, **({"source": column} if safe != column else {})}


def _safe_names(columns: list[str]) -> dict[str, str]:
    """Column name in the file → name in the dataset, unique and plain."""
    taken: dict[str, str] = {}
    for column in columns:
        safe = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")[:LONGEST_NAME] or "column"
        safe = f"c_{safe}" if safe[0].isdigit() or safe in RESERVED_COLUMNS else safe
        while safe in taken.values():
            safe += "_"
        taken[column] = safe
    return taken


def _task(sample: Any, label: str) -> tuple[str, list[str]]:
    """The task and, for text labels, the class names in order."""
    from pyarrow import types

    values = sample.column(label).drop_null()
    distinct = sorted(values.unique().to_pylist(), key=str)
    if len(distinct) < 2:
        raise DataInvalid(f"column {label!r} has fewer than two different values", "There is nothing to learn")
    if types.is_floating(values.type) or (types.is_integer(values.type) and len(distinct) > 20):
        return "regression", []
    if not types.is_string(values.type) and set(distinct) <= {0, 1}:
        return "binary", []
    if len(distinct) > MANY_CATEGORIES:
        raise DataInvalid(f"column {label!r} has {len(distinct)} different texts", "Choose a number or a class")
    return ("binary" if len(distinct) == 2 else "multiclass"), [str(value) for value in distinct]


def _find_id(sample: Any, label: str) -> list[str]:
    for column in sample.column_names:
        values = sample.column(column)
        if column != label and values.null_count == 0 and len(values.unique()) == sample.num_rows:
            return [column]
    raise DatasetInvalid(
        "no column identifies a row: none has a different value in every row",
        "Name the columns that do together: --id A --id B",
    )
