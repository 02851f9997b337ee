"""The one place that makes clients for AWS: credentials, region, retries, time limits."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from supervisor.cloud.ports import SIGN_IN, SIGNED_OUT, Refused, SignedOut

#: The Pricing API answers in few regions; it knows the prices of all.
PRICING_REGION = "us-east-1"
_ATTEMPTS = 4
#: Where there are no credentials, they are looked for again so often: a role may be given to a machine that runs.
_LOOK_AGAIN_S = 30.0

#: Variables that botocore signs in by.
_SIGN_IN_BY = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"})

#: What botocore calls the place that it found credentials in -> the same for people.
_SOURCES = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the AWS credentials file",
    "config-file": "the AWS configuration file",
    "iam-role": "the role of the EC2 instance that the farm runs on",
    "container-role": "the role of the container that the farm runs in",
    "assume-role": "a role that is assumed",
    "assume-role-with-web-identity": "a role that is assumed with a web identity",
    "sso": "AWS IAM Identity Center",
    "custom-process": "a program that gives credentials",
}


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
        self,
        *,
        region: str,
        profile: str = "",
        keys: Keys | None = None,
        keys_file: Path | None = None,
        s3_endpoint: str = "",
        s3_region: str = "",
        on_session: Callable[[Any], None] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Shape:   s3_endpoint: of a store other than Amazon's, with its region; on_session: called with each new boto3 session, to hook
        into its events; clock: monotonic seconds
        """
        self.region = region
        self.s3_endpoint = s3_endpoint
        self._profile = profile
        self._keys = keys
        self._keys_file = keys_file
        self._s3_region = s3_region
        self._on_session = on_session
        self._clock = clock
        self._lock = threading.Lock()
        self._session: Any = None  #: None: no credentials were found yet
        self._look_again_at = 0.0
        self._clients: dict[tuple[str, str, str], Any] = {}

    def client(self, service: str, *, region: str = "", endpoint: str = "") -> Any:  # Any: boto3's clients are made at run time
        """A client of a service. It is kept here: ask again at each use, for the credentials may change.

        Shape:   endpoint: another address of the service, such as one by which browsers reach a store; empty: its own
        Errors:  SignedOut - there are no credentials; Refused - there is no such profile
        """
        region = region or (self._s3_region if service == "s3" else "") or self.region
        endpoint = endpoint or (self.s3_endpoint if service == "s3" else "")
        wanted = (service, region, endpoint)
        with self._lock:
            session = self._signed_in()
            if wanted not in self._clients:
                self._clients[wanted] = _make(session, service, region, endpoint=endpoint)
            return self._clients[wanted]

    def late(self, service: str, *, endpoint: str = "") -> Any:
        """What stands for a client of the service where one is kept: it asks for the client of the moment at each use."""
        return _LateClient(self, service, endpoint)

    def source(self) -> str:
        """Where the credentials come from, for people. Errors: SignedOut - there are none"""
        with self._lock:
            method = str(self._signed_in().get_credentials().method)
        if self._profile:
            return f"the profile “{self._profile}” of the AWS configuration files"
        if self.has_typed_keys():
            return "keys that were typed on this farm's page"
        return _SOURCES.get(method, method)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of a process that is to sign in as this session does, made of the one that this process has."""
        if self._profile:
            return {**_without_sign_in(base), "AWS_PROFILE": self._profile}
        keys = self._keys or self._typed_keys()
        if keys is None:
            return dict(base)  # boto3 finds there what it found here
        return {**_without_sign_in(base), "AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}

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
            self._look_again_at = 0.0
            self._clients.clear()

    def trying(self, keys: Keys) -> AwsSession:
        """A session that signs in with these keys, to see whether they work before they are kept."""
        return AwsSession(region=self.region, keys=keys, on_session=self._on_session)

    def has_typed_keys(self) -> bool:
        return self._keys_file is not None and self._keys_file.exists()

    def _signed_in(self) -> Any:
        """The session of the moment, which has credentials. Errors: SignedOut, Refused"""
        if self._session is None and self._clock() >= self._look_again_at:
            self._look()
        if self._session is None:
            raise SignedOut(f"{SIGNED_OUT}; {SIGN_IN}")
        return self._session

    def _look(self) -> None:
        """Look for credentials. Asking the instance's metadata takes seconds where there is none, so not at each call."""
        self._look_again_at = self._clock() + _LOOK_AGAIN_S
        session = self._open()
        try:
            found = session.get_credentials()
        except BotoCoreError as error:
            raise Refused(f"can't sign in to AWS: {error}") from error
        if found is None:
            return
        self._session = session
        if self._on_session:
            self._on_session(session)

    def _open(self) -> Any:
        if self._profile:
            try:
                return boto3.session.Session(profile_name=self._profile, region_name=self.region)
            except ProfileNotFound as error:
                text = f"can't sign in to AWS: there is no profile “{self._profile}” ([aws] profile) in the AWS configuration files"
                raise Refused(text) from error
        keys = self._keys or self._typed_keys()
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


def _without_sign_in(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what boto3 would sign in by."""
    return {name: value for name, value in environment.items() if name not in _SIGN_IN_BY}


class _LateClient:
    """A client that is looked up at each use."""

    def __init__(self, session: AwsSession, service: str, endpoint: str) -> None:
        self._session = session
        self._service = service
        self._endpoint = endpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session.client(self._service, endpoint=self._endpoint), name)


def _make(session: Any, service: str, region: str, *, endpoint: str) -> Any:
    config = _config(service)
    if not endpoint:
        return session.client(service, region_name=region, config=config)
    # A store of one's own seldom answers under the buckets' names.
    return session.client(service, region_name=region, endpoint_url=endpoint, config=config.merge(Config(s3={"addressing_style": "path"})))


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
            # Else URLs are signed for s3.amazonaws.com, which sends browsers on to the bucket's region for hours after it was made; no
            # browser follows that with a part of an upload.
            "s3": {"addressing_style": "virtual"},
        }
    return Config(**shared)
