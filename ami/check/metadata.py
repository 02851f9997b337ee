"""Stands in for EC2's instance metadata service: version 2 alone, with user data and an instance role's keys."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLE = "kiln-node"
#: The keys of the role: no store that checks keys ever sees them.
KEYS = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "AccessKeyId": "ASIACHECK",
    "SecretAccessKey": "check",
    "Token": "check",
    "LastUpdated": "2026-01-01T00:00:00Z",
    "Expiration": "2099-01-01T00:00:00Z",
}


def values_for(instance: str, user_data: str | None) -> dict[str, str]:
    """What the service knows, by path. Shape: without user data there is no path for it"""
    values = {
        "/latest/meta-data/instance-id": instance,
        "/latest/meta-data/instance-life-cycle": "on-demand",
        "/latest/meta-data/placement/region": "us-east-1",
        "/latest/meta-data/iam/security-credentials/": ROLE,
        f"/latest/meta-data/iam/security-credentials/{ROLE}": json.dumps(KEYS),
    }
    if user_data is not None:
        values["/latest/user-data"] = user_data
    return values


class MetadataServer(ThreadingHTTPServer):
    """The service, with handles for trouble."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], values: Mapping[str, str]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.values = dict(values)
        self.tokens: set[str] = set()
        self.refuse_next = 0  #: so many calls are answered 503

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_PUT(self) -> None:
        if self._is_refused():
            return
        if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            self.send_error(400)
            return
        token = secrets.token_urlsafe(16)
        self.server.tokens.add(token)
        self._answer(token)

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
            self.send_error(401)
        elif (value := self.server.values.get(self.path)) is None:
            self.send_error(404)
        else:
            self._answer(value)

    def _is_refused(self) -> bool:
        if not self.server.refuse_next:
            return False
        self.server.refuse_next -= 1
        self.send_error(503)
        return True

    def _answer(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
