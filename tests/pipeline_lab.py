"""Train, judge and promote toy models as the DAG's tasks do, for the tests of what comes after training."""

from __future__ import annotations

from datetime import date

from boostline.lake.manifest import read_current, ref_of
from boostline.registry.compare import judge
from boostline.registry.moves import moves_of
from boostline.registry.promotion import promote_candidate
from boostline.registry.versions import champion_of
from boostline.tracking import tracking
from tests.model_lab import put_baseline, toy_features, train_toy

WEAK, STRONG = {"rmse": 2.0, "log_loss": 2.0}, {"rmse": 0.01, "log_loss": 0.01}


class Pipeline:
    """Train, judge and promote one toy dataset, as the DAG's tasks do."""

    def __init__(self, store, settings, dataset):
        self.store, self.settings, self.dataset = store, settings, dataset

    def train(self, day, *, seed=0, attempt=None, publish=True, dataset=None):
        dataset = dataset or self.dataset
        features = toy_features(self.store, dataset, day, seed=seed)
        model = train_toy(self.store, self.settings, dataset, features, attempt or f"m-{day}-{seed}", publish=publish)
        return features, model

    def judge(self, day, features, model, baseline=WEAK, dataset=None):
        rival = put_baseline(self.store, self.dataset, day, baseline, f"b-{day}-{features.attempt}-{baseline['rmse']}")
        return judge(
            self.store,
            self.settings,
            dataset or self.dataset,
            date.fromisoformat(day),
            model=model,
            baseline=rival,
            features=features,
        )

    def promote(self, model, *, is_backfill=False, dataset=None):
        return promote_candidate(
            self.store, self.settings, dataset or self.dataset, model=model, is_backfill=is_backfill
        )

    def run(self, day, **kwargs):
        features, model = self.train(day, **kwargs)
        return self.judge(day, features, model), self.promote(model)

    def champion(self):
        found = champion_of(self.settings, self.dataset.name)
        return found and found.version

    def moves(self):
        """Every move of the dataset's aliases, the oldest first."""
        with tracking(self.settings) as mlflow:
            return moves_of(mlflow.versions(self.dataset.name))


def train_ref(pipeline, day):
    """The published model of a date."""
    return ref_of(*read_current(pipeline.store, "model", pipeline.dataset.name, None, day))
