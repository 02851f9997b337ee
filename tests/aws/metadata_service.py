"""Stands in for the instance metadata service, version 2, of one instance: tokens, user data, identity, notices, the role's keys."""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

ROLE = "kiln-node"
TOKEN_HEADER, TTL_HEADER = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
_MOST_TTL_S = 21600


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """Keys that the instance's role has."""

    access_key: str
    secret_key: str = field(repr=False)


class MetadataService:
    """What `http://169.254.169.254` is to one instance. Use as a context: `endpoint` goes into AWS_EC2_METADATA_SERVICE_ENDPOINT."""

    def __init__(
        self,
        *,
        instance_id: str = "i-0abc",
        user_data: bytes | None = None,
        life_cycle: str = "spot",
        instance_type: str = "c7i.4xlarge",
        zone: str = "us-east-1a",
        keys: RoleKeys | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._failing = 0
        self._keys = keys
        self._values = {
            "meta-data/instance-id": instance_id,
            "meta-data/instance-life-cycle": life_cycle,
            "meta-data/instance-type": instance_type,
            "meta-data/placement/availability-zone": zone,
            "meta-data/placement/region": zone[:-1],
        }
        if user_data is not None:
            self._values["user-data"] = user_data.decode()
        self.asked: list[str] = []  #: paths that were read, in order
        self.tokens_given = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # What a test makes happen

    def announce_interruption(self, *, in_s: float = 120.0, action: str = "terminate") -> datetime:
        """Say that the instance is taken back. Returns: when"""
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=in_s)
        self.set_value("meta-data/spot/instance-action", json.dumps({"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}))
        return at

    def withdraw_interruption(self) -> None:
        self.set_value("meta-data/spot/instance-action", None)

    def recommend_rebalance(self) -> None:
        now = datetime.now(UTC)
        self.set_value("meta-data/events/recommendations/rebalance", json.dumps({"noticeTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}))

    def set_value(self, path: str, value: str | None) -> None:
        """Make a path below `/latest/` have a value; None: it is not there."""
        with self._lock:
            self._values.pop(path, None)
            if value is not None:
                self._values[path] = value

    def expire_tokens(self) -> None:
        """Make every token that was given be answered with 401."""
        with self._lock:
            self._tokens.clear()

    def fail_with(self, status: int) -> None:
        """Answer everything with this status; 0: as usual again."""
        self._failing = status

    # What it answers

    def _give_token(self, ttl: str) -> tuple[int, str]:
        if self._failing:
            return self._failing, ""
        if not ttl.isdigit() or not 1 <= int(ttl) <= _MOST_TTL_S:
            return 400, ""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._tokens[token] = time.monotonic() + int(ttl)
            self.tokens_given += 1
        return 200, token

    def _read(self, path: str, token: str) -> tuple[int, str]:
        if self._failing:
            return self._failing, ""
        with self._lock:
            self.asked.append(path)
            if self._tokens.get(token, 0.0) < time.monotonic():
                return 401, ""
            value = self._values.get(path)
        if value is None and self._keys is not None:
            value = self._role(path, self._keys)
        return (404, "") if value is None else (200, value)

    def _role(self, path: str, keys: RoleKeys) -> str | None:
        place = "meta-data/iam/security-credentials/"
        if path == place:
            return ROLE
        if path != place + ROLE:
            return None
        until = datetime.now(UTC) + timedelta(hours=6)
        told = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "Token": "",
            "LastUpdated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        }
        return json.dumps(told)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_PUT(self) -> None:
                if self.path != "/latest/api/token":
                    self._answer(404, "")
                elif self.headers.get("X-Forwarded-For"):
                    self._answer(403, "")  # as the real one refuses what a proxy passes on
                else:
                    self._answer(*service._give_token(self.headers.get(TTL_HEADER, "")))

            def do_GET(self) -> None:
                self._answer(*service._read(self.path.removeprefix("/latest/"), self.headers.get(TOKEN_HEADER, "")))

            def _answer(self, status: int, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
