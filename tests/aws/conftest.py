"""The farm's own way into the tests' AWS."""

from __future__ import annotations

import pytest

from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.aws.session import AwsSession

from .moto_server import Moto
from .policy_check import Asked
from .world import REGION

FARM = "0123456789ab"


@pytest.fixture
def identity() -> Identity:
    return Identity(farm=FARM, projects_bucket=f"kiln-{FARM}-projects", received_bucket=f"kiln-{FARM}-received")


@pytest.fixture
def asked(moto: Moto) -> Asked:
    """What was asked of AWS in the farm's name."""
    return Asked(moto)


@pytest.fixture
def aws_session(moto: Moto, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> AwsSession:
    """A session that takes moto for AWS: credentials and addresses come from the environment, as for a farm."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return AwsSession(region=REGION, on_session=asked.hear)
