"""The folder that makes a model loadable with `mlflow.pyfunc.load_model`.

It is written here, not by `mlflow.pyfunc.save_model`, which would import all of MLflow in the training task. The format
is MLflow's documented "MLmodel": https://mlflow.org/docs/latest/ml/model/#model-format. The loader module reads the
data folder, so nothing is pickled.
"""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from boostline.scoring.model_file import answer_columns
from boostline.transform import Transform

LOADER = "boostline.training.pyfunc"
DATA_FOLDER = "data/model"
_PACKAGES = ("boostline", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "xgboost")


def write_mlmodel(
    folder: Path, transform: Transform, files: Mapping[str, bytes], example: list[dict[str, Any]]
) -> None:
    """Write the folder.

    Args:
        folder: Empty; becomes the model.
        transform: Gives the raw columns and the classes.
        files: model.ubj, model.json and transform.json.
        example: Some raw rows.
    """
    data = folder / DATA_FOLDER
    data.mkdir(parents=True)
    for name, body in files.items():
        (data / name).write_bytes(body)
    inputs = list(transform.columns)
    split = {"columns": inputs, "data": [[_plain(row[name]) for name in inputs] for row in example]}
    texts = {
        "MLmodel": yaml.safe_dump(_description(transform), sort_keys=False),
        "input_example.json": json.dumps(split),
        "serving_input_example.json": json.dumps({"dataframe_split": split}),
        "requirements.txt": "\n".join(f"{name}=={_installed(name)}" for name in _PACKAGES) + "\n",
        "python_env.yaml": yaml.safe_dump(
            {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}, sort_keys=False
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _description(transform: Transform) -> dict[str, Any]:
    contract = {name: column.type for name, column in transform.columns.items()}
    # Anything but text is "any": MLflow refuses whole numbers where it is told "double" and missing ones where it is
    # told "long", and both are normal in raw rows. The transformation casts, and names what it cannot.
    signature_inputs = [
        {"type": "string" if kind == "string" else "any", "name": name, "required": False}
        for name, kind in contract.items()
    ]
    outputs = [
        {"type": kind, "name": name, "required": True}
        for name, kind in answer_columns(transform.task, transform.classes).items()
    ]
    return {
        "flavors": {
            "python_function": {
                "data": DATA_FOLDER,
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": LOADER,
                "python_version": platform.python_version(),
            }
        },
        "metadata": {"dataset": transform.dataset, "contract": contract},
        "mlflow_version": _installed("mlflow"),
        "model_uuid": uuid.uuid4().hex,
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        },
        "signature": {"inputs": json.dumps(signature_inputs), "outputs": json.dumps(outputs), "params": None},
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.isoformat() if isinstance(value, date | datetime) else value


def _installed(package: str) -> str:
    from importlib.metadata import version

    return version(package)
