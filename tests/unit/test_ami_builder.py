"""Building an image on EC2 as moto plays it: the whole way, what fails on it, and death at each call.

moto runs nothing inside an instance: the test writes the builder's reports. Its images are `available` at once unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ami.build_rules import FIRST_REPORT, ROOM_PATIENCE, SHOWN_WITHIN
from ami.builder import KEPT_BUILDS, ImageBuilder
from ami.builds import BUILDS_PREFIX, BuildRecords, BuildStatus, ImageBuild
from ami.hands import BuilderSite
from ami.images import advice, newer_blenders, own_images, prune
from ami.recipe import Variant, read_recipe
from nodeimage.launch import BuildReport, BuildState, build_bundle_key, build_log_key, build_report_key
from supervisor.cloud.aws.identity import FARM_TAG, IMAGE_TAG, REQUEST_TAG, ROLE_TAG, Identity, tags_of
from supervisor.cloud.aws.network import find_subnets
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import CloudError, NoCapacity, Refused
from tests.aws.faults import Crash, Fault, Way, at, breakable, nothing
from tests.aws.moto_server import Moto
from tests.fakes.objects import FakeObjectStore

IDENTITY = Identity(farm="abcdef012345", projects_bucket="kiln-p", received_bucket="kiln-r")


@dataclass(frozen=True)
class Agent:
    key: str = "agent/1-abc.pyz"
    sha256: str = "0" * 64


class Place:
    """A farm's account, and what is built in it."""

    def __init__(self, moto: Moto, session: AwsSession) -> None:
        self.moto = moto
        self.session = session
        self.way = Way()
        self.objects = FakeObjectStore()
        self.now = datetime.now(UTC)
        self.ec2 = moto.client("ec2")
        network = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        self.group: str = self.ec2.create_security_group(GroupName=IDENTITY.name, Description="kiln", VpcId=network)["GroupId"]
        moto.client("iam").create_instance_profile(InstanceProfileName=IDENTITY.name)
        self.security_group: Callable[[], str] = lambda: self.group
        self.builder = self.restarted()

    def restarted(self) -> ImageBuilder:
        """The builder as a new process makes it."""
        session = self.session
        site = BuilderSite(
            subnets=lambda: find_subnets(session, ()),
            security_group=self.security_group,
            agent=Agent,
            mirror="https://mirror.example",
            types={Variant.CPU: "c7i.xlarge", Variant.GPU: "g6.xlarge"},
        )
        return ImageBuilder(session, IDENTITY, self.objects, site, clock=lambda: self.now)

    def report(self, build: ImageBuild, state: BuildState, **said: Any) -> None:
        told = BuildReport(state=state, build=build.id, at_ms=int(self.now.timestamp() * 1000), **said)
        self.objects.put(build_report_key(build.id), told.to_bytes())

    def alive(self) -> list[dict[str, Any]]:
        return [each for each in self.instances() if each["State"]["Name"] not in {"terminated", "shutting-down"}]

    def instances(self) -> list[dict[str, Any]]:
        shown = self.ec2.describe_instances(Filters=[{"Name": f"tag:{FARM_TAG}", "Values": [IDENTITY.farm]}])
        return [each for reservation in shown["Reservations"] for each in reservation["Instances"]]

    def images(self) -> list[dict[str, Any]]:
        shown = self.ec2.describe_images(Owners=["self"], Filters=[{"Name": f"tag:{FARM_TAG}", "Values": [IDENTITY.farm]}])
        return list(shown["Images"])

    def farm_snapshots(self) -> list[str]:
        shown = self.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": f"tag:{FARM_TAG}", "Values": [IDENTITY.farm]}])
        return [each["SnapshotId"] for each in shown["Snapshots"]]


@pytest.fixture(scope="module")
def session(moto_server: Moto) -> Iterator[AwsSession]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto_server.environment.items():
            patch.setenv(name, value)
        yield AwsSession(region="us-east-1")


@pytest.fixture
def place(moto: Moto, session: AwsSession) -> Place:
    return Place(moto, session)


def run(place: Place, build: ImageBuild, *, outcome: BuildState = BuildState.DONE, most: int = 30) -> ImageBuild:
    """Move a build on to its end, playing the instance: it reports its outcome once it runs."""
    for _ in range(most):
        with breakable(place.way):  # the farm's calls alone
            build = place.builder.advance(build)
        if place.alive():
            place.report(build, outcome, message="90-validate.sh: the frame is black" if outcome is BuildState.FAILED else "")
        place.moto.tell("settle")
        if build.status in {BuildStatus.READY, BuildStatus.FAILED}:
            return build
    raise AssertionError(f"after {most} steps the build is {build.status}: {build.message or build.progress}")


