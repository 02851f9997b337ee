#!/bin/bash
# What runs on a node, and what must not
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

systemctl enable --quiet kiln-firewall.service kiln-gpu.service kiln-node.service kiln-deadline.timer

# Nobody logs in, and nothing may take a core, a lock of apt or the network in the middle of a frame. The image is rebuilt, not updated.
unwanted=(
    ssh.service ssh.socket unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service
    man-db.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service exim4.service
)
for unit in "${unwanted[@]}"; do
    if systemctl cat "$unit" >/dev/null 2>&1; then
        systemctl disable --quiet "$unit" 2>/dev/null || true
        systemctl mask --quiet "$unit"
        echo "switched off: $unit"
    fi
done
systemctl set-default --quiet multi-user.target
# Minutes at a prompt that nobody sees are minutes paid for.
mkdir -p /etc/default/grub.d
echo 'GRUB_TIMEOUT=0' >/etc/default/grub.d/50-kiln.cfg
if command -v update-grub >/dev/null; then
    update-grub >/dev/null 2>&1
fi
systemd-analyze verify /usr/lib/systemd/system/kiln-*.service /usr/lib/systemd/system/kiln-*.timer
