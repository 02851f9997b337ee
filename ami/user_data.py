"""The builder's user data: a script that cloud-init runs once on a fresh Debian, which leaves a unit that builds."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

_PROGRAM = Path(__file__).resolve().parent / "on_builder.py"
#: EC2 takes no more, before it is encoded.
MOST_BYTES = 16 * 1024

#: A builder that hangs stops by itself; the farm gives up on it before (`builder.LONGEST_BUILD`).
_SCRIPT = Template(
    r"""#!/bin/bash
set -euo pipefail
shutdown -h +$longest_minutes
export DEBIAN_FRONTEND=noninteractive
install_boto3() { apt-get -qq update && apt-get -qq install --yes python3-boto3; }
# a mirror may be busy, and the network not quite there
install_boto3 || { sleep 20; install_boto3; } || { sleep 60; install_boto3; }
install -d -m 0700 /root/kiln-build
cd /root/kiln-build
echo $program | base64 -d | gunzip >on_builder.py
echo $orders | base64 -d >orders.json
cat >/etc/systemd/system/kiln-build.service <<'UNIT'
[Unit]
Description=Kiln: make this machine an image
Wants=network-online.target
After=network-online.target
[Service]
# a shutdown that was planned is forgotten when the machine restarts in the middle
ExecStartPre=/bin/sh -c 'test -e /run/systemd/shutdown/scheduled || shutdown -h +$longest_minutes'
ExecStart=/usr/bin/python3 /root/kiln-build/on_builder.py
Restart=on-failure
RestartSec=10
[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet kiln-build.service
systemctl start --no-block kiln-build.service
"""
)


def builder_user_data(orders: Mapping[str, str], *, longest_minutes: int) -> str:
    """Write the script that makes a fresh Debian build. Names, ids and the checksum of the bundle stand in it, no secret.

    Shape:   orders: what `on_builder` reads: build, region, endpoint, bucket, bundle, bundle_sha256, received_bucket, report, log
    """
    script = _SCRIPT.substitute(
        longest_minutes=longest_minutes,
        program=base64.b64encode(gzip.compress(_PROGRAM.read_bytes(), mtime=0)).decode(),
        orders=base64.b64encode(json.dumps(dict(orders), sort_keys=True).encode()).decode(),
    )
    assert len(script.encode()) <= MOST_BYTES, "the program that it carries is small"
    return script
