"""The one place that makes clients for AWS: credentials, region, retries, time limits."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ProfileNotFound

from supervisor.cloud.ports import Refused

#: The Pricing API answers in few regions; it knows the prices of all.
PRICING_REGION = "us-east-1"
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys that an administrator typed on the page."""

    access_key: str
    secret_key: str = field(repr=False)


class AwsSession:
    """Makes clients, one of each service and region, safe to share between threads.

    Credentials: the profile that is configured; else keys typed on the page; else whatever boto3 finds (environment, instance role).
    """

    def __init__(
        self, *, region: str, profile: str = "", keys_file: Path | None = None, on_session: Callable[[Any], None] | None = None
    ) -> None:
        """Shape:   on_session: called with each new boto3 session, to hook into its events"""
        self.region = region
        self._profile = profile
        self._keys_file = keys_file
        self._on_session = on_session
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, *, region: str = "") -> Any:  # Any: boto3's clients are made at run time
        """A client of a service. Errors: Refused - there is no such profile"""
        wanted = (service, region or self.region)
        with self._lock:
            if wanted not in self._clients:
                self._clients[wanted] = self._boto3().client(service, region_name=wanted[1], config=_config(service))
            return self._clients[wanted]

    def change_keys(self, keys: Keys | None) -> None:
        """Keep other keys from now on, for the farm's user alone; None: forget them."""
        assert self._keys_file is not None, "only a session with a file for its keys is asked to change them"
        with self._lock:
            if keys is None:
                self._keys_file.unlink(missing_ok=True)
            else:
                draft = self._keys_file.with_suffix(".new")
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                    file.write(json.dumps(asdict(keys)))
                draft.replace(self._keys_file)
            self._session = None
            self._clients.clear()

    def has_typed_keys(self) -> bool:
        return self._keys_file is not None and self._keys_file.exists()

    def _boto3(self) -> Any:
        if self._session is None:
            self._session = self._open()
            if self._on_session:
                self._on_session(self._session)
        return self._session

    def _open(self) -> Any:
        if self._profile:
            try:
                return boto3.session.Session(profile_name=self._profile, region_name=self.region)
            except ProfileNotFound as error:
                text = f"can't sign in to AWS: there is no profile “{self._profile}” ([aws] profile) in the AWS configuration files"
                raise Refused(text) from error
        keys = self._typed_keys()
        if keys:
            return boto3.session.Session(aws_access_key_id=keys.access_key, aws_secret_access_key=keys.secret_key, region_name=self.region)
        return boto3.session.Session(region_name=self.region)

    def _typed_keys(self) -> Keys | None:
        if self._keys_file is None or not self._keys_file.exists():
            return None
        try:
            return Keys(**json.loads(self._keys_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise Refused(f"can't sign in to AWS: {self._keys_file.name} in the data folder can't be read; type the keys again") from error


def _config(service: str) -> Config:
    shared: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_pool_connections": 32,
        "user_agent_extra": "kiln",
    }
    if service == "s3":
        # Other stores than Amazon's know the trailing checksums only in part.
        shared |= {
            "signature_version": "s3v4",
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    return Config(**shared)
