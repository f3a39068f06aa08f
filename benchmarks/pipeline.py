"""What the pipeline costs and reaches, beside a plain script that learns the same models from the same rows.

    python benchmarks/pipeline.py flights                    four dates, and the time of a first run and of a repeat
    python benchmarks/pipeline.py liberty FILE               both Liberty Mutual datasets

Needs a running stack (make up) in whose lake none of these dates has run: a run that finds its work done is no first
one, and is refused. `BOOSTLINE_HOME=/tmp/bench make up` sets up a stack with an empty lake; give the same variable here.

Seconds are from trigger to the end of the run by Airflow's clock, the machine's other load included. CPU seconds are of
all processes of the stack from before the trigger until the run was seen to end: what its services use when they are
idle is among them. The ratio is of the seconds, against `benchmarks/plain.py`, run here right after; what that script
does not do stands there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Column, Table

from boostline.dataset import dataset_path, load_dataset
from boostline.lake.raw import land
from boostline.lake.store import Store
from boostline.local.demo import make_files
from boostline.local.layout import load_stack_env
from boostline.local.places import stack_home
from boostline.local.stack import read_state
from boostline.orchestration.client import AirflowClient
from boostline.orchestration.follow import follow_run
from boostline.settings import Settings

PLAIN = Path(__file__).parent / "plain.py"
WORK = ("ingest", "featurize", "baseline", "train")
FLIGHT_DATES = [date(2013, 3, 31), date(2013, 6, 30), date(2013, 9, 30), date(2013, 12, 31)]
console = Console(width=130)  # the tables' width, also where the output goes to a file


def run_once(client: AirflowClient, store: Store, dataset: str, day: date, *, first: bool) -> dict[str, Any]:
    """Trigger a run, follow it, and return its result with the seconds and CPU seconds that it took.

    A first run that finds any of its work done ends the benchmark.
    """
    dag_id = f"{dataset}_train"
    client.ready_dag(dag_id)
    used = stack_cpu_seconds()
    run_id = client.trigger(dag_id, day, {})
    run = follow_run(client, dag_id, run_id, Console(quiet=True))
    used = stack_cpu_seconds() - used
    if first and (done := [name for name in WORK if not client.xcom(dag_id, run_id, name)["ran"]]):
        sys.exit(
            f"error: {dataset} for {day} is no first run: {', '.join(done)} found the work done. Start a stack with an empty "
            "lake, such as BOOSTLINE_HOME=/tmp/bench make up, and measure with the same variable"
        )
    began, ended = (datetime.fromisoformat(run[key].replace("Z", "+00:00")) for key in ("queued_at", "end_date"))
    handed = client.xcom(dag_id, run_id, "report")
    result: dict[str, Any] = json.loads(store.get(handed["result"].removeprefix(store.uri("")))[0])
    return result | {"wall": (ended - began).total_seconds(), "cpu": used}


def first_and_repeat(client: AirflowClient, store: Store, dataset: str, day: date) -> list[dict[str, Any]]:
    """The same date twice: the first run does all the work, the repeat finds it done."""
    return [run_once(client, store, dataset, day, first=first) for first in (True, False)]


def stack_cpu_seconds() -> float:
    """What the stack's processes have used so far. A process that has ended counts with its parent, which waited for it."""
    supervisor = psutil.Process(int(read_state(stack_home())["pid"]))
    total = 0.0
    for item in [supervisor, *supervisor.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
            times = item.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def plain(*arguments: str) -> dict[str, Any]:
    """The plain script's figures."""
    done = subprocess.run([sys.executable, str(PLAIN), *arguments], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def flights(client: AirflowClient, store: Store, settings: Settings) -> None:
    """Four dates: log loss of both models; the first run's and a repeat's seconds."""
    dataset = load_dataset(dataset_path(settings.datasets, "nyc_flights"))
    folder = make_files(settings.home / "demo")
    for name in ("weather", "planes"):
        land(store, dataset, name, [folder / f"{name}.csv"], None)
    for path in sorted((folder / "flights").glob("*.csv")):
        land(store, dataset, "flights", [path], date.fromisoformat(path.stem))
    table = Table(
        "date",
        "baseline",
        "XGBoost",
        "gain",
        "s",
        "CPU s",
        "repeat s",
        "plain baseline",
        "plain XGBoost",
        "plain s",
        "plain CPU s",
        "ratio",
    )
    gains = []
    for day in FLIGHT_DATES:
        first, again = first_and_repeat(client, store, "nyc_flights", day)
        beside = plain("nyc_flights", str(folder), "--date", day.isoformat())
        ours, theirs = (first[name]["metrics"]["test"]["log_loss"] for name in ("candidate", "baseline"))
        gains.append(1 - ours / theirs)
        table.add_row(
            str(day), f"{theirs:.4f}", f"{ours:.4f}", f"{gains[-1]:.1%}",
            f"{first['wall']:.1f}", f"{first['cpu']:.1f}", f"{again['wall']:.1f}",
            f"{beside['test']['baseline']:.4f}", f"{beside['test']['xgboost']:.4f}",
            f"{beside['wall_seconds']:.1f}", f"{beside['cpu_seconds']:.1f}", f"{first['wall'] / beside['wall_seconds']:.1f}",
        )  # fmt: skip
    console.print(table, f"Mean gain over the baseline: {sum(gains) / len(gains):.1%} of log loss")


def liberty(client: AirflowClient, store: Store, settings: Settings, file: Path) -> None:
    """Both datasets: RMSE by split, seconds, ratio."""
    times = ("s", "CPU s", "repeat s", "plain s", "plain CPU s", "ratio")
    table = Table(Column("dataset", no_wrap=True), "model", "train", "valid", "test", "in sample", *times)
    for name in ("liberty_mutual_seed", "liberty_mutual"):
        dataset, day = load_dataset(dataset_path(settings.datasets, name)), date(2024, 1, 1)
        land(store, dataset, dataset.daily_table, [file], day)
        first, again = first_and_repeat(client, store, name, day)
        beside = plain(name, str(file))
        seconds = [first["wall"], first["cpu"], again["wall"], beside["wall_seconds"], beside["cpu_seconds"]]
        for model in ("baseline", "candidate"):
            metrics = first[model]["metrics"]
            cells = [f"{metrics[split]['rmse']:.4f}" for split in ("train", "valid", "test")]
            inside = f"{metrics['in_sample']['rmse']:.4f}" if "in_sample" in metrics else ""
            cells += [inside, *(f"{value:.1f}" for value in seconds)]
            table.add_row(name, model, *cells, f"{first['wall'] / beside['wall_seconds']:.1f}")
    console.print(table)


def memory() -> None:
    """Resident memory of the stack's largest processes right now."""
    supervisor = psutil.Process(int(read_state(stack_home())["pid"]))
    sizes = []
    for item in supervisor.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
            sizes.append((item.memory_info().rss / 2**20, " ".join(item.cmdline())[:90]))
    table = Table("MiB now", "process")
    for size, command in sorted(sizes, reverse=True)[:8]:
        table.add_row(f"{size:.0f}", command)
    console.print(table)


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["flights", "liberty"])
    parser.add_argument("file", type=Path, nargs="?")
    args = parser.parse_args()
    load_stack_env(stack_home())
    settings = Settings()
    client, store = AirflowClient(settings), Store(settings)
    if args.what == "flights":
        flights(client, store, settings)
    elif args.file is None:
        parser.error("liberty needs the path of the user's train.csv")
    else:
        liberty(client, store, settings, args.file)
    memory()


if __name__ == "__main__":
    main()
