"""Read what this instance was launched for, through IMDSv2, and leave it in /run/kiln. Standard library only.

The user data is passed on byte for byte: the agent that travels through the bucket knows what it means, this image only what it needs
itself. AWS_EC2_METADATA_SERVICE_ENDPOINT names another metadata service, as it does for botocore.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

RUN = Path("/run/kiln")
ENDPOINT = "http://169.254.169.254"
#: The metadata service answers from the first second on, most days.
PATIENCE_S = 120.0
PAUSE_S = 1.0
TOKEN_TTL_S = 300
NEEDED = ("version", "role", "agent", "agent_sha256", "projects_bucket", "region", "workspace")


class NotOurs(Exception):
    """The user data is not what the farm writes; the message says what is wrong with it."""


class Metadata:
    """The instance metadata service, version 2."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._token = ""

    def read(self, path: str) -> bytes:
        """Read a value, with a session token. Errors: OSError - no answer, or one that is none (404 is an HTTPError)"""
        if not self._token:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            self._token = self._ask("PUT", "/latest/api/token", headers).decode()
        return self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        request = urllib.request.Request(self._endpoint + path, headers=dict(headers), method=method)
        with self._opener.open(request, timeout=5) as answer:
            content: bytes = answer.read()
            return content


def checked(data: bytes) -> bytes:
    """Return the user data as it is, having made sure that the farm wrote it. Errors: NotOurs"""
    try:
        said = json.loads(data)
    except ValueError as error:
        raise NotOurs(f"the user data is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise NotOurs("the user data is no JSON object")
    missing = [name for name in NEEDED if not said.get(name)]
    if missing:
        raise NotOurs(f"the user data lacks {', '.join(missing)}")
    if not re.fullmatch(r"[0-9a-f]{64}", str(said["agent_sha256"])):
        raise NotOurs("agent_sha256 in the user data is no SHA-256")
    return data


def user_data(metadata: Metadata) -> bytes:
    """Errors: NotOurs; OSError - the metadata service does not answer"""
    try:
        return checked(metadata.read("/latest/user-data"))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise NotOurs("the instance was launched without user data") from error
        raise


def prepare(metadata: Metadata, run: Path, *, patience_s: float = PATIENCE_S) -> None:
    """Write `launch.json` and `instance-id`.

    Repeat:  safe
    Errors:  NotOurs; OSError - the metadata service did not answer for `patience_s`
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            data, instance = user_data(metadata), metadata.read("/latest/meta-data/instance-id")
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)
    run.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(run / "instance-id", instance)
    _write(run / "launch.json", data)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.chmod(0o644)
    draft.replace(path)


def main() -> int:
    metadata = Metadata(os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINT)
    try:
        prepare(metadata, Path(os.environ.get("KILN_RUN", RUN)))
    except NotOurs as error:
        sys.stderr.write(f"kiln: this instance was not launched by a farm: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"kiln: the metadata service does not answer: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