def test_build_ends_with_an_image_and_without_a_builder(place: Place) -> None:
    build = run(place, place.builder.begin())
    assert (build.status, [image["ImageId"] for image in place.images()]) == (BuildStatus.READY, [build.image])
    assert place.alive() == []
    tags = tags_of(place.images()[0])
    assert (tags[IMAGE_TAG], tags["kiln:blenders"].split()) == (build.recipe, [release.version for release in read_recipe().blenders])


def test_builder_can_not_be_reached_and_says_what_it_is(place: Place) -> None:
    build = place.builder.advance(place.builder.begin())
    asked = place.moto.calls("RunInstances")[0]
    assert "KeyName" not in asked
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    assert asked["InstanceInitiatedShutdownBehavior"] == "stop"
    tags = tags_of(place.alive()[0])
    assert (tags[ROLE_TAG], tags[REQUEST_TAG]) == ("build", build.id)
    assert place.objects.get(build_bundle_key(build.id)) is not None


def test_same_recipe_is_built_once(place: Place) -> None:
    first = place.builder.begin()
    assert place.builder.begin() == first
    built = run(place, first)
    assert place.builder.begin().image == built.image
    assert len(place.images()) == 1


def test_image_whose_build_nobody_remembers_is_found(place: Place) -> None:
    built = run(place, place.builder.begin())
    place.objects.delete([listed.key for listed in place.objects.list("images/")])
    found = place.builder.begin()
    assert (found.status, found.image) == (BuildStatus.READY, built.image)


def test_image_of_the_accounts_other_farm_is_taken_shown_and_never_removed(place: Place) -> None:
    theirs = run(place, place.builder.begin()).image
    place.ec2.create_tags(Resources=[theirs], Tags=[{"Key": FARM_TAG, "Value": "ba9876543210"}])
    place.objects.delete([listed.key for listed in place.objects.list(BUILDS_PREFIX)])
    found = place.builder.begin()
    assert (found.status, found.image) == (BuildStatus.READY, theirs)
    [shown] = own_images(place.session, IDENTITY)
    assert shown.used_by == ("made by another farm of this account (ba9876543210)",), "one's own newest stays the newest"
    BuildRecords(place.objects).put(replace(found, status=BuildStatus.FAILING))
    assert run(place, found).status is BuildStatus.FAILED
    assert [image.id for image in own_images(place.session, IDENTITY)] == [theirs]


def test_failed_build_leaves_its_last_words_and_nothing_rented(place: Place) -> None:
    build = run(place, place.builder.begin(), outcome=BuildState.FAILED)
    assert (build.status, build.message) == (BuildStatus.FAILED, "90-validate.sh: the frame is black")
    assert (place.alive(), place.images()) == ([], [])


def test_builder_that_never_reports_is_ended(place: Place) -> None:
    build = place.builder.advance(place.builder.begin())
    place.now += FIRST_REPORT + timedelta(minutes=1)
    for _ in range(4):
        build = place.builder.advance(build)
    assert build.status is BuildStatus.FAILED
    assert "said nothing" in build.message
    assert place.alive() == []


def test_builder_is_launched_where_there_is_room(place: Place) -> None:
    place.moto.change(pool_errors={"c7i.xlarge/us-east-1a": "InsufficientInstanceCapacity"})
    place.builder.advance(place.builder.begin())
    assert [each["Placement"]["AvailabilityZone"] for each in place.alive()] == ["us-east-1b"]


def test_without_room_anywhere_the_build_waits(place: Place) -> None:
    place.moto.change(pool_errors={"*": "InsufficientInstanceCapacity"})
    build = place.builder.begin()
    for _ in range(2):
        with pytest.raises(NoCapacity):
            place.builder.advance(build)
        place.now += SHOWN_WITHIN + timedelta(minutes=1)
    [waits] = place.builder.builds()
    assert (waits.status, "InsufficientInstanceCapacity" in waits.held_up) == (BuildStatus.BUILDING, True)
    place.moto.change(pool_errors={})
    ended = run(place, waits)
    assert (ended.status, ended.held_up) == (BuildStatus.READY, "")


