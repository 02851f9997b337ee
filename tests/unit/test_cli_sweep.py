"""`kiln sweep` as a person meets it when the farm itself does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from supervisor.cloud.aws.identity import FARM_TAG, JOB_TAG, ROLE_TAG, tag_list
from tests.aws.happenings import IMAGE
from tests.aws.moto_server import Moto

FARM = "abcdef012345"


def kiln(*arguments: str, data: Path) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)], input="a long enough one\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A farm that nobody serves."""
    folder = tmp_path / "data"
    assert kiln("user", "add", "ada", data=folder).exit_code == 0
    return folder


@pytest.fixture
def aws(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    settings = {"KILN_CLOUD__PROVIDER": "aws", "KILN_AWS__REGION": "us-east-1", "KILN_AWS__FARM": FARM}
    for name, value in {**moto.environment, **settings}.items():
        monkeypatch.setenv(name, value)
    return moto


def test_what_a_farm_on_aws_left_behind_is_given_back_although_the_farm_does_not_run(aws: Moto, data: Path) -> None:
    assert kiln("aws", "setup", "--yes", data=data).exit_code == 0
    tags = tag_list({FARM_TAG: FARM, ROLE_TAG: "render", JOB_TAG: "job_gone"})
    asked = {"ImageId": IMAGE, "InstanceType": "c7i.4xlarge", "MinCount": 1, "MaxCount": 1}
    [left] = aws.client("ec2").run_instances(**asked, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}])["Instances"]

    shown = kiln("sweep", "--dry-run", data=data)
    assert shown.exit_code == 0, shown.output
    assert f"would give back {left['InstanceId']}: an instance of job_gone, which is gone" in shown.output
    assert len(aws.instances("pending", "running")) == 1

    swept = kiln("sweep", "--json", data=data)
    assert [thing["id"] for thing in json.loads(swept.stdout)["swept"]] == [left["InstanceId"]]
    assert aws.instances("pending", "running") == []


def test_a_farm_on_this_machine_has_nothing_to_look_at_while_it_does_not_run(data: Path) -> None:
    refused = kiln("sweep", data=data)
    assert refused.exit_code == 1
    assert "not being served" in refused.output
