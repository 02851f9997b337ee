"""The contract of Premises: in memory, of this machine, and of an AWS account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.local.blender import LocalBlender, Search
from supervisor.cloud.local.compute import stop_nodes
from supervisor.cloud.local.premises import LocalPremises
from supervisor.cloud.local.workspaces import LocalWorkspaces
from supervisor.cloud.ports import ObjectStore, Premises, StagedFile
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.domain.instance import InstanceStatus
from tests.aws.farm import SPEC as RENTED
from tests.aws.farm import Renting
from tests.aws.moto_server import Moto
from tests.aws.premises_place import PremisesPlace
from tests.aws.workspace_place import WorkspacePlace
from tests.fakes import FakePremises
from tests.waiting import wait_until

from .test_compute import SPEC, local_compute

_NUMBERS = count()


@dataclass
class Place:
    premises: Premises
    jobs: tuple[str, str]  #: two jobs that something lies around of


@pytest.fixture(params=["fake", "local", "aws"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    jobs = (f"job_premises{next(_NUMBERS)}", f"job_premises{next(_NUMBERS)}")
    if request.param == "fake":
        fake = FakePremises()
        fake.strays = {f"thing of {job}": job for job in jobs}
        yield Place(fake, jobs)
        return
    if request.param == "aws":
        yield Place(aws_premises(request.getfixturevalue("moto"), request.getfixturevalue("aws_session"), tmp_path, jobs), jobs)
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


def aws_premises(moto: Moto, session: AwsSession, folder: Path, jobs: tuple[str, str]) -> Premises:
    place = PremisesPlace(WorkspacePlace(moto, session), folder)
    for job in jobs:
        Renting(session).compute.launch(replace(RENTED, job=job, count=1), request_id=job)
        place.aside.objects.put(f"projects/{job}/scene.blend", b"BLENDER")
        file = StagedFile(path="scene.blend", key=f"projects/{job}/scene.blend", bytes=7, checksum="crc32:00000000")
        place.aside.workspaces.stage(job, [file], request_id=job)
        place.uploads[0].begin(f"projects/{job}/scene.blend")
    place.aside.clock.pass_s(24 * 3600)
    return place.premises


def ours(found: dict[str, str], job: str) -> list[str]:
    return [what for what in found.values() if job in what]


def test_blenders_and_room_are_told(place: Place) -> None:
    assert [blender.version for blender in place.premises.blenders()][-1] == "4.5.15"
    free = place.premises.free_bytes()
    assert free is None or free > 0


def test_every_failed_check_says_what_to_do(place: Place) -> None:
    checks = place.premises.checks()
    assert checks
    assert all(check.name and check.text and bool(check.remedy) != check.is_ok for check in checks)


def test_what_a_known_job_owns_is_no_orphan(place: Place) -> None:
    found = dict(place.premises.orphans(frozenset(place.jobs[:1])))
    assert ours(found, place.jobs[0]) == []
    assert ours(found, place.jobs[1])


def test_what_is_held_is_of_a_kind_that_costs_something(place: Place) -> None:
    held = place.premises.holdings()
    assert {one.kind for one in held} <= {"volume", "snapshot", "instance"}
    assert all(one.usd_per_month > 0 and one.since.tzinfo for one in held)
    assert len({one.id for one in held}) == len(held)


def test_orphans_are_removed_and_then_gone(place: Place) -> None:
    known = frozenset(place.jobs[:1])
    found = ours(dict(place.premises.orphans(known)), place.jobs[1])
    removed = ours(dict(place.premises.remove_orphans(known)), place.jobs[1])
    assert sorted(removed) == sorted(found)
    wait_until(lambda: not ours(dict(place.premises.orphans(known)), place.jobs[1]))
    assert ours(dict(place.premises.orphans(frozenset())), place.jobs[0])
