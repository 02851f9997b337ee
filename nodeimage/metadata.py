"""The instance metadata service, version 2: who this instance is, what it was launched with, and whether the cloud takes it back.

Source: Amazon EC2 User Guide, “Use the Instance Metadata Service” and “Spot Instance interruption notices”, as of 2026-01.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException

ENDPOINT = "http://169.254.169.254"
#: botocore reads the same variable for the instance role's keys.
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
#: The same: `true` where nobody is to ask.
DISABLED_VARIABLE = "AWS_EC2_METADATA_DISABLED"
TOKEN_TTL_S = 21600
TIMEOUT_S = 3.0
#: What a notice whose time can't be read is taken to give: the cloud promises two minutes.
NOTICE_S = 120.0

#: No answer, half of one, or none that HTTP knows.
_NO_ANSWER = (OSError, HTTPException, ValueError)


class MetadataError(Exception):
    """The metadata service did not answer, or not with what was asked; the same call may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotAction:
    """The cloud's notice that it takes the instance back."""

    action: str  #: terminate | stop | hibernate
    at_ms: int  #: UTC; not before then


class Metadata:
    """A client of the metadata service. May be called from any thread."""

    def __init__(self, endpoint: str = ENDPOINT, *, timeout_s: float = TIMEOUT_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Shape:   endpoint: empty: nobody is asked"""
        self._endpoint = endpoint.rstrip("/")
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        # The service is link-local: a proxy of the environment's must not see the token.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    @classmethod
    def from_env(cls, env: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> Metadata:
        is_off = env.get(DISABLED_VARIABLE, "").lower() == "true"
        return cls("" if is_off else env.get(ENDPOINT_VARIABLE) or ENDPOINT, timeout_s=timeout_s)

    def read(self, path: str) -> bytes | None:
        """Read a value below `/latest/`. Returns: None if there is none (404). Errors: MetadataError"""
        for is_last in (False, True):
            token = self._current_token()
            try:
                return self._ask("GET", f"/latest/{path}", {"X-aws-ec2-metadata-token": token})
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code != 401 or is_last:
                    raise MetadataError(f"the metadata service answers {error.code} to {path}") from error
                self._drop(token)  # expired before its time, as after a hibernation
            except _NO_ANSWER as error:
                raise MetadataError(f"the metadata service does not answer about {path}: {error}") from error
        raise AssertionError("the last try returns or raises")

    def user_data(self) -> bytes | None:
        """What the instance was launched with. Errors: MetadataError"""
        return self.read("user-data")

    def instance_id(self) -> str:
        """Errors: MetadataError"""
        return self._text("meta-data/instance-id")

    def zone(self) -> str:
        """Errors: MetadataError"""
        return self._text("meta-data/placement/availability-zone")

    def region(self) -> str:
        """Errors: MetadataError"""
        return self._text("meta-data/placement/region")

    def instance_type(self) -> str:
        """Errors: MetadataError"""
        return self._text("meta-data/instance-type")

    def life_cycle(self) -> str:
        """`spot`, `on-demand` or `scheduled`. Errors: MetadataError"""
        return self._text("meta-data/instance-life-cycle")

    def spot_action(self, *, now_ms: int) -> SpotAction | None:
        """What the cloud is about to do with the instance. Returns: None if nothing. Errors: MetadataError"""
        told = self.read("meta-data/spot/instance-action")
        return None if told is None else _spot_action(told, now_ms=now_ms)

    def rebalance_recommended(self) -> str:
        """When the cloud began to think that it may take the instance back; empty: it does not. Errors: MetadataError"""
        told = self.read("meta-data/events/recommendations/rebalance")
        return "" if told is None else told.decode(errors="replace").strip()

    def _text(self, path: str) -> str:
        told = self.read(path)
        if not told:
            raise MetadataError(f"the metadata service knows no {path}")
        return told.decode(errors="replace").strip()

    def _current_token(self) -> str:
        with self._lock:
            if self._token and self._monotonic() < self._renew_at:
                return self._token
            if not self._endpoint:
                raise MetadataError(f"{DISABLED_VARIABLE} says that the metadata service is not to be asked")
            try:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
                self._token = self._ask("PUT", "/latest/api/token", headers).decode()
            except urllib.error.HTTPError as error:
                raise MetadataError(f"the metadata service gives no token: {error.code}{_TOKEN_HINTS.get(error.code, '')}") from error
            except _NO_ANSWER as error:
                hint = "on the instance itself it is reached in one hop: from inside a container it is not"
                raise MetadataError(f"the metadata service does not answer: {error} ({hint})") from error
            self._renew_at = self._monotonic() + 0.9 * TOKEN_TTL_S
            return self._token

    def _drop(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._token = ""

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        request = urllib.request.Request(self._endpoint + path, headers=dict(headers), method=method)
        with self._opener.open(request, timeout=self._timeout_s) as answer:
            content: bytes = answer.read()
            return content


_TOKEN_HINTS = {403: " (it is switched off for this instance)", 400: " (it knows version 1 only)", 404: " (it knows version 1 only)"}


def _spot_action(told: bytes, *, now_ms: int) -> SpotAction:
    """Read a notice. One that can't be read is a notice all the same."""
    try:
        said = json.loads(told)
        at = datetime.fromisoformat(said["time"])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return SpotAction(action=str(said["action"]), at_ms=int(at.timestamp() * 1000))
    except (ValueError, KeyError, TypeError):
        return SpotAction(action="unknown", at_ms=now_ms + int(NOTICE_S * 1000))