def test_build_without_room_for_an_hour_fails_with_what_ec2_said(place: Place) -> None:
    place.moto.change(pool_errors={"*": "VcpuLimitExceeded"})
    build = place.builder.begin()
    with pytest.raises(NoCapacity):
        place.builder.advance(build)
    place.now += ROOM_PATIENCE + timedelta(minutes=1)
    place.builder.advance(build)
    ended = place.builder.advance(build)
    assert ended.status is BuildStatus.FAILED
    assert "VcpuLimitExceeded" in ended.message


def test_what_ec2_refuses_is_asked_again_for_a_while_and_then_the_reason(place: Place) -> None:
    place.moto.tell("remove_image", image="ami-0deb1200000000001")
    build = place.builder.begin()
    with pytest.raises(Refused, match="has no image debian-12"):
        place.builder.advance(build)
    assert "has no image debian-12" in place.builder.builds()[0].held_up
    place.now += SHOWN_WITHIN + timedelta(minutes=1)
    place.builder.advance(build)
    ended = place.builder.advance(build)
    assert (ended.status, place.alive()) == (BuildStatus.FAILED, [])
    assert "has no image debian-12" in ended.message


def test_account_that_is_not_set_up_is_refused_before_anything_is_written_down(place: Place) -> None:
    def nothing_there() -> str:
        raise Refused("the farm is not set up in AWS yet")

    place.security_group = nothing_there
    with pytest.raises(Refused, match="not set up"):
        place.restarted().begin()
    assert place.objects.keys() == []


def test_build_that_a_person_stops_gives_its_builder_back(place: Place) -> None:
    build = place.builder.advance(place.builder.begin())
    assert len(place.alive()) == 1
    place.builder.stop(build.id)
    for _ in range(2):
        build = place.builder.advance(build)
    assert (build.status, build.message, place.alive()) == (BuildStatus.FAILED, "stopped by a person", [])
    place.builder.stop(build.id)
    assert place.builder.builds() == [build]


def test_idle_farm_reads_no_build_again_and_lists_them_once_a_minute(place: Place) -> None:
    run(place, place.builder.begin())
    builder = place.restarted()
    builder.advance_all()
    place.objects.lists.clear()
    place.objects.reads.clear()
    for _ in range(12):
        place.now += timedelta(seconds=10)
        builder.advance_all()
    assert (len(place.objects.lists), place.objects.reads) == (2, [])


def test_build_that_is_asked_for_is_begun_at_once_however_idle_the_farm_was(place: Place) -> None:
    place.builder.advance_all()
    place.builder.begin()
    place.builder.advance_all()
    assert len(place.alive()) == 1


def test_build_asked_for_by_another_process_is_taken_up_within_a_minute(place: Place) -> None:
    place.builder.advance_all()
    place.restarted().begin()
    place.now += timedelta(minutes=1)
    place.builder.advance_all()
    assert len(place.alive()) == 1


def test_records_of_old_builds_go_with_their_logs(place: Place) -> None:
    for number in range(KEPT_BUILDS + 3):
        place.now += timedelta(minutes=1)
        build = place.builder.begin()
        place.objects.put(build_log_key(build.id), b"said")
        place.builder.stop(build.id)
        build = place.builder.advance(build)
        assert build.status is BuildStatus.FAILED, number
    assert len(place.objects.keys(BUILDS_PREFIX)) == KEPT_BUILDS
    assert len(place.objects.keys("received/images/")) == KEPT_BUILDS
    with place.builder.open_log(build.id) as stream:
        assert stream.read() == b"said"


def test_prune_keeps_the_newest_and_what_is_used(place: Place) -> None:
    newest = run(place, place.builder.begin()).image
    older = {}
    for age, name in ((3, "used"), (5, "named"), (7, "left")):
        older[name] = place.moto.tell("add_image", image=f"ami-0{age:016x}", age_days=age, recipe=f"older{age}")
        place.ec2.create_tags(Resources=[older[name]], Tags=[{"Key": FARM_TAG, "Value": IDENTITY.farm}])
    tags = [{"ResourceType": "instance", "Tags": [{"Key": FARM_TAG, "Value": IDENTITY.farm}]}]
    place.ec2.run_instances(ImageId=older["used"], InstanceType="c7i.xlarge", MinCount=1, MaxCount=1, TagSpecifications=tags)
    images = own_images(place.session, IDENTITY, chosen=older["named"])
    assert [image.id for image in prune(images, remove=place.builder.remove_image, dry_run=True)] == [older["left"]]
    assert len(place.images()) == 4
    assert [image.id for image in prune(images, remove=place.builder.remove_image, dry_run=False)] == [older["left"]]
    assert {image["ImageId"] for image in place.images()} == {newest, older["used"], older["named"]}


