"""Our errors as Airflow's: retry, fail for good, or skip."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from boostline.errors import BoostlineError, NothingToDo

log = logging.getLogger(__name__)


@contextmanager
def airflow_errors() -> Iterator[None]:
    """RETRY classes are retried, FAIL classes are not, a run with nothing to do is skipped."""
    try:
        yield
    except NothingToDo as error:
        log.warning("Skipped: %s", error)
        raise AirflowSkipException(str(error)) from None
    except BoostlineError as error:
        kind = AirflowException if error.retry else AirflowFailException
        raise kind(f"{type(error).__name__}: {error}") from error
