"""How often nodes speak: as it is configured, else as it suits the cloud."""

from __future__ import annotations

import pytest

from supervisor.config import Config, load_config


def times(env: dict[str, str]) -> tuple[float, float, float]:
    found = load_config(None, env=env).node_times
    return found.heartbeat_s, found.lease_s, found.poll_s


AWS = {"KILN_CLOUD__PROVIDER": "aws"}


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, (2.0, 60.0, 1.0)),
        (AWS, (5.0, 90.0, 2.0)),
        ({**AWS, "KILN_NODE__HEARTBEAT_S": "2", "KILN_NODE__POLL_S": "1"}, (2.0, 60.0, 1.0)),
        ({**AWS, "KILN_NODE__HEARTBEAT_S": "20"}, (20.0, 360.0, 2.0)),
        ({**AWS, "KILN_NODE__HEARTBEAT_S": "20", "KILN_NODE__LEASE_S": "45"}, (20.0, 45.0, 2.0)),
    ],
)
def test_nodes_on_aws_speak_less_often_unless_they_are_told_otherwise(env: dict[str, str], wanted: tuple[float, float, float]) -> None:
    assert times(env) == wanted


def test_how_long_a_node_waits_for_work_is_the_same_everywhere() -> None:
    assert Config().node_times.idle_s == load_config(None, env=AWS).node_times.idle_s == 300.0
