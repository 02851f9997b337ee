"""The account as a place to render: what lies around that nobody owns, what it costs, and what can't be removed yet."""

from __future__ import annotations

import zlib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import JobNeeds, StagedFile, Unreachable
from supervisor.domain.instance import Market

from .farm import IDENTITY, SPEC, Renting
from .faults import Call, Fault, Way, breakable
from .happenings import IMAGE
from .moto_server import Moto
from .own_place import run_own_instance
from .premises_place import PremisesPlace
from .workspace_place import WorkspacePlace
from .workspace_steps import files_of

JOB, OTHER = "job_a", "job_b"
HOUR_S = 3600
KNOWN = frozenset({JOB})


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession, tmp_path: Path) -> PremisesPlace:
    return PremisesPlace(WorkspacePlace(moto, aws_session), tmp_path)


def stage(place: PremisesPlace, job: str) -> str:
    """Ask for the volume of a job. Returns: the instance that fills it"""
    key = f"projects/{job}/scene.blend"
    body = f"BLENDER {job}".encode()
    place.aside.objects.put(key, body)
    file = StagedFile(path="scene.blend", key=key, bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")
    place.aside.workspaces.stage(job, [file], request_id=f"{job}-stage")
    return place.aside.record(job).instance


def launch(place: PremisesPlace, job: str) -> list[str]:
    renting = Renting(place.aside.session)
    renting.compute.launch(replace(SPEC, job=job), request_id=f"launch_{job}")
    return [one.id for one in renting.compute.instances() if one.job == job]


def later(place: PremisesPlace) -> None:
    place.aside.clock.pass_s(2 * HOUR_S)


def found(place: PremisesPlace, known: frozenset[str] = KNOWN) -> dict[str, str]:
    return dict(place.premises.orphans(known))


def test_everything_of_a_job_that_is_gone_is_found_told_and_removed(place: PremisesPlace) -> None:
    mine, theirs = launch(place, JOB), launch(place, OTHER)
    staging, other_staging = stage(place, JOB), stage(place, OTHER)
    volume = place.a_volume(OTHER)
    upload = place.uploads[0].begin(f"projects/{OTHER}/scene.blend")
    delivery = place.uploads[1].begin(f"received/{OTHER}/frames/00000001/a.exr")
    kept = [place.uploads[0].begin(f"projects/{JOB}/scene.blend"), *mine, staging]
    later(place)

    told = found(place)

    fleets = [id for id in told if id.startswith("fleet-")]
    expected = {*theirs, other_staging, volume, f"upload {upload}", f"upload {delivery}", f"launch templates of {OTHER}", *fleets}
    assert set(told) == expected
    assert len(fleets) == 1
    assert all(OTHER in what for what in told.values())
    assert not set(kept) & set(told)

    assert place.premises.remove_orphans(KNOWN) == told
    assert found(place) == {}
    alive = {one["InstanceId"] for one in place.aside.moto.instances("running")}
    assert alive == {*mine, staging}
    # the volume that the other staging instance held went with it
    assert len(place.aside.volumes()) == 1


def test_what_is_in_the_making_is_left_alone(place: PremisesPlace) -> None:
    launch(place, OTHER)
    stage(place, OTHER)
    place.a_volume(OTHER)
    assert found(place) == {}
    place.aside.clock.pass_s(9 * 60)
    assert place.premises.remove_orphans(KNOWN) == {}
    place.aside.clock.pass_s(2 * 60)
    assert len(found(place)) > 4


def test_volume_left_by_a_pause_is_an_orphan_of_a_known_job(place: PremisesPlace) -> None:
    instance = stage(place, JOB)
    place.aside.moto.tell("power_off", instance=instance)
    place.aside.objects.put("workspaces/job_a.json", b"{}")  # as if the farm had lost it
    place.aside.clock.pass_s(60)
    [volume] = place.aside.volumes()
    later(place)
    assert place.premises.remove_orphans(KNOWN) == {volume["VolumeId"]: "a volume of job_a that nothing is attached to"}
    assert place.aside.volumes() == []


def test_volume_left_on_the_farms_own_instance_is_detached_and_then_deleted(place: PremisesPlace) -> None:
    place.aside.here = here = run_own_instance(place.aside.moto)
    place.aside.restart()
    place.open()
    stage(place, JOB)
    for _ in range(3):
        place.aside.clock.pass_s(2)
        place.aside.workspaces.stage(JOB, files_of(place.aside, JOB, f"BLENDER {JOB}".encode()), request_id="r")
    [volume] = place.aside.fillings.running
    assert found(place) == {}
    place.aside.workspaces.release_copies(JOB)  # asks EC2 to detach it; what if the farm had died before that
    place.ec2.attach_volume(VolumeId=volume, InstanceId=here.id, Device="/dev/sdf")
    place.aside.fillings.busy.add(volume)
    assert place.premises.remove_orphans(KNOWN) == {}
    assert place.aside.volumes()[0]["State"] == "in-use", "what is still mounted is not torn away"
    place.aside.fillings.busy.clear()
    assert place.premises.remove_orphans(KNOWN) == {volume: f"a volume of {JOB} on {here.id}, where the farm was to fill it"}
    assert place.premises.remove_orphans(KNOWN) == {volume: f"a volume of {JOB} that nothing is attached to"}
    assert place.aside.volumes() == []


def test_snapshot_stays_as_long_as_a_known_job_has_its_files(place: PremisesPlace) -> None:
    stage(place, JOB)
    place.aside.player.work()
    for _ in range(3):
        place.aside.clock.pass_s(15)
        place.aside.workspaces.snapshot(JOB, request_id="s")
    [snapshot] = place.aside.snapshots()
    later(place)
    assert found(place) == {}
    assert list(found(place, frozenset())) == [snapshot["SnapshotId"]]


def test_what_can_not_be_removed_now_does_not_keep_the_rest(place: PremisesPlace) -> None:
    [first, *_] = launch(place, OTHER)
    volume = place.a_volume(OTHER)
    later(place)
    with breakable(Way()) as way:
        way.take(lambda call: Fault.REFUSED if call.operation in {"TerminateInstances", "DeleteFleets"} else None)
        removed = place.premises.remove_orphans(KNOWN)
    assert volume in removed
    assert first not in removed
    assert first in place.premises.remove_orphans(KNOWN)


def test_what_the_farm_may_not_look_at_does_not_keep_it_from_what_costs_money(place: PremisesPlace) -> None:
    theirs = launch(place, OTHER)
    later(place)
    looks = ["DescribeTags", "DescribeImages", "DescribeSecurityGroups", "DescribeLaunchTemplateVersions"]
    refused = set(looks)

    def plan(call: Call) -> Fault | None:
        # once each: what holds the calls against the policy asks for tags too
        is_refused = call.operation in refused
        refused.discard(call.operation)
        return Fault.REFUSED if is_refused else None

    with breakable(Way()) as way:
        way.take(plan)
        assert set(place.premises.remove_orphans(KNOWN)) == set(theirs)
    assert refused == set()


def test_nothing_is_removed_while_what_costs_money_can_not_be_seen(place: PremisesPlace) -> None:
    launch(place, OTHER)
    later(place)
    with breakable(Way()) as way:
        way.take(lambda call: Fault.UNREACHABLE if call.operation == "DescribeSnapshots" else None)
        with pytest.raises(Unreachable):
            place.premises.remove_orphans(KNOWN)
    assert len(place.aside.moto.instances("running")) == 2


def test_upload_of_a_known_job_that_nobody_wrote_down_is_removed_after_a_day(place: PremisesPlace) -> None:
    lost, kept = (place.uploads[0].begin(f"projects/{JOB}/{name}") for name in ("lost.blend", "kept.blend"))
    place.uploads[1].begin(f"received/{JOB}/frames/00000001/a.exr")  # a node's own: it is written down nowhere
    later(place)
    assert place.premises.remove_orphans(KNOWN, frozenset({kept})) == {}
    place.aside.clock.pass_s(23 * HOUR_S)
    assert place.premises.orphans(KNOWN) == {}
    assert list(place.premises.remove_orphans(KNOWN, frozenset({kept}))) == [f"upload {lost}"]
    assert [upload.upload_id for upload in place.uploads[0].unfinished("projects/")] == [kept]


def test_group_of_a_network_that_the_farm_left_is_removed_when_it_was_seen_unused_for_a_while(place: PremisesPlace) -> None:
    vpc = place.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "kiln:farm", "Value": IDENTITY.farm}]}]
    mine = place.ec2.describe_security_groups(GroupNames=[IDENTITY.name])["SecurityGroups"][0]["GroupId"]
    place.ec2.create_tags(Resources=[mine], Tags=tags[0]["Tags"])
    left = place.ec2.create_security_group(GroupName=IDENTITY.name, Description="d", VpcId=vpc, TagSpecifications=tags)["GroupId"]
    assert found(place) == {}
    place.aside.clock.pass_s(11 * 60)
    assert list(place.premises.remove_orphans(KNOWN)) == [left]


