"""Reading dataset files, with errors that name the file, the key and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from boostline.dataset.model import Dataset
from boostline.errors import DatasetInvalid


def load_dataset(path: Path) -> Dataset:
    """Read and check one dataset file.

    Raises:
        DatasetInvalid: Names the file, the key and what is allowed.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError as error:
        raise DatasetInvalid(f"{path}: no such dataset file", f"Files there: {_names(path.parent)}") from error
    except OSError as error:
        raise DatasetInvalid(f"{path}: cannot be read: {error.strerror}", "It is to be a file of text") from error
    # PyYAML's own errors are but of the grammar: a value such as 2013-02-30 or `!!bool maybe` fails as Python does.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise DatasetInvalid(f"{path}: not YAML: {error}", "Mend the file and run `boostline check`") from error
    dataset = parse_dataset(data, source=str(path))
    if dataset.name != path.stem:
        raise DatasetInvalid(f"{path}: name: {dataset.name!r} differs from the file's name", f"Name it {path.stem}")
    return dataset


def parse_dataset(data: Any, source: str = "dataset") -> Dataset:
    """Check a dataset given as a mapping; `source` is what error messages call it."""
    if not isinstance(data, dict):
        raise DatasetInvalid(f"{source}: a dataset file is a mapping of keys", "See docs/dataset-file.md")
    try:
        return Dataset.model_validate(data)
    except ValidationError as error:
        problems = [f"{source}: {_explain(item)}" for item in error.errors()]
        raise DatasetInvalid("\n".join(problems), "Mend the file and run `boostline check`") from error


def change_dataset(dataset: Dataset, overrides: Mapping[str, Any]) -> Dataset:
    """A copy with some values replaced, checked again.

    Args:
        dataset: The dataset to start from.
        overrides: Values by dotted path, such as `{"model.rounds": 50}`.

    Raises:
        DatasetInvalid: A path that does not exist, or a value out of bounds.
    """
    data = dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for path, value in overrides.items():
        *parents, leaf = path.split(".")
        node = data
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return parse_dataset(data, source=f"{dataset.name} with {dict(overrides)}")


def dataset_files(folder: Path) -> list[Path]:
    """All dataset files of a folder, sorted by name."""
    return sorted(folder.glob("*.yaml"))


def dataset_path(folder: Path, name: str) -> Path:
    """The file of a dataset; a name that is no plain name is refused, so that a path cannot climb."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise DatasetInvalid(f"{name!r} is no dataset name", f"Datasets: {_names(folder)}")
    return folder / f"{name}.yaml"


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice; YAML itself would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for (key_node, _), key in zip(node.value, keys, strict=True):
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        return super().construct_mapping(node, deep)


def _explain(item: Any) -> str:
    """One pydantic error as `key: what is wrong`."""
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        allowed = _allowed_keys(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(allowed)}"
        return f"{path}: unknown key; {hint}"
    given = "" if item["type"] in ("missing", "value_error") else f" (given: {item['input']!r})"
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: {message}{given}" if path else f"{message}{given}"


def _allowed_keys(loc: tuple[Any, ...]) -> list[str]:
    """The keys that the section at `loc` may have."""
    options: list[type[BaseModel]] = [Dataset]
    for part in loc:
        tagged = [option for option in options if part in _kinds(option)]
        fields = next((option.model_fields for option in options if part in option.model_fields), None)
        if tagged:
            options = tagged
        elif fields:
            options = list(_sections_in(fields[part].annotation))
    return sorted({field.alias or name for option in options for name, field in option.model_fields.items()})


def _kinds(section: type[BaseModel]) -> tuple[Any, ...]:
    kind = section.model_fields.get("kind")
    return getattr(kind.annotation, "__args__", ()) if kind else ()


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _sections_in(inner)


def _names(folder: Path) -> str:
    return ", ".join(path.stem for path in dataset_files(folder)) or "none"
