"""What an instance reads at its start: from a metadata service that is real HTTP, version 2 alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ami.check.metadata import MetadataServer, values_for
from nodeimage.launch import LaunchData, Role

from .image_files import LIB, load

launch = load("launch")
INSTANCE = "i-0abc"


def user_data(**changes: object) -> str:
    data = LaunchData(
        role=Role.RENDER,
        farm="farm_1",
        region="us-east-1",
        projects_bucket="p",
        received_bucket="r",
        agent="agent/1.pyz",
        agent_sha256="a" * 64,
    )
    return json.dumps({**json.loads(data.to_bytes()), **changes})


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer(("127.0.0.1", 0), values_for(INSTANCE, user_data())) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run_launch(server: MetadataServer, run: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url, "KILN_RUN": str(run), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, "-I", LIB / "launch.py"], env=environment, capture_output=True, text=True, check=False)


def test_user_data_and_instance_id_are_left_for_the_agent(metadata: MetadataServer, tmp_path: Path) -> None:
    ran = run_launch(metadata, tmp_path / "run")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "run/launch.json").read_text() == user_data()
    assert (tmp_path / "run/instance-id").read_text() == INSTANCE
    assert (tmp_path / "run/launch.json").stat().st_mode & 0o777 == 0o644


def test_what_is_left_is_what_the_farm_wrote(metadata: MetadataServer, tmp_path: Path) -> None:
    run_launch(metadata, tmp_path)
    assert LaunchData.from_bytes((tmp_path / "launch.json").read_bytes()).agent == "agent/1.pyz"


def test_launch_may_be_read_again(metadata: MetadataServer, tmp_path: Path) -> None:
    run_launch(metadata, tmp_path)
    metadata.values["/latest/user-data"] = user_data(job="job_2")
    assert run_launch(metadata, tmp_path).returncode == 0
    assert json.loads((tmp_path / "launch.json").read_text())["job"] == "job_2"


def test_metadata_service_that_is_not_up_yet_is_asked_again(metadata: MetadataServer, tmp_path: Path) -> None:
    metadata.refuse_next = 1
    assert run_launch(metadata, tmp_path).returncode == 0


def test_metadata_service_that_never_answers_is_said(tmp_path: Path) -> None:
    silent = launch.Metadata("http://127.0.0.1:9")
    with pytest.raises(OSError, match="refused"):
        launch.prepare(silent, tmp_path, patience_s=-1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("#!/bin/sh\n", "the user data is no JSON"),
        ("[]", "the user data is no JSON object"),
        (user_data(agent=""), "the user data lacks agent"),
        (user_data(agent_sha256="abc"), "agent_sha256 in the user data is no SHA-256"),
    ],
)
def test_instance_that_no_farm_launched_is_told_so(metadata: MetadataServer, tmp_path: Path, data: str, says: str) -> None:
    metadata.values["/latest/user-data"] = data
    ran = run_launch(metadata, tmp_path / "run")
    assert ran.returncode == 1
    assert says in ran.stderr
    assert not (tmp_path / "run").exists()


def test_instance_without_user_data_is_told_so(metadata: MetadataServer, tmp_path: Path) -> None:
    del metadata.values["/latest/user-data"]
    assert "launched without user data" in run_launch(metadata, tmp_path).stderr
