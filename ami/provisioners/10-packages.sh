#!/bin/bash
# Debian's updates, and the packages that a node needs
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=(
    # what the node itself runs
    python3 python3-venv ca-certificates curl xz-utils nftables util-linux e2fsprogs udev chrony
    # what Blender's official builds load
    libx11-6 libxext6 libxrender1 libxfixes3 libxi6 libxxf86vm1 libxkbcommon0 libsm6 libice6 libgl1 libegl1 libgles2 libgl1-mesa-dri
    libvulkan1 libgomp1 libfreetype6 fontconfig-config fonts-dejavu-core
)

# cloud-init and Debian's own timers work with apt too, on a machine that has just started
apt=(apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5)
# the lock of the lists is one that apt itself does not wait for
for try in {1..20}; do
    "${apt[@]}" update && break
    [ "$try" -lt 20 ] || die "Debian's lists of packages can't be fetched, or another apt has kept them locked for minutes"
    sleep 15
done
DEBIAN_FRONTEND=noninteractive "${apt[@]}" -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold upgrade --with-new-pkgs >/dev/null
install_packages "${packages[@]}"
