"""The edge of the streaming job: a dataset's name in, an exit code out."""

from __future__ import annotations

import argparse
import sys

from boostline.dataset import dataset_path, load_dataset
from boostline.lake.store import Store
from boostline.settings import Settings
from boostline.spark.job import begin, exit_code, tell
from boostline.spark.session import spark_session
from boostline.spark.stream import Stream, start_stream


def main(description: str, argv: list[str] | None = None) -> None:
    """Run one stream and end the process: 0, or 65 (do not start again), or 75 (start again)."""
    parser = argparse.ArgumentParser(prog="spark-submit jobs/score_stream.py", description=description)
    parser.add_argument("--dataset", required=True, help="name of a file in conf/datasets, without .yaml")
    parser.add_argument("--once", action="store_true", help="score what is there, then end")
    args = parser.parse_args(argv)
    begin()
    sys.exit(run_stream(args.dataset, once=args.once))


def run_stream(name: str, *, once: bool) -> int:
    """Score one dataset's stream and return the exit code."""
    try:
        settings = Settings()
        dataset = load_dataset(dataset_path(settings.datasets, name))
        store = Store(settings)
        store.probe()
        with spark_session(f"boostline stream {name}") as spark:
            start_stream(Stream(spark, store, settings, dataset), once=once).awaitTermination()
        return 0
    except Exception as error:  # noqa: BLE001 (whatever it is becomes an exit code)
        return exit_code(tell(error))
