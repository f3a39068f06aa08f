"""The timetable of the training DAGs. A plugin tells Airflow of it, so it is a module of its own that imports little."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from airflow.timetables.base import DagRunInfo
from airflow.timetables.trigger import CronPartitionTimetable


class PartitionsUntilNow(CronPartitionTimetable):
    """Airflow's own, but for backfills whose last date lies ahead: they end with the newest date that has begun.

    Airflow would make the runs of days to come at once. They would wait for their days, and since the schedule goes on
    after the newest run, no other run would start before them.
    """

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterable[DagRunInfo]:
        """One for each tick from earliest to latest, both included, that is not ahead of now."""
        yield from super().iter_partition_dagrun_infos(earliest=earliest, latest=min(latest, datetime.now(UTC)))
