"""What a SeaweedFS keeps beside its data from one start to the next: its ports, the keys of its identities, its process."""

from __future__ import annotations

import json
import random
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .disk import write_private
from .processes import ProcessId

#: Every port that `weed mini` opens; one that is taken ends it, so all are chosen beforehand.
PORT_FLAGS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
#: Below the range from which Linux takes the local ports of outgoing connections: those come and go, ours are to be free again.
_PORT_RANGE = range(20_000, 32_000)
_SOCKETS = Path("/tmp")  #: where SeaweedFS 4.48 puts its Unix sockets, whatever TMPDIR says


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreKeys:
    """The keys of the two identities: the farm may do anything, a node only what its work needs."""

    farm_access: str
    farm_secret: str = field(repr=False)
    node_access: str
    node_secret: str = field(repr=False)


def keep_keys(path: Path) -> StoreKeys:
    """Read the keys; make them at the first start."""
    if path.exists():
        return StoreKeys(**json.loads(path.read_text()))
    made = StoreKeys(
        farm_access=f"FARM{secrets.token_hex(8).upper()}",
        farm_secret=secrets.token_urlsafe(32),
        node_access=f"NODE{secrets.token_hex(8).upper()}",
        node_secret=secrets.token_urlsafe(32),
    )
    write_private(path, json.dumps(asdict(made)))
    return made


def identities(keys: StoreKeys, bucket: str) -> str:
    """Write SeaweedFS's S3 configuration: a node reads the projects, reads and writes what is received, and lists."""
    node_actions = [
        f"Read:{bucket}/projects/*",
        f"Read:{bucket}/received/*",
        f"Write:{bucket}/received/*",
        f"Read:{bucket}/agent/*",
        f"List:{bucket}",
    ]
    return json.dumps(
        {
            "identities": [
                _identity("farm", keys.farm_access, keys.farm_secret, ["Admin", "Read", "Write", "List", "Tagging"]),
                _identity("node", keys.node_access, keys.node_secret, node_actions),
            ]
        }
    )


def _identity(name: str, access: str, secret: str, actions: Sequence[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": list(actions)}


def keep_ports(path: Path, *, only_free: bool = True) -> Mapping[str, int]:
    """Read the ports of the last start, so that nodes still alive find the store again; choose others if they are taken (`only_free`)."""
    if path.exists():
        kept: dict[str, int] = json.loads(path.read_text())
        if set(kept) == set(PORT_FLAGS) and (not only_free or all(_is_free(port) for port in kept.values())):
            return kept
    chosen: list[int] = []
    for port in random.sample(_PORT_RANGE, len(_PORT_RANGE)):
        if _is_free(port):
            chosen.append(port)
        if len(chosen) == len(PORT_FLAGS):
            break
    ports = dict(zip(PORT_FLAGS, chosen, strict=True))
    write_private(path, json.dumps(ports))
    return ports


def remove_sockets(path: Path) -> None:
    """Remove what a killed SeaweedFS leaves in the system's folder for temporary files, by the ports that `path` keeps."""
    with suppress(OSError, ValueError):
        for port in json.loads(path.read_text()).values():
            for socket_path in _SOCKETS.glob(f"seaweedfs-*-{int(port)}.sock"):
                socket_path.unlink(missing_ok=True)


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        # As the server itself binds: connections of its forerunner that linger in TIME_WAIT do not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def read_process(path: Path) -> ProcessId | None:
    """Returns: None when none was written down, or the file was cut off by a crash."""
    try:
        return ProcessId(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_process(path: Path, process: ProcessId) -> None:
    write_private(path, json.dumps(asdict(process)))