def test_newer_blender_in_the_recipe_is_told(place: Place) -> None:
    in_recipe = [release.version for release in read_recipe().blenders]
    assert newer_blenders(read_recipe(), own_images(place.session, IDENTITY)) == in_recipe
    run(place, place.builder.begin())
    images = own_images(place.session, IDENTITY)
    assert (newer_blenders(read_recipe(), images), images[0].is_current, advice(read_recipe(), images)) == ([], True, [])


def test_what_is_out_of_date_is_told_of_the_newest_of_each_kind(place: Place) -> None:
    everything = " ".join(release.version for release in read_recipe().blenders)
    for image, how in (
        ("ami-0c0000000000000a1", {"blenders": "4.2.1", "age_days": 9}),
        ("ami-0c0000000000000b2", {"blenders": everything, "age_days": 2}),
        ("ami-0c0000000000000c3", {"blenders": everything, "age_days": 1, "variant": "gpu", "protocol": "99"}),
    ):
        place.moto.tell("add_image", image=image, recipe="older", **how)
        place.ec2.create_tags(Resources=[image], Tags=[{"Key": FARM_TAG, "Value": IDENTITY.farm}])
    images = own_images(place.session, IDENTITY)
    assert [(image.id[-2:], image.is_served) for image in images] == [("c3", False), ("b2", True), ("a1", True)]
    said = advice(read_recipe(), images)
    assert len(said) == 2
    assert "for cpu, x86_64 (ami-0c0000000000000b2) is of an older recipe" in said[0]
    assert "can't start from the newest for gpu, x86_64 (ami-0c0000000000000c3)" in said[1]
    assert "no image yet" in advice(read_recipe(), [])[0]


def test_many_instances_that_use_an_image_are_counted(place: Place) -> None:
    image = place.moto.tell("add_image", image="ami-0c0000000000000a1", recipe="older")
    place.ec2.create_tags(Resources=[image], Tags=[{"Key": FARM_TAG, "Value": IDENTITY.farm}])
    tags = [{"ResourceType": "instance", "Tags": [{"Key": FARM_TAG, "Value": IDENTITY.farm}]}]
    place.ec2.run_instances(ImageId=image, InstanceType="c7i.xlarge", MinCount=3, MaxCount=3, TagSpecifications=tags)
    [shown] = own_images(place.session, IDENTITY)
    assert shown.used_by[0].startswith("3 instances, such as i-")


# Death at each call


def life(place: Place) -> ImageBuild:
    return run(place, begun(place))


def failing_life(place: Place) -> ImageBuild:
    return run(place, begun(place), outcome=BuildState.FAILED)


def begun(place: Place) -> ImageBuild:
    """The build that somebody asks for, and goes on asking for until the farm takes it up."""
    known = place.builder.builds()
    with breakable(place.way):
        return known[0] if known else place.builder.begin()


@pytest.mark.parametrize(("one_life", "images"), [(life, 1), (failing_life, 0)])
@pytest.mark.parametrize("fault", [Fault.DIED_BEFORE, Fault.DIED_AFTER, Fault.REPLY_LOST_FOR_GOOD])
def test_build_broken_at_any_call_ends_as_it_should(
    place: Place, fault: Fault, one_life: Callable[[Place], ImageBuild], images: int
) -> None:
    one_life(place)
    count = len(place.way.calls)
    assert count > 8
    for number in range(1, count + 1):
        place.moto.reset()
        fresh = Place(place.moto, place.session)
        fresh.way.take(at(number, fault))
        with suppress(Crash, CloudError):
            one_life(fresh)
        fresh.way.take(nothing)
        fresh.builder = fresh.restarted()
        ended = one_life(fresh)
        there = (fresh.alive(), len(fresh.images()), len(fresh.farm_snapshots()), ended.status)
        wanted = BuildStatus.READY if images else BuildStatus.FAILED
        assert there == ([], images, images, wanted), f"{fault} at call {number} of {count}"
