"""An agent for the image's proof: it does once what a real one does for hours, and tells the bucket how things were.

Runs on the image as `nodeimage.instance`. The launch's `check` says what it is to do: `render`, or `hang` after it has come up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3

from nodeimage.agent.blender import Blender, Event
from nodeimage.protocol import NodeConfig, RenderSettings
from nodeimage.systemd import Systemd

HOME, WORKSPACE = Path("/var/lib/kiln/node"), Path("/var/lib/kiln/workspace")
PATIENCE_S = 300.0


def awaited(blender: Blender, *names: str) -> Event:
    while True:
        event = blender.next_event(PATIENCE_S)
        if event is None or event.name == "exit":
            raise SystemExit(f"Blender: {event} {blender.log.tail()}")
        if event.name in names:
            return event


def rendered(series: str) -> dict[str, Any]:
    """Render a frame of the workspace's file. Returns: how that went"""
    program = f"/usr/lib/kiln/as-blender /opt/blender/{series}/blender"
    blender = Blender(
        NodeConfig(node="n", job="j", bucket="b", home=str(HOME), workspace=str(WORKSPACE), blender=program),
        number=1,
        environment=os.environ,
    )
    blender.open(RenderSettings(main_file="cycles.blend", preview_width_px=32))
    opened = awaited(blender, "opened", "cannot_open")
    user = Path(f"/proc/{blender.pid}").stat().st_uid
    blender.render(1, HOME / "rendering" / "1-1", in_order=False)
    ended = awaited(blender, "rendered", "failed")
    blender.kill(ask_first=True)
    return {"opened": dict(opened.fields), "user": user, "ended": ended.name, "frame": dict(ended.fields)}


def printed(*command: str) -> list[str]:
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def surroundings() -> dict[str, Any]:
    """How the machine is, as the agent finds it."""
    return {
        "instance": Path("/run/kiln/instance-id").read_text(),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if " /var/lib/kiln" in line],
        "failed": printed("systemctl", "list-units", "--failed", "--plain", "--no-legend"),
        "timers": printed("systemctl", "list-timers", "--all", "--plain", "--no-legend"),
        "listening": printed("ss", "-Hltun"),
    }


def work(told: Mapping[str, Any], systemd: Systemd) -> None:
    client = boto3.client("s3", region_name=told["region"], endpoint_url=told["endpoint"])
    body = client.get_object(Bucket=told["projects_bucket"], Key="projects/j/cycles.blend")["Body"].read()
    (WORKSPACE / "cycles.blend").write_bytes(body)
    systemd.alive()
    report = {**surroundings(), **rendered(told["blender"])}
    client.put_object(Bucket=told["received_bucket"], Key="received/check/report.json", Body=json.dumps(report).encode())
    subprocess.run(["systemctl", "--no-block", "poweroff"], check=True)


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        return
    told = json.loads(Path(os.environ["KILN_LAUNCH"]).read_bytes())
    systemd = Systemd.from_env(os.environ)
    systemd.ready()
    if told["check"] == "hang":
        time.sleep(3600)  # and never says that it lives
    work(told, systemd)


if __name__ == "__main__":
    main()
