"""Who this farm is on AWS: its id, the names of what it owns, and the tags on everything that it rents."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.config import AwsConfig, BadConfig

FARM_TAG = "kiln:farm"
JOB_TAG = "kiln:job"
REQUEST_TAG = "kiln:request"
ROLE_TAG = "kiln:role"
CONTENT_TAG = "kiln:content"  #: hash of a workspace's files
HOST_TAG = "kiln:host"  #: the farm's own instance, that a volume was made for
IMAGE_TAG = "kiln:image"  #: hash of the recipe that an image was built from
BLENDERS_TAG = "kiln:blenders"
PROTOCOL_TAG = "kiln:protocol"
VARIANT_TAG = "kiln:variant"

#: What S3 and IAM allow in names, with room for the rest of the name.
_FARM_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The farm's id, and the names made of it."""

    farm: str
    projects_bucket: str
    received_bucket: str

    @property
    def name(self) -> str:
        """Of the launch template, the role, the instance profile, the security group, the Auto Scaling group."""
        return f"kiln-{self.farm}"


def keep_identity(data: Path, config: AwsConfig) -> Identity:
    """Read who the farm is; decide it at the first start, once and for all.

    Repeat:  safe, from several processes at once
    Errors:  BadConfig - `[aws] farm` can't be part of a bucket's name
    """
    farm = config.farm or _kept_id(data)
    if not _FARM_ID.fullmatch(farm):
        raise BadConfig(f"aws.farm: {farm!r} must be 3 to 32 lower-case letters, digits and hyphens: it becomes part of buckets' names")
    return Identity(
        farm=farm,
        projects_bucket=config.projects_bucket or f"kiln-{farm}-projects",
        received_bucket=config.received_bucket or f"kiln-{farm}-received",
    )


def _kept_id(data: Path) -> str:
    path = data / "farm.json"
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    if not path.exists():
        with draft.open("w") as file:
            file.write(json.dumps({"farm": secrets.token_hex(6)}))
            file.flush()
            os.fsync(file.fileno())
        # Linked into place: of two that start at once, one wins and both read the same.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return str(json.loads(path.read_text())["farm"])


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(thing: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, str]:
    """Tags of something that EC2 described."""
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ())}
