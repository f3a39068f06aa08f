"""The models that a service holds, and how they follow the registry's aliases.

One thread asks MLflow every few seconds. A model is loaded, checked and tried out before anybody sees it; then one
assignment swaps the whole picture, so a request that has begun ends with the model that it began with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from boostline.dataset import dataset_files
from boostline.errors import BoostlineError, EnvironmentUnfit, RetryError
from boostline.lake.store import Store
from boostline.registry.versions import CHALLENGER, CHAMPION, load_version
from boostline.scoring.few_rows import FewRows
from boostline.scoring.model_file import Model
from boostline.serving.examples import example_row
from boostline.serving.settings import ServeSettings
from boostline.settings import Settings
from boostline.tracking import TAG, Tracking, Version, tracking

log = logging.getLogger("boostline.serving")

MODEL_THREADS = 1
"""Threads of XGBoost in one prediction: requests run beside each other, and large ones are cut into parts."""
AGAIN_SECONDS, AGAIN_LOOKS = 60, 20
"""A version that was refused is loaded again after so long, or so many looks where that is sooner: loading it downloads
it, and what was refused once is mostly refused again."""


@dataclass(frozen=True)
class Served:
    """A loaded model and where it comes from."""

    dataset: str
    alias: str
    version: str
    sha256: str
    model: Model
    coder: FewRows
    loaded: float = field(default_factory=time.time)

    @property
    def head(self) -> dict[str, str]:
        """What every answer says of it."""
        return {"dataset": self.dataset, "version": self.version, "date": self.model.info.date}


@dataclass(frozen=True)
class Picture:
    """What the service knows at one moment."""

    datasets: tuple[str, ...] = ()
    served: Mapping[tuple[str, str], Served] = field(default_factory=dict)
    """By dataset and alias."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why an alias was not followed, by `dataset@alias`."""
    registry: str = "was not asked yet"
    """`ok`, or why the registry did not answer."""
    asked: float = 0.0
    """When the registry last answered, in seconds since 1970."""

    def champion(self, dataset: str) -> Served | None:
        """The model that answers."""
        return self.served.get((dataset, CHAMPION))

    def challenger(self, dataset: str) -> Served | None:
        """The model that is tried beside it, where one is wanted and there."""
        return self.served.get((dataset, CHALLENGER))

    @property
    def models(self) -> dict[str, str]:
        """`dataset@alias` → version."""
        return {f"{dataset}@{alias}": item.version for (dataset, alias), item in sorted(self.served.items())}


@dataclass(frozen=True)
class _Refused:
    """A version that could not be used."""

    version: str
    sha256: str | None
    error: Exception
    until: float
    """When it is loaded again, by the clock of `Models`."""


