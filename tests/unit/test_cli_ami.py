"""`kiln ami` as a person meets it, on an account that moto plays; how a build is followed, over images in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ami.builds import BuildStatus
from ami.recipe import Arch, Variant, read_recipe
from app.cli import main
from app.cli.ami import follow
from supervisor.cloud.aws.identity import FARM_TAG
from supervisor.cloud.ports import SIGNED_OUT, NoCapacity, Refused, SignedOut, Unreachable
from tests.aws.happenings import IMAGE
from tests.aws.moto_server import Moto
from tests.fakes.images import FakeImages

FARM = "abcdef012345"
RECIPES_OWN = " ".join(release.version for release in read_recipe().blenders)


@pytest.fixture
def aws(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """An account that nothing was set up in yet."""
    settings = {"KILN_CLOUD__PROVIDER": "aws", "KILN_AWS__REGION": "us-east-1", "KILN_AWS__FARM": FARM}
    for name, value in {**moto.environment, **settings}.items():
        monkeypatch.setenv(name, value)
    moto.tell("remove_image", image=IMAGE)
    return moto


@pytest.fixture
def account(aws: Moto, data: Path) -> Moto:
    """An account that the farm is set up in, without images."""
    assert kiln("aws", "setup", "--yes", data=data).exit_code == 0
    return aws


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def kiln(*arguments: str, data: Path) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)])


def add_image(aws: Moto, image: str, **how: Any) -> None:
    aws.tell("add_image", image=image, **how)
    aws.client("ec2").create_tags(Resources=[image], Tags=[{"Key": FARM_TAG, "Value": FARM}])


def test_farm_that_rents_nothing_has_no_images_to_build(data: Path) -> None:
    for command in ("build", "list", "prune"):
        refused = kiln("ami", command, data=data)
        assert refused.exit_code == 1
        assert "renders on its own machine and has no images" in refused.stderr


def test_account_that_is_not_set_up_is_refused_with_what_to_do(aws: Moto, data: Path) -> None:
    refused = kiln("ami", "build", "--no-wait", data=data)
    assert refused.exit_code == 1
    assert "kiln aws setup" in refused.stderr
    assert aws.calls("RunInstances") == []


def test_build_is_asked_for_once_and_listed(account: Moto, data: Path) -> None:
    asked = kiln("ami", "build", "--no-wait", data=data)
    assert asked.exit_code == 0
    again = kiln("ami", "build", "--no-wait", "--json", data=data)
    assert json.loads(again.stdout)["id"] == asked.stdout.strip()
    listed = kiln("ami", "list", data=data)
    assert f"{asked.stdout.strip()} is being built for cpu x86_64: asked for" in listed.stderr
    assert "there is no image yet" in listed.stderr


def test_build_that_the_recipe_has_nothing_for_is_refused(account: Moto, data: Path) -> None:
    refused = kiln("ami", "build", "--arch", "arm64", data=data)
    assert refused.exit_code == 1
    assert "would have no Blender" in refused.stderr
    assert kiln("ami", "build", "--variant", "tpu", data=data).exit_code == 2


def test_images_are_listed_with_why_they_are_kept(account: Moto, data: Path) -> None:
    add_image(account, "ami-0c0000000000000a1", blenders="4.2.1", age_days=40)
    add_image(account, "ami-0c0000000000000b2", blenders=RECIPES_OWN, age_days=1)
    listed = kiln("ami", "list", data=data)
    assert listed.exit_code == 0
    newest, kept, older, unused = listed.stdout.splitlines()
    assert newest == f"ami-0c0000000000000b2  available  1 day old  cpu x86_64  Blender {RECIPES_OWN}"
    assert "kept: the newest for cpu, x86_64" in kept
    assert "40 days old" in older
    assert "unused: `kiln ami prune` removes it" in unused
    as_json = json.loads(kiln("ami", "list", "--json", data=data).stdout)
    assert [(image["id"][-2:], image["blenders"]) for image in as_json] == [("b2", RECIPES_OWN.split()), ("a1", ["4.2.1"])]


def test_prune_removes_what_nothing_uses_and_says_so_beforehand_if_asked(account: Moto, data: Path) -> None:
    add_image(account, "ami-0c0000000000000a1", age_days=40)
    add_image(account, "ami-0c0000000000000b2", age_days=1)
    dry = kiln("ami", "prune", "--dry-run", data=data)
    assert dry.stdout.startswith("would remove ami-0c0000000000000a1: ")
    assert account.calls("DeregisterImage") == []
    pruned = kiln("ami", "prune", "--json", data=data)
    assert json.loads(pruned.stdout) == {"dry_run": False, "removed": ["ami-0c0000000000000a1"]}
    assert "every image is in use" in kiln("ami", "prune", data=data).stderr
    assert "ami-0c0000000000000b2" in kiln("ami", "list", data=data).stdout


# Following a build


@pytest.fixture
def images() -> FakeImages:
    return FakeImages()


def followed(images: FakeImages, *way: Mapping[str, object]) -> tuple[BuildStatus, list[str], int]:
    """Follow a build along that way. Returns: how it ended, what was told, how often it was waited"""
    images.way = list(way)
    told: list[str] = []
    pauses: list[None] = []
    build = images.begin(Variant.CPU, Arch.X86_64)
    ended = follow(images, build, tell=told.append, pause=lambda: pauses.append(None))
    return ended.status, told, len(pauses)


BOOTS, WORKS = {"progress": "the builder boots"}, {"progress": "5/9 Blender, side by side"}
READY = {"status": BuildStatus.READY, "image": "ami-1", "progress": ""}


def test_progress_is_told_once_and_waited_for_in_between(images: FakeImages) -> None:
    assert followed(images, BOOTS, BOOTS, WORKS, READY) == (BuildStatus.READY, ["the builder boots", "5/9 Blender, side by side"], 3)


@pytest.mark.parametrize(
    "error", [NoCapacity("can't launch: no room"), Unreachable("can't launch: no answer"), Refused("can't launch: no")]
)
def test_what_aws_answers_is_told_and_asked_again(images: FakeImages, error: Exception) -> None:
    images.fail_next(error, times=2, call="advance")
    assert followed(images, BOOTS, READY) == (BuildStatus.READY, [f"{error}; asked again", "the builder boots"], 3)


def test_failure_is_told_while_what_was_rented_is_given_back(images: FakeImages) -> None:
    failing = {"status": BuildStatus.FAILING, "message": "90-validate.sh: black"}
    assert followed(images, failing, failing, {"status": BuildStatus.FAILED}) == (BuildStatus.FAILED, ["90-validate.sh: black"], 2)


def test_farm_that_is_signed_out_meanwhile_is_not_waited_for(images: FakeImages) -> None:
    images.fail_next(SignedOut(f"can't look: {SIGNED_OUT}"), call="advance")
    with pytest.raises(SignedOut):
        followed(images, READY)
