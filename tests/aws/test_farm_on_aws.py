"""A whole farm put together for AWS: its first minutes without credentials, its first job, and the commands that look after its account."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from click.testing import CliRunner, Result

from app.bootstrap import open_farm, running_store
from app.bootstrap_aws import KEYS_FILE
from app.cli import main
from nodeimage.protocol import Order, order_key
from supervisor import queries
from supervisor.cloud.ports import SignedOut
from supervisor.commands import cloud_account, files
from supervisor.commands import jobs as commands
from supervisor.config import Config
from supervisor.domain.errors import Rejected
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.farm import Farm
from supervisor.lifecycle.reconcile import Supervisor
from tests.unit.api_site import SAMPLE

from .moto_server import Moto
from .signed_out import sign_out

CONFIG = Config.model_validate({"cloud": {"provider": "aws"}, "aws": {"farm": "studio", "describe_s": 0}})
PLENTY = {"L-1216C47A": 2048.0, "L-34B43A08": 2048.0}


@pytest.fixture
def signed_out(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto stands for AWS, and nobody is signed in to it."""
    sign_out(monkeypatch, moto.environment)


@pytest.fixture
def signed_in(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)


@contextmanager
def a_farm(data: Path, *, serves: bool = True) -> Iterator[Farm]:
    opened = open_farm(CONFIG, data, serves=serves)
    try:
        yield opened.farm
    finally:
        opened.close()


@pytest.mark.usefixtures("signed_out")
def test_a_farm_without_credentials_opens_and_says_what_it_waits_for(tmp_path: Path) -> None:
    with a_farm(tmp_path) as farm:
        Supervisor(farm).tick()
        health = queries.health(farm)
        assert health.is_alive
        assert "not signed in to AWS" in health.trouble
        assert farm.cloud.premises.blenders() == ()
        job = commands.create_job(farm, name="", owner_id=None)
        with pytest.raises(SignedOut):
            files.begin_file(farm, job, path="a.blend", length=10, endpoint="")
        findings = list(queries.farm_checks(farm, is_served=True))
        assert [check.name for check in findings] == ["server", "AWS credentials"]
        assert not any(check.is_ok for check in findings)


@pytest.mark.usefixtures("signed_out")
def test_keys_that_are_typed_wake_the_farm_up_and_are_its_own_alone(tmp_path: Path) -> None:
    with a_farm(tmp_path) as farm:
        supervisor = Supervisor(farm)
        supervisor.tick()
        cloud_account.sign_in(farm, access_key="AKIAEXAMPLE", secret_key="a secret")
        supervisor.tick()
        assert queries.health(farm).trouble == ""
        assert [blender.version for blender in farm.cloud.premises.blenders()] == ["4.2.23", "4.5.15"]
        keys = tmp_path / KEYS_FILE
        assert keys.stat().st_mode & 0o777 == 0o600
        assert json.loads(keys.read_text())["access_key"] == "AKIAEXAMPLE"
    with a_farm(tmp_path) as farm:
        assert cloud_account.account_of(farm).who().has_typed_keys
        assert [blender.version for blender in farm.cloud.premises.blenders()] == ["4.2.23", "4.5.15"]
        cloud_account.sign_out(farm)
        assert not keys.exists()
        with pytest.raises(SignedOut):
            cloud_account.account_of(farm).who()


@pytest.mark.usefixtures("signed_in")
def test_a_farm_that_is_not_set_up_refuses_jobs_with_the_command_that_sets_it_up(tmp_path: Path) -> None:
    with a_farm(tmp_path) as farm:
        job = commands.create_job(farm, name="", owner_id=None)
        with pytest.raises(Exception, match="kiln aws setup"):
            files.begin_file(farm, job, path="a.blend", length=10, endpoint="")


