"""Fetch the farm's agent from the bucket, make sure that it is the one the launch names, unpack it, and become it.

The image holds no agent, so an image outlives upgrades of the farm. With `--check`, the agent is told to do no
more than to see that all is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

RUN = Path("/run/kiln")
AGENTS = Path("/var/lib/kiln/agent")
MODULE = "nodeimage.instance"
#: With the unit's five starts: an outage of nine minutes at the boot is survived.
TRIES = 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 20.0
#: The store's answers that another try will not change, but for a role whose rights have not spread yet (403).
_FINAL = frozenset({"NoSuchKey", "NoSuchBucket", "404"})


class NoAgent(Exception):
    """The agent can't be had, or is not what it should be; the message says which."""


def s3_client(launch: Mapping[str, Any]) -> Any:  # Any: boto3's clients are made at run time
    """Make the store's client. Keys are the instance role's."""
    endpoint = launch.get("endpoint") or None
    return boto3.client(
        "s3",
        region_name=launch["region"],
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"} if endpoint else {},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def fetched(client: Any, bucket: str, key: str, *, pause: Callable[[float], None] = time.sleep) -> bytes:
    """Read an object, trying again for some minutes. Errors: NoAgent"""
    wait_s = FIRST_PAUSE_S
    for attempt in range(1, TRIES + 1):
        try:
            content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
            return content
        except (ClientError, BotoCoreError, OSError) as error:
            code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
            if code in _FINAL or attempt == TRIES:
                raise NoAgent(f"the agent s3://{bucket}/{key} can't be fetched: {error}") from error
            notify(f"STATUS=waiting for the store: {error}")
            pause(wait_s)
            wait_s = min(2 * wait_s, LONGEST_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def unpacked(archive: bytes, sha256: str, agents: Path) -> Path:
    """Make the agent's folder be there, whole.

    Repeat:  safe: what was unpacked before is used as it is
    Errors:  NoAgent - the archive is not the one named, or no archive
    """
    found = hashlib.sha256(archive).hexdigest()
    if found != sha256:
        raise NoAgent(f"the agent in the bucket is not the one that the launch names: SHA-256 {found}, not {sha256}")
    folder, draft = agents / sha256, agents / f".{sha256}.new"
    if folder.is_dir():
        return folder
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            packed.extractall(draft)
    except (zipfile.BadZipFile, OSError) as error:
        raise NoAgent(f"the agent can't be unpacked: {error}") from error
    for path in (draft, *draft.rglob("*")):  # Blender's user reads the driver there, whatever our umask
        path.chmod(0o755 if path.is_dir() else 0o644)
    draft.rename(folder)
    return folder


def agent_folder(run: Path, agents: Path) -> Path:
    """Have the agent that `launch.json` names. Returns: its folder. Errors: NoAgent, OSError"""
    launch = json.loads((run / "launch.json").read_bytes())
    folder: Path = agents / launch["agent_sha256"]
    if folder.is_dir():
        return folder
    notify(f"STATUS=fetching {launch['agent']}")
    archive = fetched(s3_client(launch), launch["projects_bucket"], launch["agent"])
    return unpacked(archive, launch["agent_sha256"], agents)


def notify(message: str) -> None:
    """Tell systemd how things stand, where it listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.sendall(message.encode())


def agent_command(folder: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The agent's command line and environment."""
    # -P: the folder we were started in is no place for modules
    return [sys.executable, "-P", "-m", MODULE, *arguments], {**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}


def main() -> NoReturn:
    run, agents = Path(os.environ.get("KILN_RUN", RUN)), Path(os.environ.get("KILN_AGENTS", AGENTS))
    try:
        folder = agent_folder(run, agents)
    except (NoAgent, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"kiln: {error}\n")
        sys.exit(1)
    command, environment = agent_command(folder, sys.argv[1:])
    sys.stderr.flush()
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
