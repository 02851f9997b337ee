"""What an instance that gives up tells the farm, read as the farm reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodeimage import launch, protocol
from tests.aws.moto_server import Moto

from .image_files import load

gave_up = load("gave_up")


def test_farm_reads_the_last_heartbeat_as_a_node_that_is_gone() -> None:
    message = gave_up.heartbeat(instance="i-0abc", job="job_1", problem="no agent", at_ms=1700)
    beat = protocol.Heartbeat.from_bytes(json.dumps(message).encode())
    assert (beat.node, beat.job, beat.state, beat.at_ms) == ("node_0abc", "job_1", protocol.NodeState.STARTING, 1700)
    assert beat.problem == "the instance gave up and switches itself off: no agent"


def test_node_of_an_instance_bears_the_name_that_the_farm_gives_it() -> None:
    assert gave_up.node_of_instance("i-0abc") == launch.node_of_instance("i-0abc")


def test_long_last_words_are_cut() -> None:
    message = gave_up.heartbeat(instance="i-0abc", job="job_1", problem="x" * 5000, at_ms=1)
    assert len(message["problem"]) == gave_up.MOST_CHARACTERS


def test_image_writes_the_protocols_present_version() -> None:
    # a later farm reads it still; one that raises the version must say so to the image
    assert gave_up.VERSION <= protocol.VERSION


JOURNAL = """#!/bin/sh
case "$*" in
    *_SYSTEMD_UNIT=kiln-node.service*) printf 'kiln: no agent\\nkiln: no agent\\n' ;;
    *) printf 'kiln-node.service: Scheduled restart job\\nkiln-node.service: Failed with result exit-code\\n' ;;
esac
"""


def test_last_words_are_the_agents_own_and_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journalctl"
    journal.write_text(JOURNAL)
    journal.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gave_up.last_words() == "kiln: no agent | kiln-node.service: Failed with result exit-code"


def test_farm_finds_the_heartbeat_where_the_node_would_write_it(moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    moto.client("s3").create_bucket(Bucket="received")
    told = {"region": "us-east-1", "endpoint": moto.url, "projects_bucket": "p", "received_bucket": "received", "job": "job_1"}
    (tmp_path / "launch.json").write_text(json.dumps(told))
    (tmp_path / "instance-id").write_text("i-0abc")

    gave_up.tell(tmp_path, "no agent")

    key = protocol.status_key(launch.node_of_instance("i-0abc"))
    beat = protocol.Heartbeat.from_bytes(moto.client("s3").get_object(Bucket="received", Key=key)["Body"].read())
    assert (beat.job, beat.problem) == ("job_1", "the instance gave up and switches itself off: no agent")