class Models:
    """The current picture, kept up to date by one thread.

    Args:
        settings: The lake, MLflow, the folder of dataset files: each of them is served.
        serve: Poll interval, and which datasets want a challenger.
        clock: Seconds that only grow.
    """

    def __init__(self, settings: Settings, serve: ServeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._serve = serve
        self._clock = clock
        self._refused: dict[tuple[str, str], _Refused] = {}
        self._tried = {name for name, share in serve.challenger_share.items() if share > 0} | serve.shadow
        self._store = Store(settings)
        self.current = Picture()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Ask once, then go on asking in a thread until the end of the block."""
        stop = threading.Event()
        with tracking(self._settings) as mlflow:
            self.refresh(mlflow)
            thread = threading.Thread(target=self._follow, args=(mlflow, stop), name="follow-aliases", daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join(self._serve.poll_seconds)

    def refresh(self, mlflow: Tracking) -> None:
        """Make the picture that the registry asks for. What cannot be had stays as it was."""
        before = self.current
        served, refused = dict(before.served), list[str]()
        datasets = tuple(path.stem for path in dataset_files(self._settings.datasets))
        wanted = self._wanted(datasets)
        # Of an alias that this look does not come to, what was wrong still is.
        problems = {name: before.problems[name] for name in map("@".join, wanted) if name in before.problems}
        unknown = "there is no such dataset: mend BOOSTLINE_SERVE_CHALLENGER_SHARE or BOOSTLINE_SERVE_SHADOW"
        problems |= {f"{name}@{CHALLENGER}": unknown for name in sorted(self._tried - {*datasets})}
        for dataset, alias in wanted:
            name = f"{dataset}@{alias}"
            try:
                self._bring_up(mlflow, served, dataset, alias)
                problems.pop(name, None)
            except RetryError as error:
                self._tell(before, datasets=datasets, served=served, problems=problems, registry=error.message)
                return
            except BoostlineError as error:
                problems[name] = error.message
                refused += [error.message] if isinstance(error, EnvironmentUnfit) else []
            except Exception as error:  # whatever is wrong with one model, the others are followed
                problem = f"{type(error).__name__}: {error}"
                if before.problems.get(name) != problem:  # once, not at every look
                    log.exception("%s: a fault that no check foresaw", name)
                problems[name] = problem
        served = {key: item for key, item in served.items() if key[0] in datasets}
        if refused and len(refused) == len(wanted):  # of one model alone, it may be that model's own rights
            self._tell(before, datasets=datasets, served=served, problems=problems, registry=refused[0])
            return
        self._tell(before, datasets=datasets, served=served, problems=problems, registry="ok", asked=time.time())

    def _follow(self, mlflow: Tracking, stop: threading.Event) -> None:
        while not stop.wait(self._serve.poll_seconds):
            try:
                self.refresh(mlflow)
            except Exception:  # this thread must outlive whatever one look at the registry meets
                log.exception("following the aliases failed; trying again")

    def _wanted(self, datasets: tuple[str, ...]) -> list[tuple[str, str]]:
        return [(name, CHAMPION) for name in datasets] + [
            (name, CHALLENGER) for name in datasets if name in self._tried
        ]

    def _bring_up(self, mlflow: Tracking, served: dict[tuple[str, str], Served], dataset: str, alias: str) -> None:
        version, key = mlflow.aliased(dataset, alias), (dataset, alias)
        if version is None:
            served.pop(key, None)
            return
        held, refused = served.get(key), self._refused.get(key)
        wanted = (version.version, version.tags.get(TAG + "sha256"))
        if held and (held.version, held.sha256) == wanted:
            self._refused.pop(key, None)  # who moves the alias there once more wants it tried at once
            return
        if refused and (refused.version, refused.sha256) == wanted and self._clock() < refused.until:
            raise refused.error.with_traceback(None)  # which would hold the model
        try:
            served[key] = self._load(version, alias)
        except RetryError:
            raise
        except Exception as error:
            wait = min(AGAIN_SECONDS, AGAIN_LOOKS * self._serve.poll_seconds)
            self._refused[key] = _Refused(*wanted, error, self._clock() + wait)
            raise

    def _load(self, version: Version, alias: str) -> Served:
        model = load_version(self._store, version)
        # A model that cannot score is refused here; and the first request need not wait for the first prediction.
        model.answer(example_row(model), MODEL_THREADS)
        return Served(version.dataset, alias, version.version, model.info.sha256, model, FewRows(model.transform))

    def _tell(self, before: Picture, **changes: Any) -> None:
        """Swap the picture, and log what is new in it."""
        self.current = now = Picture(**{**vars(before), **changes})
        for name, version in now.models.items():
            if before.models.get(name) != version:
                log.info("%s is version %s now, was %s", name, version, before.models.get(name, "none"))
        for name in before.models.keys() - now.models.keys():
            log.info("%s is gone", name)
        for name, problem in now.problems.items():
            if before.problems.get(name) != problem:
                log.error("%s was not followed: %s", name, problem)
        if now.registry != before.registry:
            log.log(logging.INFO if now.registry == "ok" else logging.WARNING, "registry: %s", now.registry)
