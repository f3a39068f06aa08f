"""Every failure that a person may meet, each with what to do about it.

BoostlineError
├── NothingToDo             no fault: Airflow skips the rest of the run
├── RetryError              a later try may succeed: Airflow retries
│   ├── StoreUnavailable    S3 does not answer
│   ├── Superseded          another run published this date first, from other inputs
│   ├── InputChanged        a raw file changed while it was read, or the dataset file under a stream
│   ├── SparkLost           the driver, an executor or the master went away
│   └── ServiceUnavailable  MLflow or Airflow does not answer
└── FailError               the same try would fail again: Airflow does not retry
    ├── DatasetInvalid      the dataset file is wrong
    ├── RunDateInvalid      no date, a date that is none, or two that disagree
    ├── DataMissing         no raw file for a date, or a window too thin
    ├── Outdated            a newer run of this date has published from newer inputs
    ├── DataInvalid         a file, a column or too many rows break the contract
    ├── StoreUnsuitable     no conditional writes, no bucket, refused keys
    ├── EnvironmentUnfit    no Java, no jars, a port in use
    ├── ModelRefused        a model file is gone, is not the published one, or cannot be used
    └── NotExportable       a format cannot say exactly what the model does
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class BoostlineError(Exception):
    """A failure with its remedy.

    Args:
        message: What is wrong; names the file, key, column or row.
        remedy: What a person does next.
    """

    retry: ClassVar[bool] = False

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}.\n{self.remedy}." if self.remedy else self.message

    def to_dict(self) -> dict[str, Any]:
        """The form that crosses a process border as `error.json`."""
        return {"class": type(self).__name__, "retry": self.retry, "message": self.message, "remedy": self.remedy}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> BoostlineError:
        """Rebuild the error that another process wrote; an unknown class keeps its retry flag."""
        known = {cls.__name__: cls for cls in _below(BoostlineError)}
        fallback = RetryError if data.get("retry") else FailError
        return known.get(str(data.get("class")), fallback)(str(data.get("message", "")), str(data.get("remedy", "")))


class RetryError(BoostlineError):
    """A later try may succeed."""

    retry = True


class FailError(BoostlineError):
    """The same try would fail again."""


class NothingToDo(BoostlineError):
    """No raw file for the date and `on_missing: skip`, or no champion to score with: the run ends here, green."""


class StoreUnavailable(RetryError):
    """S3 does not answer, or answers with a server error."""


class Superseded(RetryError):
    """Another attempt published this partition first, from other inputs."""


class InputChanged(RetryError):
    """A raw file was replaced while it was read, or the dataset file while a stream ran."""


class SparkLost(RetryError):
    """The Spark driver, its executors or the master went away."""


class ServiceUnavailable(RetryError):
    """MLflow or Airflow does not answer."""


class DatasetInvalid(FailError):
    """The dataset file is wrong."""


class RunDateInvalid(FailError):
    """No run date, a date that is none, or two that disagree."""


class DataMissing(FailError):
    """No raw file for a date, or a window too thin to learn from."""


class Outdated(FailError):
    """A newer run of this date has published from newer inputs than this one was handed."""


class DataInvalid(FailError):
    """A file, a column or too many rows break the contract."""


class StoreUnsuitable(FailError):
    """The store lacks conditional writes or the bucket, or refuses the keys."""


class EnvironmentUnfit(FailError):
    """This machine lacks something: Java, a jar, a free port."""


class ModelRefused(FailError):
    """A model file does not match its SHA-256, or cannot be used."""


class NotExportable(FailError):
    """A format cannot say exactly what the model does."""


def _below(parent: type[BoostlineError]) -> Iterator[type[BoostlineError]]:
    for cls in parent.__subclasses__():
        yield cls
        yield from _below(cls)
