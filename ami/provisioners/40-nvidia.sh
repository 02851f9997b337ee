#!/bin/bash
# The graphics driver, where the image is for GPUs
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need KILN_VARIANT
if [ "$KILN_VARIANT" != gpu ]; then
    echo "this image is for instances without a GPU"
    exit 0
fi
need KILN_NVIDIA_VERSION KILN_NVIDIA_URL KILN_NVIDIA_SHA256

# The modules are made for one kernel: the one that the image will start with, and it must be the one that runs now, to be tried.
running="$(uname -r)"
newest="$(find /lib/modules -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)"
if [ "$running" != "$newest" ]; then
    echo "this machine runs the kernel $running and has $newest"
    exit 100
fi
install_packages "linux-headers-$running" gcc make libc6-dev kmod pkg-config libglvnd-dev

installer="$(mktemp --suffix .run)"
trap 'rm -f "$installer"' EXIT
fetch "$KILN_NVIDIA_URL" "$installer"
check_sha256 "$installer" "$KILN_NVIDIA_SHA256"
# The open modules: all GPUs that EC2 rents and Blender still renders on (Turing and later) have them.
sh "$installer" --silent --accept-license --ui=none --no-x-check --no-nouveau-check --disable-nouveau --no-backup --no-install-compat32-libs \
    --kernel-module-type=open --kernel-name="$running" --log-file-name=/var/log/nvidia-installer.log ||
    die "the driver's installer failed: $(tail -n 5 /var/log/nvidia-installer.log | tr '\n' ' ')"

# Another kernel would come up without the driver.
mapfile -t kernels < <(dpkg-query --show --showformat '${Package} ${db:Status-Abbrev}\n' 'linux-image-*' 'linux-headers-*' | awk '$2 == "ii" {print $1}')
apt-mark hold "${kernels[@]}" >/dev/null
depmod "$running"
modprobe nvidia
modprobe nvidia-uvm
systemctl daemon-reload
systemctl restart kiln-gpu.service

# Cycles, Cycles at its fastest, and EEVEE without a screen: without one of these Blender would make do with less, and say little of it.
libraries="$(ldconfig -p)"
for library in libcuda.so.1 libnvoptix.so.1 libEGL_nvidia.so.0; do
    grep -qF "$library" <<<"$libraries" || die "the driver's installer left out $library"
done
found="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
[ "$found" = "$KILN_NVIDIA_VERSION" ] || die "the driver says that it is $found, and the recipe names $KILN_NVIDIA_VERSION"
nvidia-smi --list-gpus
