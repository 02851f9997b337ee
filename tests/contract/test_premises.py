"""The contract of Premises: in memory, and of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from supervisor.cloud.local.blender import LocalBlender, Search
from supervisor.cloud.local.compute import stop_nodes
from supervisor.cloud.local.premises import LocalPremises
from supervisor.cloud.local.workspaces import LocalWorkspaces
from supervisor.cloud.ports import ObjectStore, Premises
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.domain.instance import InstanceStatus
from tests.fakes import FakePremises
from tests.waiting import wait_until

from .test_compute import SPEC, local_compute

_NUMBERS = count()


@dataclass
class Place:
    premises: Premises
    jobs: tuple[str, str]  #: two jobs that something lies around of


@pytest.fixture(params=["fake", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    jobs = (f"job_premises{next(_NUMBERS)}", f"job_premises{next(_NUMBERS)}")
    if request.param == "fake":
        fake = FakePremises()
        fake.strays = {f"thing of {job}": job for job in jobs}
        yield Place(fake, jobs)
        return
    objects: ObjectStore = request.getfixturevalue("object_store")
    uploads: S3Uploads = request.getfixturevalue("uploads")
    compute = local_compute(tmp_path)
    workspaces = LocalWorkspaces(tmp_path / "workspaces", objects)
    for job in jobs:
        compute.launch(replace(SPEC, job=job, count=1), request_id=job)
        workspaces.stage(job, [], request_id=job)
        uploads.begin(f"projects/{job}/scene.blend")
    wait_until(lambda: all(instance.status is InstanceStatus.RUNNING for instance in compute.instances()))
    wait_until(lambda: all((state := workspaces.state(job)) and state.is_staged for job in jobs))
    premises = LocalPremises(
        tmp_path,
        search=lambda: Search(found=(LocalBlender(command="blender", kind="blender", version="4.5.15"),), problems=("`b` is broken",)),
        slots=2,
        min_free_bytes=0,
        objects=objects,
        uploads=uploads,
        compute=compute,
        workspaces=workspaces,
        # Orphans are old: seen from tomorrow, these are.
        clock=lambda: datetime.now(UTC) + timedelta(days=1),
    )
    yield Place(premises, jobs)
    workspaces.close()
    compute.close()
    stop_nodes(tmp_path / "nodes", grace_s=0)


def ours(found: dict[str, str], job: str) -> list[str]:
    return [what for what in found.values() if job in what]


def test_blenders_and_room_are_told(place: Place) -> None:
    assert [blender.version for blender in place.premises.blenders()] == ["4.5.15"]
    free = place.premises.free_bytes()
    assert free is not None
    assert free > 0


def test_every_failed_check_says_what_to_do(place: Place) -> None:
    checks = place.premises.checks()
    assert checks
    assert all(check.name and check.text and bool(check.remedy) != check.is_ok for check in checks)


def test_what_a_known_job_owns_is_no_orphan(place: Place) -> None:
    found = dict(place.premises.orphans(frozenset(place.jobs[:1])))
    assert ours(found, place.jobs[0]) == []
    assert ours(found, place.jobs[1])


def test_orphans_are_removed_and_then_gone(place: Place) -> None:
    known = frozenset(place.jobs[:1])
    found = ours(dict(place.premises.orphans(known)), place.jobs[1])
    removed = ours(dict(place.premises.remove_orphans(known)), place.jobs[1])
    assert sorted(removed) == sorted(found)
    wait_until(lambda: not ours(dict(place.premises.orphans(known)), place.jobs[1]))
    assert ours(dict(place.premises.orphans(frozenset())), place.jobs[0])
