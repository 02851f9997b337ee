# What the provisioners share. Sourced, never run: . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck shell=bash

# Say why, and end.
die() {
    echo "$*" >&2
    exit 1
}

# End unless each of these variables has a value.
need() {
    local name missing=()
    for name in "$@"; do
        [ -n "${!name:-}" ] || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] || die "$(basename "$0") needs ${missing[*]} (see build.env, which ami/bundle.py writes)"
}

# Install Debian packages, and nothing that they only recommend.
install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >/dev/null
}

# fetch URL FILE: download, trying again where that may help.
fetch() {
    curl --fail --location --silent --show-error --retry 5 --retry-delay 2 --retry-connrefused --connect-timeout 20 \
        --speed-limit 10000 --speed-time 60 --output "$2" "$1" || die "could not download $1"
}

# check_sha256 FILE SUM: end unless the file has this checksum.
check_sha256() {
    local found
    found="$(sha256sum "$1" | cut -d ' ' -f 1)"
    [ "$found" = "$2" ] || die "$(basename "$1") has the SHA-256 $found and should have $2: it is not the file that the recipe names"
}