@pytest.mark.usefixtures("signed_in")
def test_the_first_job_is_uploaded_to_s3_itself_checked_staged_and_launched(tmp_path: Path, moto: Moto) -> None:
    with a_farm(tmp_path) as farm:
        list(cloud_account.account_of(farm).set_up(origin="http://farm:8000"))
        job = an_uploaded_job(farm, moto)
        with pytest.raises(Rejected, match="quota “Running On-Demand Standard"):
            commands.submit_job(farm, job, JobSettings(frames="1-4", instances=2))
        assert moto.calls("CreateFleet") == []

        moto.change(quotas=PLENTY)
        commands.submit_job(farm, job, JobSettings(frames="1-4", instances=2, instance_types=("c6i.xlarge",)))
        launched = run_until_launched(farm, job, moto)

        assert len(launched) == 2
        tags = {tag["Key"]: tag["Value"] for tag in launched[0]["Tags"]}
        assert (tags["kiln:farm"], tags["kiln:job"], tags["kiln:role"]) == ("studio", job, "render")
        assert launched[0]["MetadataOptions"]["HttpTokens"] == "required"
        assert {one["InstanceType"] for one in launched} == {"c6i.xlarge"}
        stored = moto.client("s3").list_objects_v2(Bucket="kiln-studio-projects")["Contents"]
        assert any(entry["Key"].startswith("agent/") for entry in stored)
        order = farm.cloud.objects.get(order_key(job))
        assert order is not None
        assert Order.from_bytes(order.body).job == job


def an_uploaded_job(farm: Farm, moto: Moto) -> str:
    """A draft with the sample, sent as a browser sends it: to the store's own address, by the farm's signature."""
    body = SAMPLE.read_bytes()
    job = commands.create_job(farm, name="", owner_id=None)
    plan = files.begin_file(farm, job, path="kiln.blend", length=len(body), endpoint="")
    sent = []
    for number, url in plan.urls:
        assert url is not None
        assert url.startswith(f"{moto.url}/kiln-studio-projects/projects/{job}/kiln.blend?")
        part = body[(number - 1) * plan.part_bytes : number * plan.part_bytes]
        sent.append((number, urllib3.request("PUT", url, body=part, timeout=30).headers["ETag"]))
    files.complete_file(farm, job, plan.file, parts=sent)
    return job


def run_until_launched(farm: Farm, job: str, moto: Moto) -> list[dict[str, Any]]:
    supervisor = Supervisor(farm)
    for _ in range(30):
        supervisor.tick()
        launched = moto.instances("pending", "running")
        if launched and queries.job_summary(farm, job).status in {JobStatus.LAUNCHING, JobStatus.RENDERING}:
            return launched
    raise AssertionError(queries.job_detail(farm, job))


@pytest.mark.usefixtures("signed_in")
def test_objects_can_be_copied_out_of_a_farm_that_is_not_served(tmp_path: Path) -> None:
    with a_farm(tmp_path) as farm:
        list(cloud_account.account_of(farm).set_up())
        farm.cloud.objects.put_stream("projects/job_1/a.blend", io.BytesIO(b"BLENDER"))
        farm.cloud.objects.put_stream("received/job_1/frames/1.png", io.BytesIO(b"PNG"))
    with running_store(CONFIG, tmp_path) as objects:
        assert [each.key for prefix in ("projects/", "received/") for each in objects.list(prefix)] == [
            "projects/job_1/a.blend",
            "received/job_1/frames/1.png",
        ]


# The commands.


def kiln(*arguments: str, data: Path) -> Result:
    env = {"KILN_CLOUD__PROVIDER": "aws", "KILN_AWS__FARM": "studio"}
    return CliRunner().invoke(main, [*arguments, "--data", str(data)], env=env)


@pytest.mark.usefixtures("signed_in")
def test_setup_says_what_it_would_do_then_does_it_then_has_nothing_to_do(tmp_path: Path, moto: Moto) -> None:
    planned = kiln("aws", "setup", "--dry-run", data=tmp_path)
    assert planned.exit_code == 0
    assert planned.stdout.count("make ") == 7
    assert moto.client("s3").list_buckets()["Buckets"] == []

    unasked = kiln("aws", "setup", data=tmp_path)
    assert unasked.exit_code == 1
    assert "use --yes" in unasked.stderr
    assert moto.client("s3").list_buckets()["Buckets"] == []

    done = json.loads(kiln("aws", "setup", "--yes", "--json", data=tmp_path).stdout)
    assert {step["state"] for step in done["steps"]} == {"ready"}
    again = kiln("aws", "setup", data=tmp_path)
    assert again.exit_code == 0
    assert "everything is there" in again.stderr


