"""What image-check proves, one function each: a name that reads as the claim, and `Failed` where it does not hold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ami.bundle import AgentPlace, build_env, bundle
from ami.check.blenders import Packed
from ami.check.bucket import BUCKET, REGION
from ami.check.commands import expect, run
from ami.check.container import SHARED, Machine
from ami.check.network import METADATA, METADATA_6, NODE, STORE, STORE_IP, STORE_PORT, metadata_service
from ami.recipe import Arch, Variant, read_recipe, recipe_hash

AGENT_KEY = "agent/check.pyz"
INSTANCE = "i-0123456789abcdef0"
EXTENSION = """schema_version = "1.0.0"
id = "check_extension"
version = "1.0.0"
name = "Check"
tagline = "Check"
maintainer = "Kiln"
type = "add-on"
blender_version_min = "4.2.0"
license = ["SPDX:GPL-3.0-or-later"]
"""
LSBLK = """#!/bin/sh
sed "s,WHERE,$(findmnt --noheadings --output TARGET --source {device})," <<'END'
{listing}
END
"""
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
#: Of this machine's settings, those that say how to reach Debian and the Python Package Index.
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the proofs work on."""

    root: Path
    shared: Path
    blenders: tuple[Packed, ...]
    agent: bytes
    environment: dict[str, str]  #: of this machine

    @property
    def machine(self) -> Machine:
        """Joined to this machine's network, for what is installed from outside."""
        return Machine(root=self.root, shared=self.shared, binds=("/etc/hosts:/etc/hosts",))

    @property
    def instance(self) -> Machine:
        """In the network with AWS's services."""
        return Machine(root=self.root, shared=self.shared, network=NODE)


def lay_bundle(bench: Bench, mirror: str, *, variant: Variant = Variant.CPU) -> None:
    """Unpack what a builder gets, with the mirror's Blenders in the place of the recipe's."""
    place = AgentPlace(bucket=BUCKET, region=REGION, key=AGENT_KEY, sha256=hashlib.sha256(bench.agent).hexdigest(), endpoint=STORE)
    orders = build_env(read_recipe(), variant=variant, arch=Arch.X86_64, mirror=mirror, agent=place)
    orders["KILN_BLENDERS"] = " ".join(f"{packed.version}={packed.sha256}" for packed in bench.blenders)
    archive = bench.shared / "bundle.tar.gz"
    archive.write_bytes(bundle(orders))
    shutil.rmtree(bench.shared / "bundle", ignore_errors=True)
    (bench.shared / "bundle").mkdir()
    run("tar", "--extract", "--file", archive, "--directory", bench.shared / "bundle")


def provisioners_make_the_image(bench: Bench, mirror: str) -> str:
    """A machine that starts with Debian alone runs the provisioners as a builder does, up to the validation, and shows its progress."""
    lay_bundle(bench, mirror)
    shutil.copy(HOST_CERTIFICATES, bench.shared / "certificates.pem")
    environment = {name: value for name in PASSED_ON if (value := bench.environment.get(name))}
    environment |= {
        "PIP_CERT": f"{SHARED}/certificates.pem",
        "KILN_PAUSE_BEFORE": "90-validate.sh",
        "KILN_PROGRESS_FILE": f"{SHARED}/progress",
    }
    status, printed = bench.machine.start_with(f"exec {SHARED}/bundle/provisioners/run\n", environment, limit_s=1500)
    expect(status == 100, f"the provisioners ended with {status}, and not with 100 before the validation:\n{printed[-4000:]}")
    progress = (bench.shared / "progress").read_text().splitlines()
    expect(len(progress) == 9 and progress[-1].startswith("kiln-progress 9/9 "), f"progress is {progress}")
    expect("failed" not in printed.lower(), f"something says that it failed:\n{printed[-4000:]}")
    return f"{len(progress) - 1} provisioners ran in a machine of its own"


def validation_passes(bench: Bench) -> str:
    """In AWS's network, the same run goes on where it ended, and proves the image."""
    with metadata_service(instance=INSTANCE, user_data=None):
        printed = bench.instance.call("/bin/bash", f"{SHARED}/bundle/provisioners/run", limit_s=1500)
    lines = printed.splitlines()
    expect(lines[-1] == f"kiln-done {recipe_hash(Variant.CPU, Arch.X86_64)}", f"the last line is {lines[-1]}")
    frames = [line for line in lines if " renders a frame with " in line]
    expect(len(frames) == 2 * len(bench.blenders), f"frames were rendered: {frames}")
    expect(any("over IPv4 and IPv6" in line for line in lines), "the metadata service was tried over IPv6 too")
    return "; ".join(frames)


