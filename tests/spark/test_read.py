"""Published rows as Spark frames, and the session of a notebook."""

from __future__ import annotations

import pytest

from boostline.errors import SparkLost
from boostline.lake import published
from boostline.spark.session import notebook_session
from tests.spark.lab import DAY, Lab


@pytest.mark.parametrize(("day", "table"), [(DAY, "readings"), (None, "sites")])
def test_spark_reads_the_rows_that_arrow_reads(good: Lab, day: str | None, table: str) -> None:
    found = published("clean", "meters", day, table=table, store=good.store)
    frame, rows = found.to_spark(good.spark), found.to_arrow()
    assert frame.columns == rows.column_names  # none from the folders' names
    assert (
        frame.toArrow()
        .sort_by(rows.column_names[0])
        .equals(rows.cast(frame.toArrow().schema).sort_by(rows.column_names[0]))
    )


def test_a_notebook_is_told_that_the_master_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOSTLINE_SPARK_MASTER", "spark://127.0.0.1:1")
    with pytest.raises(SparkLost, match="the Spark master spark://127.0.0.1:1 does not answer"):
        notebook_session()
