"""The composition root's half for AWS: what a farm that rents instances is put together from."""

from __future__ import annotations

from pathlib import Path

from supervisor.cloud.aws.session import AwsSession
from supervisor.config import Config

#: Keys that an administrator typed on the page, in the data folder.
KEYS_FILE = "aws-keys.json"


def open_session(config: Config, data: Path) -> AwsSession:
    """The farm's way into AWS. Nothing is sent yet."""
    return AwsSession(region=config.aws.region, profile=config.aws.profile, keys_file=data / KEYS_FILE)
