"""Environments in which AWS's libraries find no credentials that a test did not put there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

#: No configuration files, whoever runs the tests.
NO_FILES = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
#: What names credentials in an environment.
_CREDENTIALS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"})


def signed_out(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment such as `moto.environment` without its credentials, and with none in files or in an instance's metadata."""
    kept = {name: value for name, value in environment.items() if name not in _CREDENTIALS}
    return {**kept, **NO_FILES, "AWS_EC2_METADATA_DISABLED": "true"}


def sign_out(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Let this process find no credentials. `environment`: of what it is to take for AWS; empty: of nothing"""
    for name in (*_CREDENTIALS, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in signed_out(environment).items():
        monkeypatch.setenv(name, value)