@pytest.mark.usefixtures("signed_in")
def test_setup_that_a_person_must_help_ends_with_what_to_do(tmp_path: Path, moto: Moto) -> None:
    ec2 = moto.client("ec2")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ended = kiln("aws", "setup", "--yes", data=tmp_path)
    assert ended.exit_code == 1
    assert "create-default-vpc" in ended.stdout
    assert "not everything could be made" in ended.stderr


@pytest.mark.usefixtures("signed_in")
def test_teardown_keeps_what_holds_data_and_is_refused_while_a_job_goes_on(tmp_path: Path, moto: Moto) -> None:
    assert kiln("aws", "setup", "--yes", data=tmp_path).exit_code == 0
    with a_farm(tmp_path, serves=False) as farm:
        job = an_uploaded_job(farm, moto)
        moto.change(quotas=PLENTY)
        commands.submit_job(farm, job)
        refused = kiln("aws", "teardown", "--yes", data=tmp_path)
        assert refused.exit_code == 1
        assert job in refused.stderr
        commands.cancel_job(farm, job)
    told = json.loads(kiln("aws", "teardown", "--yes", "--json", data=tmp_path).stdout)
    states = {thing["name"]: thing["state"] for thing in told["things"]}
    assert states["bucket kiln-studio-projects"] == "stays"
    assert states["launch template kiln-studio"] == "removed"
    gone = kiln("aws", "teardown", "--yes", "--with-data", data=tmp_path)
    assert "removed  bucket kiln-studio-projects: with all that was in it" in gone.stdout
    assert moto.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.usefixtures("signed_out")
def test_commands_without_credentials_say_how_to_give_some(tmp_path: Path) -> None:
    for command in (("aws", "setup", "--dry-run"), ("aws", "teardown", "--dry-run")):
        ended = kiln(*command, data=tmp_path)
        assert ended.exit_code == 1
        assert "AWS_ACCESS_KEY_ID" in ended.stderr
    doctor = kiln("doctor", "--json", data=tmp_path)
    assert doctor.exit_code == 1
    assert json.loads(doctor.stdout)[-1]["name"] == "AWS credentials"


@pytest.mark.usefixtures("signed_out")
def test_the_policy_is_printed_before_there_are_credentials(tmp_path: Path) -> None:
    whole = json.loads(kiln("aws", "policy", data=tmp_path).stdout)
    part = json.loads(kiln("aws", "policy", "--part", "run", data=tmp_path).stdout)
    assert "arn:aws:s3:::kiln-studio-projects" in json.dumps(whole)
    assert "iam:PutRolePolicy" in json.dumps(whole)
    assert "iam:PutRolePolicy" not in json.dumps(part)
    assert "autoscaling:CreateAutoScalingGroup" not in json.dumps(whole)


@pytest.mark.usefixtures("signed_out")
def test_a_farm_whose_jobs_share_a_pool_needs_the_rights_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_POOL__MODE", "shared")
    printed = kiln("aws", "policy", data=tmp_path)
    assert "autoscaling:CreateAutoScalingGroup" in printed.stdout
    assert "autoscaling:CreateAutoScalingGroup" in kiln("aws", "policy", "--part", "pool", data=tmp_path).stdout
    assert len(json.dumps(json.loads(printed.stdout), separators=(",", ":"))) <= 6144


def test_a_farm_that_renders_here_has_no_account_to_set_up(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["aws", "setup", "--data", str(tmp_path)], env={"KILN_CLOUD__PROVIDER": "local"})
    assert ended.exit_code == 1
    assert "renders on its own machine" in ended.stderr
