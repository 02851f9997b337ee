#!/bin/bash
# Blender, each version in a folder of its own
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need KILN_ARCH KILN_BLENDER_MIRROR KILN_BLENDERS

case "$KILN_ARCH" in
    x86_64) platform=linux-x64 ;;
    arm64) platform=linux-arm64 ;;
    *) die "there is no Blender for $KILN_ARCH" ;;
esac
mkdir -p /opt/blender
work="$(mktemp --directory --tmpdir=/var/tmp)"
trap 'rm -rf "$work"' EXIT

# What the mirror itself says of a file, over HTTPS: where the recipe says `from-mirror`, for want of a checksum of its own.
mirrors_word() {
    local version="$1" archive="$2"
    fetch "$KILN_BLENDER_MIRROR/Blender${version%.*}/blender-$version.sha256" "$work/sums"
    awk -v name="$archive" '$2 == name || $2 == "*" name {print $1}' "$work/sums" | grep -xE '[0-9a-f]{64}' ||
        die "the mirror's list of checksums for Blender $version does not name $archive"
}

install_blender() {
    local version="$1" sum="$2" archive="blender-$1-$platform.tar.xz" folder="/opt/blender/$1" said
    if [ "$(cat "$folder/.kiln-sha256" 2>/dev/null || true)" != "$sum" ] || [ "$sum" = from-mirror ]; then
        if [ "$sum" = from-mirror ]; then
            [ "${KILN_BLENDER_MIRROR#https://}" != "$KILN_BLENDER_MIRROR" ] || die "a checksum from the mirror needs a mirror with https"
            sum="$(mirrors_word "$version" "$archive")"
            echo "Blender $version: the mirror says SHA-256 $sum"
        fi
        fetch "$KILN_BLENDER_MIRROR/Blender${version%.*}/$archive" "$work/$archive"
        check_sha256 "$work/$archive" "$sum"
        rm -rf "$work/unpacked"
        mkdir "$work/unpacked"
        tar --extract --xz --file "$work/$archive" --directory "$work/unpacked" --strip-components 1 --no-same-owner
        rm "$work/$archive"
        [ -x "$work/unpacked/blender" ] || die "$archive has no program blender"
        rm -rf "$folder"
        mv "$work/unpacked" "$folder"
        chmod -R u=rwX,go=rX "$folder"
        echo "$sum" >"$folder/.kiln-sha256"
    fi
    said="$("$folder/blender" --version 2>/dev/null | sed -n '1s/^Blender \([0-9.]*\).*/\1/p')"
    [ "$said" = "$version" ] || die "/opt/blender/$version says that it is Blender ${said:-(nothing)}"
    ln -sfn "$version" "/opt/blender/${version%.*}"
    echo "Blender $version"
}

for entry in $KILN_BLENDERS; do
    install_blender "${entry%%=*}" "${entry#*=}"
done
