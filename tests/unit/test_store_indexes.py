"""What is asked often of many frames and files has an index: a query that walks through all of a job's frames grows with the job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from supervisor.store import downloads, files, frames
from supervisor.store.database import Connection
from tests.fakes.farm import BEGIN, FakeFarm

QUERIES: dict[str, Callable[[Connection], object]] = {
    "frames_damaged": lambda connection: frames.damaged(connection, "job_1"),
    "frames_to_free": lambda connection: frames.claims_to_free(connection, "job_1"),
    "frames_by_time": lambda connection: frames.newest_render_times(connection, "job_1", limit=100),
    "frames_by_time (newest)": lambda connection: downloads.newest_received_at(connection, "job_1"),
    "frames_by_time (since)": lambda connection: frames.has_received_since(connection, "job_1", BEGIN),
    "frames_by_time (cover)": lambda connection: frames.newest_with_preview(connection, "job_1"),
    "frames_by_status": lambda connection: frames.counts(connection, "job_1"),
    "files_by_status": files.unchecked,
}


@pytest.mark.parametrize("index", QUERIES)
def test_a_frequent_query_goes_by_its_index(tmp_path: Path, index: str) -> None:
    bench = FakeFarm.open(tmp_path)
    asked: list[tuple[str, tuple[object, ...]]] = []
    with bench.farm.db.read() as connection:
        event.listen(connection, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
        QUERIES[index](connection)
        (statement, values), *_ = asked
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]

    assert any(index.partition(" ")[0] in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN")], plan
