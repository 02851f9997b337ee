#!/bin/bash
# Kiln's own files, users and folders
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need KILN_BUNDLE

rootfs="$KILN_BUNDLE/rootfs"
[ -d "$rootfs/usr/lib/kiln" ] || die "the bundle has no rootfs"
# Not cp -a: the owner is root whoever packed the bundle, and folders that Debian has keep their modes.
tar --create --directory "$rootfs" --owner 0 --group 0 . |
    tar --extract --directory / --no-same-permissions --no-overwrite-dir --keep-directory-symlink
chmod 0755 /usr/lib/kiln /usr/lib/kiln/as-blender /usr/lib/kiln/deadline

systemd-sysusers /usr/lib/sysusers.d/kiln.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/kiln.conf
[ "$(id -u blender):$(id -g blender)" = 880:880 ] || die "the user blender has the numbers $(id -u blender):$(id -g blender), not 880:880"
