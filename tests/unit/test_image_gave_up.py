"""What an instance that gives up tells the farm, read as the farm reads it."""

from __future__ import annotations

import json

from nodeimage import launch, protocol

from .image_files import load

gave_up = load("gave_up")


def test_farm_reads_the_last_heartbeat_as_a_node_that_is_gone() -> None:
    message = gave_up.heartbeat(instance="i-0abc", job="job_1", problem="no agent", at_ms=1700)
    beat = protocol.Heartbeat.from_bytes(json.dumps(message).encode())
    assert (beat.node, beat.job, beat.state, beat.at_ms) == ("node_0abc", "job_1", protocol.NodeState.GONE, 1700)
    assert beat.problem == "the instance gave up and switches itself off: no agent"


def test_node_of_an_instance_bears_the_name_that_the_farm_gives_it() -> None:
    assert gave_up.node_of_instance("i-0abc") == launch.node_of_instance("i-0abc")


def test_long_last_words_are_cut() -> None:
    message = gave_up.heartbeat(instance="i-0abc", job="job_1", problem="x" * 5000, at_ms=1)
    assert len(message["problem"]) == gave_up.MOST_CHARACTERS


def test_image_writes_the_protocols_present_version() -> None:
    # a later farm reads it still; one that raises the version must say so to the image
    assert gave_up.VERSION <= protocol.VERSION
