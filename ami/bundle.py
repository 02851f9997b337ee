"""What a builder is sent: one archive with the provisioners, the files of the image, and the orders for this build."""

from __future__ import annotations

import gzip
import io
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from ami.recipe import Arch, Recipe, Variant, parts, recipe_hash
from nodeimage.protocol import VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlace:
    """Where the builder finds the farm's agent, which proves the image, and is not on it."""

    bucket: str
    region: str
    key: str
    sha256: str
    endpoint: str = ""  #: empty: Amazon S3


def build_env(recipe: Recipe, *, variant: Variant, arch: Arch, mirror: str, agent: AgentPlace) -> dict[str, str]:
    """The orders for a build, as the provisioners read them from their environment.

    Shape:   `mirror`: where `Blender4.5/blender-4.5.14-linux-x64.tar.xz` is below
    Errors:  BadRecipe - the recipe has nothing for this variant or architecture
    """
    orders = {
        "KILN_RECIPE": recipe_hash(variant, arch),
        "KILN_VARIANT": str(variant),
        "KILN_ARCH": str(arch),
        "KILN_PROTOCOL": str(VERSION),
        "KILN_BLENDER_MIRROR": mirror.rstrip("/"),
        "KILN_BLENDERS": " ".join(f"{release.version}={release.sha256[arch]}" for release in recipe.blenders_for(arch)),
        "KILN_AGENT_BUCKET": agent.bucket,
        "KILN_AGENT_REGION": agent.region,
        "KILN_AGENT_ENDPOINT": agent.endpoint,
        "KILN_AGENT_KEY": agent.key,
        "KILN_AGENT_SHA256": agent.sha256,
    }
    if variant is Variant.GPU:
        driver = recipe.driver_for(arch)
        orders |= {
            "KILN_NVIDIA_VERSION": driver.version,
            "KILN_NVIDIA_URL": driver.url[arch],
            "KILN_NVIDIA_SHA256": driver.sha256[arch],
        }
    return orders


def bundle(orders: Mapping[str, str]) -> bytes:
    """Pack what a builder needs. The same files and orders give the same bytes.

    Shape:   a tar.gz of `build.env`, `provisioners/run` (to be run as root), `rootfs/`, `requirements.txt`, `recipe.toml`
    """
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as squeezed, tarfile.open(fileobj=squeezed, mode="w") as archive:
        _add(archive, "build.env", "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(orders.items())).encode())
        for name, path in parts():
            _add(archive, name, path.read_bytes(), is_program=bool(path.stat().st_mode & 0o100))
    return packed.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, is_program: bool = False) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o755 if is_program else 0o644
    archive.addfile(member, io.BytesIO(content))
