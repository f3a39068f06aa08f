"""A PMML 4.4 document: what it is, what it reads, and the model."""

from __future__ import annotations

from typing import IO, Any

from boostline.errors import NotExportable
from boostline.export.answer import class_names, target_field
from boostline.export.elements import NAMESPACE, Open, element, expressible, write
from boostline.export.transformation import data_fields
from boostline.scoring.model_file import answer_columns
from boostline.transform import Transform


def write_document(file: IO[bytes], transform: Transform, model: Open, about: str) -> None:
    """Write a model as PMML.

    Args:
        file: Where to.
        transform: Gives the raw columns and the classes.
        model: The model, with its local transformations.
        about: What the document is, for its reader.

    Raises:
        NotExportable: A raw column has the name of a column of the answer.
    """
    classes = class_names(transform)
    if doubled := {*transform.columns, *transform.derived} & set(answer_columns(transform.task, classes)):
        raise NotExportable(
            f"column {doubled.pop()} has the name of a column of the answer",
            "Rename it with `source` in the dataset file and train again, or export as ubj or json",
        )
    for name in classes:
        expressible(name, f"class {name!r}")
    header = element("Header", element("Application", name="Boostline"), description=about)
    fields = [*data_fields(transform), target_field(transform.task, classes)]
    parts: list[Any] = [header, element("DataDictionary", *fields), model]
    write(file, Open("PMML", {"xmlns": NAMESPACE, "version": "4.4"}, parts))
