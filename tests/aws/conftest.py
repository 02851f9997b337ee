"""The farm that the tests' AWS is for."""

from __future__ import annotations

import pytest

from supervisor.cloud.aws.identity import Identity

from .farm import IDENTITY


@pytest.fixture
def identity() -> Identity:
    return IDENTITY
