"""`python -m boostline_jpmml HEAP`: evaluates PMML for the REST service, which starts it and speaks with it.

HEAP is the most memory that Java may take for documents and rows, in bytes.

One JSON object a line comes in at stdin, and one goes out at stdout for it. The first one out says that Java runs, or
why it does not. Ends with its stdin, and with its parent.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import jpype

from boostline.local.processes import die_with_parent

PACKAGE = "jpmml_evaluator"
"""Never imported: its jars are all that is needed."""
BRACKETS = {"openOpen": ("(", ")"), "openClosed": ("(", "]"), "closedOpen": ("[", ")"), "closedClosed": ("[", "]")}


def main(heap: str) -> None:
    """Answer until stdin ends."""
    die_with_parent()
    # What Java prints must not come between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for answer in _answers(heap):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def start_java(heap: str) -> None:
    """Start the JVM of this process; JAVA_HOME says which.

    Args:
        heap: In bytes.

    Raises:
        ModuleNotFoundError: The package is not installed.
        Exception: Whatever JPype says of a JVM that is missing or too old.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no {PACKAGE}")
    folder = spec.submodule_search_locations[0]
    # C1 alone: a document of 6 MB is read in a third of the time.
    options = [f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xrs"]
    jpype.startJVM(*options, classpath=[f"{folder}/{place}/*" for place in ("resources", "dependencies")])
    _java("org.jpmml.evaluator.LoadingModelEvaluatorBuilder")


def _answers(heap: str) -> Iterator[dict[str, Any]]:
    try:
        start_java(heap)
    except Exception as error:  # noqa: BLE001 (the parent tells the person, whatever it is)
        yield {"unfit": _text(error)}
        return
    yield {"found": "java"}
    evaluators: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        try:
            yield {"found": _answer(evaluators, **json.loads(line))}
        except Exception as error:  # noqa: BLE001 (a document that nobody thought of must not end the others)
            yield {"refused": _text(error)}


def _answer(evaluators: dict[str, Any], do: str, model: str, document: str = "", rows: Any = ()) -> Any:
    """Deploy a base64 document, evaluate rows, or undeploy."""
    if do == "undeploy":
        del evaluators[model]
        return None
    if do == "deploy":
        evaluator = load(base64.b64decode(document))
        about = describe(evaluator)
        evaluators[model] = evaluator
        return about
    evaluator = evaluators[model]
    fields = [str(field.getName()) for field in evaluator.getInputFields()]
    return [evaluate(evaluator, fields, row) for row in rows]


def load(document: bytes) -> Any:
    """JPMML's evaluator of a document, which has passed the document's own verification rows."""
    builder = _java("org.jpmml.evaluator.LoadingModelEvaluatorBuilder")()
    evaluator = builder.load(_java("java.io.ByteArrayInputStream")(document)).build()
    evaluator.verify()
    return evaluator


def describe(evaluator: Any) -> dict[str, Any]:
    """Openscoring's ModelResponse, less what it says of the file."""
    kinds = ("inputFields", "targetFields", "outputFields")
    fields = (evaluator.getInputFields(), evaluator.getTargetFields(), evaluator.getOutputFields())
    return {
        "miningFunction": str(evaluator.getMiningFunction().value()),
        "summary": str(evaluator.getSummary()),
        "schema": {kind: [_field(field) for field in found] for kind, found in zip(kinds, fields, strict=True)},
    }


def evaluate(evaluator: Any, fields: list[str], row: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The results of a row, or why there are none. Other names than the input fields' are ignored."""
    arguments = _java("java.util.HashMap")()
    try:
        for name in fields:
            if isinstance(value := row.get(name), dict | list):
                return None, f'Field "{name}" cannot accept a list or an object'
            arguments.put(name, value)
        found = _java("org.jpmml.evaluator.EvaluatorUtil").decodeAll(evaluator.evaluate(arguments))
    except OverflowError:
        return None, f'Field "{name}" cannot accept a whole number beyond 64 bits'
    except jpype.JException as error:
        return None, _text(error)
    return {_name(item.getKey()): _plain(item.getValue()) for item in found.entrySet()}, None


def _field(field: Any) -> dict[str, Any]:
    source = field.getField()
    found = {
        "id": _name(field.getName()),
        "name": field.getDisplayName() and str(field.getDisplayName()),
        "dataType": field.getDataType() and str(field.getDataType().value()),
        "opType": field.getOpType() and str(field.getOpType().value()),
        "values": _domain(source) if isinstance(source, _java("org.dmg.pmml.DataField")) else None,
    }
    return {key: value for key, value in found.items() if value}


def _domain(field: Any) -> list[str]:
    """Intervals and valid values."""
    found = []
    for interval in field.getIntervals() if field.hasIntervals() else ():
        left, right = BRACKETS[str(interval.getClosure().value())]
        low, high = interval.getLeftMargin(), interval.getRightMargin()
        found.append(f"{left}{'-Infinity' if low is None else low}, {'Infinity' if high is None else high}{right}")
    values = field.getValues() if field.hasValues() else ()
    return found + [str(item.getValue()) for item in values if str(item.getProperty().value()) == "valid"]


def _name(name: Any) -> str:
    """A target may have no name; Openscoring calls it so."""
    return "_target" if name is None else str(name)


def _plain(value: Any) -> Any:
    """A value as JSON has it; NaN and the infinities are texts, as Jackson writes them."""
    if value is None:
        return None
    if isinstance(value, _java("java.lang.Boolean")):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, _java("java.util.Collection")):
        return [_plain(item) for item in value]
    return str(value)


def _text(error: Any) -> str:
    """What is wrong: the message of the innermost cause that has one."""
    found = str(error)
    while isinstance(error, jpype.JException):
        found = str(error.getMessage() or found)
        error = error.getCause()
    return found.partition("\n")[0][:500]


@functools.cache
def _java(name: str) -> Any:
    return jpype.JClass(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
