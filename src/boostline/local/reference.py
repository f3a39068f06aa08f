"""The reference of the settings, made from the settings themselves: `python -m boostline.local.reference`."""

from __future__ import annotations

import sys

from boostline.local.ports import Ports, variable
from boostline.serving.settings import ServeSettings
from boostline.settings import Environment, Settings

HEAD = """# Settings

Environment variables; none is needed. `boostline` takes those of the running embedded stack from `.boostline/stack.env`, where they
are not set already. Airflow's tasks have the environment in which `make up` was typed, with the stack's own addresses and folders:
`BOOSTLINE_RETRIES=0 make up`. Where `BOOSTLINE_HOME` is set, set it for every command, `make down` too.
S3 keys are `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. Sizes are in bytes, times in seconds.
The compose stack has [settings of its own](deploy.md#settings).

This page is made from the code that reads them (`python -m boostline.local.reference > docs/settings.md`).
"""


def render() -> str:
    """The reference as Markdown."""
    parts = [HEAD, "## Of every process\n", *_table(Settings), "## Of `boostline serve`\n", *_table(ServeSettings)]
    parts += ["## Ports of the embedded stack\n", "| name | default |", "|---|---|"]
    return "\n".join([*parts, *(f"| `{variable(name)}` | {port} |" for name, port in Ports()._asdict().items()), ""])


def _table(settings: type[Environment]) -> list[str]:
    prefix, rows = settings.model_config["env_prefix"], list[str]()
    for name, field in settings.model_fields.items():
        # What is made when it is asked for differs from machine to machine: a number of threads.
        default = "cores it may use" if field.default_factory else f"`{field.default}`" if field.default else "–"
        rows.append(f"| `{(prefix + name).upper()}` | {default} | {field.description} |")
    return ["| name | default | meaning |", "|---|---|---|", *rows, ""]


if __name__ == "__main__":
    sys.stdout.write(render())