def provisioners_run_again_change_nothing(bench: Bench, mirror: str, asked: Sequence[str]) -> str:
    """Provisioners may run again: nothing is downloaded twice, and the image describes itself as before."""
    before = (bench.root / "etc/kiln/image.json").read_text()
    downloads = len(asked)
    scripts = f"for n in 20 30 50 70; do bash {SHARED}/bundle/provisioners/$n-*.sh; done\n"
    script = f"set -euo pipefail; set -a; . {SHARED}/bundle/build.env; KILN_BUNDLE={SHARED}/bundle; set +a\n{scripts}"
    settings = {"PIP_CERT": f"{SHARED}/certificates.pem"}
    # a builder is no node: what the first run enabled is not to start here
    status, printed = bench.machine.start_with(script, settings, "kiln-node.service", "kiln-deadline.timer", limit_s=600)
    expect(status == 0, f"a second run ended with {status}:\n{printed[-3000:]}")
    expect(len(asked) == downloads, f"Blender was downloaded again: {asked[downloads:]}")
    expect((bench.root / "etc/kiln/image.json").read_text() == before, "the image describes itself otherwise")
    return "20, 30, 50 and 70 ran twice"


def gpu_variant_refuses_this_machine(bench: Bench) -> str:
    """Where Blender must render on a GPU and there is none, the validation fails with that reason, and renders nothing on the CPU."""
    with metadata_service(instance=INSTANCE, user_data=None):
        script = f"set -a; . {SHARED}/bundle/build.env; KILN_VARIANT=gpu; set +a; bash {SHARED}/bundle/provisioners/90-validate.sh"
        printed = bench.instance.call("/bin/bash", "-c", script, status=1)
    expect("this node has a GPU, and Blender can't use it" in printed, f"the reason is not given:\n{printed[-2000:]}")
    expect(" renders a frame with " not in printed, f"a frame was rendered:\n{printed[-2000:]}")
    return printed.strip().splitlines()[-1]


def damaged_download_is_refused(bench: Bench, mirror: str) -> str:
    """A Blender with another checksum than the recipe's is not unpacked."""
    version = bench.blenders[0].version
    wrong = f"{version}={'0' * 64}"
    command = f"export KILN_ARCH=x86_64 KILN_BLENDER_MIRROR={mirror} KILN_BLENDERS={wrong}; bash {SHARED}/bundle/provisioners/50-blender.sh"
    printed = bench.machine.call("/bin/bash", "-c", command, status=1)
    expect("it is not the file that the recipe names" in printed, f"the reason is not given:\n{printed[-2000:]}")
    expect(
        (bench.root / f"opt/blender/{version}/.kiln-sha256").read_text().strip() == bench.blenders[0].sha256,
        "what was there is there still",
    )
    return f"Blender {version} with a wrong checksum"


def image_is_as_described(bench: Bench) -> str:
    """Files, users, links and units are as docs/image.md says, and nothing of the builder stays."""
    root = bench.root
    described = json.loads((root / "etc/kiln/image.json").read_text())
    versions = [packed.version for packed in bench.blenders]
    expect(described["blenders"] == versions and described["variant"] == "cpu" and described["protocol"] == 1, f"image.json is {described}")
    for version in versions:
        expect(
            (root / f"opt/blender/{version.rpartition('.')[0]}").readlink() == Path(version), f"the series' link leads to Blender {version}"
        )
    masked = [unit for unit in ("ssh.service", "unattended-upgrades.service", "apt-daily.timer") if not _is_masked(root, unit)]
    expect(not masked, f"{masked} are not switched off")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    enabled = {path.name for path in (*wants.iterdir(), *(root / "etc/systemd/system/timers.target.wants").iterdir())}
    ours = {"kiln-firewall.service", "kiln-gpu.service", "kiln-node.service", "kiln-deadline.timer"}
    expect(ours <= enabled, f"enabled are {sorted(enabled)}")
    for path, mode, owner, group in (("node", 0o2775, 0, 880), ("workspace", 0o2775, 0, 880), ("agent", 0o755, 0, 0)):
        about = (root / "var/lib/kiln" / path).stat()
        expect((about.st_mode & 0o7777, about.st_uid, about.st_gid) == (mode, owner, group), f"/var/lib/kiln/{path} is {about}")
    left = [str(path.relative_to(root)) for path in (*(root / "etc/ssh").glob("ssh_host_*"), *(root / "var/lib/kiln/node").iterdir())]
    left += ["var/lib/kiln-build"] if (root / "var/lib/kiln-build").exists() else []
    expect(not left, f"the builder left {left}")
    bench.machine.call("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{name}" for name in _units(root)))
    return f"{len(_units(root))} units, {len(versions)} Blenders, the image's own description"


def _is_masked(root: Path, unit: str) -> bool:
    link = root / "etc/systemd/system" / unit
    return link.is_symlink() and str(link.readlink()) == "/dev/null"


def _units(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "usr/lib/systemd/system").glob("kiln-*"))


