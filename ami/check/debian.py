"""A fresh Debian 12, as a builder starts from: made once, and used through a layer that is thrown away."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ami.check.commands import Failed, run

SUITE = "bookworm"
#: What starts a machine.
FIRST_PACKAGES = "ca-certificates,dbus,systemd,systemd-sysv,udev"
#: What Debian's cloud image has besides, as far as the provisioners meet it.
PACKAGES = ("cloud-init", "cron", "curl", "e2fsprogs", "iproute2", "man-db", "openssh-server", "unattended-upgrades")


def apt_sources() -> list[str]:
    """The machine's own sources of the suite: lines of a sources.list. Errors: Failed - there are none"""
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(CODENAME) $(COMPONENT)", "Identifier: Packages")
    found = set()
    for line in listed.splitlines():
        uri, release, codename, component = line.split()
        name = next((name for name in (codename, release) if name.startswith(SUITE)), None)
        if name is not None and component == "main":
            found.add(f"deb {uri.rstrip('/')} {name} main")
    if not any(line.endswith(f" {SUITE} main") for line in found):
        raise Failed(f"this machine's apt has no source of Debian's {SUITE}: image-check makes its Debian from the machine's own")
    return sorted(found)


def made_base(cache: Path) -> Path:
    """Have the base system. Returns: its folder; made before, or in about two minutes"""
    sources = apt_sources()
    name = hashlib.sha256("\n".join([FIRST_PACKAGES, *PACKAGES, *sources]).encode()).hexdigest()[:12]
    base = cache / f"base-{name}"
    if base.is_dir():
        return base
    draft = cache / f"base-{name}.new"
    shutil.rmtree(draft, ignore_errors=True)
    mirror = next(line for line in sources if line.endswith(f" {SUITE} main")).split()[1]
    run("debootstrap", "--variant=minbase", f"--include={FIRST_PACKAGES}", SUITE, draft, mirror)
    (draft / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
    for words in (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES), ("clean",)):
        run("chroot", draft, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", *words)
    draft.rename(base)
    return base


@contextmanager
def layer(base: Path, folder: Path) -> Iterator[Path]:
    """A root to write in, above the base. Returns: its folder"""
    shutil.rmtree(folder, ignore_errors=True)
    upper, work, root = folder / "upper", folder / "work", folder / "root"
    for each in (upper, work, root):
        each.mkdir(parents=True)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={work}", root)
    try:
        yield root
    finally:
        run("umount", "--lazy", root, status=None)
        shutil.rmtree(folder, ignore_errors=True)
