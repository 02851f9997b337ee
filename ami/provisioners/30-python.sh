#!/bin/bash
# The agent's Python packages, each by its checksum
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need KILN_BUNDLE

venv=/opt/kiln/venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
# Wheels only: what is built from source runs a stranger's program, as root.
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-cache-dir --no-deps --only-binary :all: --require-hashes \
    --requirement "$KILN_BUNDLE/requirements.txt"
"$venv/bin/pip" check --disable-pip-version-check
"$venv/bin/python" -I -m compileall -q /usr/lib/kiln "$venv/lib"