def addons_of_the_image_are_enabled(bench: Bench) -> str:
    """An add-on and an extension in the image's folder are enabled by every Blender; one that does not load is named."""
    addons = bench.root / "usr/share/kiln/blender/addons"
    register = "def register(): pass\ndef unregister(): pass\n"
    info = 'bl_info = {"name": "Check", "blender": (4, 2, 0), "category": "Render"}\n'
    for name, source in (
        ("check_addon", info + register),
        ("check_extension", register),
        ("check_broken", info + "import nothing_of_the_kind\n"),
    ):
        (addons / name).mkdir()
        (addons / name / "__init__.py").write_text(source)
    (addons / "check_extension/blender_manifest.toml").write_text(EXTENSION)
    script = bench.shared / "addons.py"
    script.write_text(
        "import bpy, addon_utils\nprint([addon_utils.check(name)[1] for name in ('check_addon', 'check_extension', 'check_broken')])\n"
    )
    try:
        for packed in bench.blenders:
            words = ("/usr/lib/kiln/as-blender", f"/opt/blender/{packed.version}/blender", "-b", "--factory-startup", "--python")
            printed = bench.machine.call("env", "HOME=/tmp", *words, f"{SHARED}/{script.name}")
            expect("[True, True, False]" in printed, f"Blender {packed.version} has enabled:\n{printed}")
            expect("the image's add-on check_broken does not load" in printed, f"the broken one is not named:\n{printed}")
    finally:
        for name in ("check_addon", "check_extension", "check_broken"):
            shutil.rmtree(addons / name)
    return f"in {' and '.join(packed.version for packed in bench.blenders)}"


def firewall_keeps_blender_in(bench: Bench) -> str:
    """Root reaches the metadata service, the store and the machine's resolver; other users are refused the first, Blender's all of them."""
    places = {
        "metadata": (METADATA, 80),
        "metadata over IPv6": (METADATA_6, 80),
        "the store": (STORE_IP, STORE_PORT),
        "the resolver": ("127.0.0.1", 53),
    }
    probe = """
import json, os, socket, sys
user, places = int(sys.argv[1]), json.loads(sys.argv[2])
os.setgid(user); os.setuid(user)
said = {}
for name, place in places.items():
    try:
        socket.create_connection(tuple(place), 5).close(); said[name] = "reached"
    except OSError as error:
        said[name] = type(error).__name__ + " " + str(error.errno)
print(json.dumps(said))
"""
    resolver = 'import socket; held = socket.create_server(("127.0.0.1", 53)); print(flush=True); import time; time.sleep(60)'
    script = f"exec 3< <(python3 -c '{resolver}' 2>/dev/null); resolver=$!; read -r <&3; "
    script += 'nft --file /usr/lib/kiln/firewall.nft; for user in 0 880 65534; do python3 -c "$1" $user "$2"; done; kill $resolver'
    with metadata_service(instance=INSTANCE, user_data=None):
        printed = bench.instance.call("/bin/bash", "-c", script, "-", probe, json.dumps(places))
    root, blender, nobody = (json.loads(line) for line in printed.splitlines()[-3:])
    expect(set(root.values()) == {"reached"}, f"root: {root}")
    expect("reached" not in blender.values(), f"Blender's user: {blender}")
    refused = [name for name, said in nobody.items() if said != "reached"]
    expect(refused == ["metadata", "metadata over IPv6"], f"another user: {nobody}")
    return f"Blender's user: {blender['metadata']}"


def show_as_volume(root: Path, device: str, *, serial: str) -> None:
    """Let the machine's lsblk show a device as what EC2 attaches: what is on it is still asked of the device itself."""
    disk = {"name": Path(device).name, "path": device, "type": "disk", "serial": serial, "model": "Amazon Elastic Block Store"}
    listing = json.dumps({"blockdevices": [{**disk, "mountpoints": ["WHERE"]}]})
    stand_in = root / "usr/local/bin/lsblk"
    stand_in.write_text(LSBLK.format(device=device, listing=listing))
    stand_in.chmod(0o755)


def workspace_volume_is_made_and_found_again(bench: Bench, device: str) -> str:
    """A blank volume gets a file system and is mounted; attached again it is found by its label; one with something else is refused."""
    show_as_volume(bench.root, device, serial="vol0123456789abcdef0")
    machine = Machine(root=bench.root, shared=bench.shared, network=NODE, binds=(f"{device}:{device}",))
    program = "/opt/kiln/venv/bin/python -I /usr/lib/kiln/workspace_volume.py"
    place = "/var/lib/kiln/workspace"
    script = f"""set -eu
export KILN_RUN=/run/check; mkdir -p $KILN_RUN
want() {{ echo '{{"workspace": "'$1'"}}' >$KILN_RUN/launch.json; }}
want volume; if {program}; then echo "a blank volume was taken for the job's"; exit 1; fi
want blank; {program}; {program}
stat --format '%a %U %G' {place}; grep {place} /proc/mounts
/usr/lib/kiln/as-blender touch {place}/by-blender; stat --format '%U' {place}/by-blender
umount {place}
want volume; {program}; ls {place}; umount {place}
mkfs.ext4 -q -F -L other {device}
for mode in blank volume; do want $mode; if {program}; then echo "a foreign file system was taken"; exit 1; fi; done
blkid --probe --output value --match-tag LABEL {device}
"""
    printed = machine.call("/bin/bash", "-c", script)
    for said in ("2775 root blender", "nosuid,nodev,noexec,noatime", "blender\n", "by-blender", "other"):
        expect(said in printed, f"“{said}” is not said:\n{printed}")
    expect("lost+found" not in printed, f"the file system's own folder is among the job's files:\n{printed}")
    run("wipefs", "--all", "--quiet", device)
    return device