def test_farm_that_is_not_set_up_has_no_orphans(place: PremisesPlace) -> None:
    place.ec2.delete_launch_template(LaunchTemplateName=IDENTITY.name)
    later(place)
    assert found(place) == {}


def test_image_under_construction_keeps_its_builder_and_what_is_left_of_one_goes(place: PremisesPlace) -> None:
    place.builds.add("build_1")
    kept, left = (place.a_volume("", role="build", request=build) for build in ("build_1", "build_0"))
    later(place)
    assert set(place.premises.remove_orphans(KNOWN)) == {left}
    assert kept in {each["VolumeId"] for each in place.aside.volumes()}


def test_holdings_are_every_volume_every_snapshot_and_the_staging_instance(place: PremisesPlace) -> None:
    launch(place, JOB)
    instance = stage(place, OTHER)
    held = {one.id: one for one in place.premises.holdings()}
    volumes = [each["VolumeId"] for each in place.ec2.describe_volumes()["Volumes"]]
    assert set(held) == {*volumes, instance}
    assert (held[instance].kind, held[instance].job, held[instance].gib) == ("instance", OTHER, Decimal(0))
    assert held[instance].usd_per_month > 100
    # roots of 30 GiB, and the workspace volume of 1 GiB that is faster than what is free
    by_size = {one.gib: one.usd_per_month for one in held.values() if one.kind == "volume"}
    assert by_size[Decimal(30)] == 30 * Decimal("0.08")
    assert by_size[Decimal(1)] == Decimal("0.08") + 125 * Decimal("0.04")
    assert {one.job for one in held.values()} == {JOB, OTHER}


def test_blenders_are_those_of_the_images_and_room_is_without_limit(place: PremisesPlace) -> None:
    assert [(blender.version, blender.where) for blender in place.premises.blenders()] == [("4.2.23", IMAGE), ("4.5.15", IMAGE)]
    assert place.premises.free_bytes() is None


def test_doctor_is_asked_for_the_farm_and_for_a_job(place: PremisesPlace) -> None:
    needs = JobNeeds(instances=1, market=Market.SPOT, max_price_usd_per_h=None, instance_types=(), bytes=7, blender_version=(4, 5))
    assert place.premises.checks() == place.premises.job_checks(needs) == place.doctor.found
    assert place.doctor.asked_for == [needs]
