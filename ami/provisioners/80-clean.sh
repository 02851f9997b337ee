#!/bin/bash
# Nothing of the machine that built the image stays in it
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

apt-get -qq clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /root/.cache /tmp/pip-* /var/tmp/pip-*
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
rm -f /root/.bash_history /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
if command -v cloud-init >/dev/null; then
    cloud-init clean --logs >/dev/null
fi
# Empty, not absent: systemd makes a new one at the next start, and takes that for no first boot of its own.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed
find /var/lib/kiln/agent /var/lib/kiln/node /var/lib/kiln/workspace -mindepth 1 -delete
