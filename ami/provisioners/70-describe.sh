#!/bin/bash
# What the image says of itself
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need KILN_RECIPE KILN_VARIANT KILN_ARCH KILN_PROTOCOL KILN_BLENDERS

mkdir -p /etc/kiln
versions=()
for entry in $KILN_BLENDERS; do
    versions+=("${entry%%=*}")
done
KILN_VERSIONS="${versions[*]}" /opt/kiln/venv/bin/python -I - >/etc/kiln/image.json.new <<'PYTHON'
import json
import os
import platform
import sys

description = {
    "protocol": int(os.environ["KILN_PROTOCOL"]),
    "blenders": os.environ["KILN_VERSIONS"].split(),
    "variant": os.environ["KILN_VARIANT"],
    "arch": os.environ["KILN_ARCH"],
    "recipe": os.environ["KILN_RECIPE"],
    "agent_python": platform.python_version(),
}
if os.environ["KILN_VARIANT"] == "gpu":
    description["nvidia"] = os.environ["KILN_NVIDIA_VERSION"]
json.dump(description, sys.stdout, indent=1)
print()
PYTHON
mv /etc/kiln/image.json.new /etc/kiln/image.json
# Debian's packages are those of the day: this says which.
dpkg-query --show >/etc/kiln/packages.txt
