"""A database of before the farm rented on a cloud: what is in it stays, and reads as if nothing had ever been interrupted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor.domain.cost import Run
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.store import instances, jobs, runs
from supervisor.store.database import Database
from supervisor.store.migrate import MIGRATIONS, migrate

_AT = "2026-01-05T09:00:00.000000+00:00"
_SETTINGS = (
    '{"frames": "1-3", "instances": 2, "market": "on_demand", "max_price_usd_per_h": null, "instance_types": [], "scene": null, '
    '"camera": null, "output": {"name": null, "format": null, "resolution_pct": null, "samples": null}, "persistent_data": null}'
)


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A database of step 3 with a job, its launch, an instance and a run, brought up to date."""
    steps = tmp_path / "steps"
    (steps / "versions").mkdir(parents=True)
    (steps / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    for path in sorted((MIGRATIONS / "versions").glob("000[123]*.py")):
        (steps / "versions" / path.name).write_text(path.read_text())
    path = tmp_path / "kiln.db"
    db = Database.open(path)
    migrate(db, path, migrations=steps)
    with db.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, name, status, status_since, reason, then_reason, settings, version, frame_total, order_revision,"
            " order_written, journal_ms, ordered, launch_failures, blender_version, scout_frames, created_at)"
            " VALUES ('job_1', 'a', 'paused', ?, '', '', ?, 0, 3, 1, '', 0, 0, 0, '', '[]', ?)",
            (_AT, _SETTINGS, _AT),
        )
        connection.exec_driver_sql(
            "INSERT INTO launches (request_id, job_id, count, at, problem) VALUES ('launch_1', 'job_1', 2, ?, '')", (_AT,)
        )
        connection.exec_driver_sql(
            "INSERT INTO instances (id, job_id, request_id, node, status, market, instance_type, price_usd_per_h, launched_at, note,"
            " beat_etag, claims_freed)"
            " VALUES ('i-1', 'job_1', 'launch_1', 'node_1', 'stopped', 'on_demand', 'c7i.large', '0.1', ?, '', '', 0)",
            (_AT,),
        )
        connection.exec_driver_sql(
            "INSERT INTO runs (instance_id, began_at, job_id, price_usd_per_h, was_interrupted) VALUES ('i-1', ?, 'job_1', '0.1', 0)",
            (_AT,),
        )
    migrate(db, path)
    return db


def test_rows_of_before_are_read_as_never_interrupted(db: Database) -> None:
    with db.read() as connection:
        [instance] = instances.instances_of(connection, "job_1")
        [launch] = instances.launches_of(connection, "job_1")
        [run] = runs.runs_of(connection, "job_1")
        job = jobs.find_job(connection, "job_1")

    assert (instance.id, instance.status, instance.job, instance.works_for) == ("i-1", InstanceStatus.STOPPED, "job_1", "")
    assert (instance.is_taken_back, instance.given_back) == (False, False)
    assert (launch.market, launch.workspace, launch.granted) == (Market.ON_DEMAND, "", None)
    assert run == Run(instance="i-1", price_usd_per_h=Decimal("0.1"), began_at=datetime(2026, 1, 5, 9, tzinfo=UTC))
    assert job is not None
    assert (job.spot_missed_since, job.settings.priority) == (None, 50)


def test_what_belongs_to_a_job_still_goes_with_it(db: Database) -> None:
    with db.write() as connection:
        jobs.remove_job(connection, "job_1")

    with db.read() as connection:
        assert instances.rented_instances(connection) == []
        assert runs.runs_of(connection, "job_1") == []
