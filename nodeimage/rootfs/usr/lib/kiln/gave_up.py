"""Say on the farm's page why this instance gives up: a last heartbeat with the last words of the unit that failed.

Run before the machine is powered off; what it can't do is not worth waiting for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

RUN = Path("/run/kiln")
UNITS = ("kiln-launch.service", "kiln-workspace.service", "kiln-node.service")
LAST_LINES = 8
MOST_CHARACTERS = 1000
#: The message's version that this image writes: `nodeimage/protocol.py` of a later farm reads it still.
VERSION = 1


def node_of_instance(instance: str) -> str:
    """As `nodeimage.protocol.node_of_instance`, which is in the agent, which may be what could not be had."""
    return "node_" + instance.removeprefix("i-")


def heartbeat(*, instance: str, job: str, problem: str, at_ms: int) -> dict[str, Any]:
    """The node's status object. Shape: as `protocol.Heartbeat`"""
    return {
        "version": VERSION,
        "node": node_of_instance(instance),
        "job": job,
        "beat": 0,
        "at_ms": at_ms,
        "state": "starting",  # not gone: it came to no good end, and the farm must not launch the next as if nothing had been
        "problem": f"the instance gave up and switches itself off: {problem}"[:MOST_CHARACTERS],
    }


def last_words() -> str:
    """What our units said last in this boot, and how systemd saw them end. Returns: empty if the journal does not tell"""
    said = _journal(*(f"_SYSTEMD_UNIT={unit}" for unit in UNITS))
    ended = [line for line in _journal(*(f"UNIT={unit}" for unit in UNITS)) if "Failed with result" in line]
    # five starts that fail alike say the same five times
    return " | ".join(dict.fromkeys([*said[-LAST_LINES:], *ended[-1:]]))[-MOST_CHARACTERS:]


def _journal(*matches: str) -> list[str]:
    command = ["journalctl", "--boot", "--output", "cat", "--no-pager", "--lines", "200", *matches]
    ran = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, errors="replace")
    return [line.strip() for line in ran.stdout.splitlines() if line.strip()]


def tell(run: Path, problem: str) -> None:
    """Write the heartbeat. Errors: OSError, ValueError, KeyError - not a farm's instance; ClientError, BotoCoreError"""
    launch = json.loads((run / "launch.json").read_bytes())
    instance = (run / "instance-id").read_text().strip()
    endpoint = launch.get("endpoint") or None
    client = boto3.client(
        "s3",
        region_name=launch["region"],
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=5,
            read_timeout=10,
            retries={"total_max_attempts": 2},
            s3={"addressing_style": "path"} if endpoint else {},
            request_checksum_calculation="when_required",
        ),
    )
    message = heartbeat(instance=instance, job=launch.get("job", ""), problem=problem, at_ms=time.time_ns() // 1_000_000)
    bucket = launch.get("received_bucket") or launch["projects_bucket"]
    key = f"received/nodes/{message['node']}/status.json"
    client.put_object(Bucket=bucket, Key=key, Body=json.dumps(message).encode(), ContentType="application/json")


def main() -> int:
    problem = last_words() or "no agent is at work, and the journal does not say why"
    sys.stderr.write(f"kiln: giving up: {problem}\n")
    try:
        tell(Path(os.environ.get("KILN_RUN", RUN)), problem)
    except (OSError, ValueError, KeyError, ClientError, BotoCoreError) as error:
        sys.stderr.write(f"kiln: the farm could not be told: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
