"""What Prometheus scrapes: requests, errors, latency, batch sizes, predictions, and which models answer how old."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as Count
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from boostline.serving.models import Picture, Served

LATENCY = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 5, 10, 100, 1_000, 10_000, 100_000)
PROBABILITY = tuple(step / 20 for step in range(1, 21))
NUMBER = tuple(
    sorted([0.0, *(sign * digit * 10.0**power for sign in (-1, 1) for digit in (1, 2, 5) for power in range(-2, 7))])
)


class Metrics:
    """All metrics of one service process."""

    def __init__(self, picture: Callable[[], Picture]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Count(
            "boostline_requests", "Requests answered", ["route", "dataset", "status"], registry=self._registry
        )
        self._errors = Count(
            "boostline_request_errors", "Requests refused or failed", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "boostline_request_seconds", "From first byte in to last byte out", ["route"],
            buckets=LATENCY, registry=self._registry,
        )  # fmt: skip
        self._rows = Histogram(
            "boostline_batch_rows", "Rows of a request", ["dataset"], buckets=ROWS, registry=self._registry
        )
        self.shadow_dropped = Count(
            "boostline_shadow_dropped", "Requests not shadowed, too many waited", ["dataset"], registry=self._registry
        )
        self.shadow_rows = Count(
            "boostline_shadow_rows", "Rows that the challenger scored unseen", ["dataset"], registry=self._registry
        )
        self.shadow_difference = Count(
            "boostline_shadow_difference",
            "Sum over those rows: distance of number or probability from the champion's; multiclass: other class",
            ["dataset"],
            registry=self._registry,
        )
        self._predictions = _Predictions()
        self._registry.register(self._predictions)
        self._registry.register(_ModelAge(picture))

    def request(self, route: str, dataset: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, dataset, status).inc()
        self._seconds.labels(route).observe(seconds)
        if status >= 400:
            self._errors.labels(route, status).inc()

    def scored(self, served: Served, answer: Any, role: str) -> None:
        """Count predictions.

        Args:
            served: The model that made them.
            answer: What `Model.answer` gave, or `Model.answer_coded`.
            role: `answered` or `shadow`.
        """
        if role == "answered":
            self._rows.labels(served.dataset).observe(len(answer))
        self._predictions.add(served, answer, role)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        page: bytes = generate_latest(self._registry)
        return page


class _Predictions(Collector):
    """Numbers, probabilities of the second class, or classes, by dataset, version and role.

    prometheus_client counts one value a call; a batch of 10,000 is counted here in one go.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[tuple[str, str, str], tuple[tuple[float, ...], list[int], float]] = {}
        self._classes: dict[tuple[str, str, str, str], int] = {}

    def add(self, served: Served, answer: Any, role: str) -> None:
        """Count the predictions of one request."""
        import numpy as np

        labels, task = (served.dataset, served.version, role), served.model.info.task
        few, name = isinstance(answer, list), "probability" if task == "binary" else "prediction"
        values: Any = [row[name] for row in answer] if few else answer.column(name)
        if task == "multiclass":
            counts = Counter(values if few else values.to_pylist())
            with self._lock:
                for kind, count in counts.items():
                    self._classes[*labels, kind] = self._classes.get((*labels, kind), 0) + count
            return
        bounds = PROBABILITY if task == "binary" else NUMBER
        if few:
            places, total = Counter(bisect_left(bounds, value) for value in values), sum(values)
        else:
            numbers = values.to_numpy()
            hit, times = np.unique(np.searchsorted(bounds, numbers), return_counts=True)
            places, total = Counter(dict(zip(hit.tolist(), times.tolist(), strict=True))), float(numbers.sum())
        with self._lock:
            _, buckets, before = self._numbers.setdefault(labels, (bounds, [0] * (len(bounds) + 1), 0.0))
            for place, count in places.items():
                buckets[place] += count
            self._numbers[labels] = (bounds, buckets, before + total)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for."""
        numbers = HistogramMetricFamily(
            "boostline_prediction",
            "Numbers, or probabilities of the second class",
            labels=["dataset", "version", "role"],
        )
        # A histogram with buckets below 0 has no sum of its own, and a counter may not fall.
        sums = GaugeMetricFamily(
            "boostline_prediction_running_sum", "Sum of those", labels=["dataset", "version", "role"]
        )
        classes = CounterMetricFamily(
            "boostline_predicted_class", "Rows by predicted class", labels=["dataset", "version", "role", "class"]
        )
        with self._lock:
            for labels, (bounds, buckets, total) in self._numbers.items():
                running, cumulative = 0, []
                for bound, count in zip([*map(str, bounds), "+Inf"], buckets, strict=True):
                    running += count
                    cumulative.append((bound, running))
                numbers.add_metric(labels, cumulative, None)
                sums.add_metric(labels, total)
            for key, count in self._classes.items():
                classes.add_metric(key, count)
        yield from (numbers, sums, classes)


class _ModelAge(Collector):
    """The models of this moment, so that none that is gone lingers."""

    def __init__(self, picture: Callable[[], Picture]) -> None:
        self._picture = picture

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for."""
        names, now, picture = ["dataset", "alias", "version"], time.time(), self._picture()
        info = GaugeMetricFamily("boostline_model_info", "1 for each model that is loaded", labels=[*names, "date"])
        age = GaugeMetricFamily("boostline_model_age_seconds", "Since the end of its data date, UTC", labels=names)
        loaded = GaugeMetricFamily("boostline_model_loaded_seconds", "Since it was loaded", labels=names)
        for (dataset, alias), served in picture.served.items():
            labels, day = [dataset, alias, served.version], served.model.info.date
            info.add_metric([*labels, day], 1)
            end = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() + 86_400
            age.add_metric(labels, now - end)
            loaded.add_metric(labels, now - served.loaded)
        up = GaugeMetricFamily("boostline_registry_up", "Whether MLflow answered the last time")
        up.add_metric([], picture.registry == "ok")
        problems = GaugeMetricFamily("boostline_model_problems", "Aliases that could not be followed")
        problems.add_metric([], len(picture.problems))
        yield from (info, age, loaded, up, problems)
