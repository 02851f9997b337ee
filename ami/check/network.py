"""Two networks with a wire between: the instance's, and one with what AWS has for it. Neither reaches the world.

nft rules, addresses and servers live in them and end with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ami.check.commands import run, running, wait_until
from ami.check.metadata import MetadataServer, values_for

NODE, AWS = "kiln-check-node", "kiln-check-aws"
METADATA, METADATA_6 = "169.254.169.254", "fd00:ec2::254"
NODE_IP, STORE_IP, STORE_PORT = "10.213.7.2", "10.213.7.1", 9000
STORE = f"http://{STORE_IP}:{STORE_PORT}"
_CLONE_NEWNET = 0x40000000
NODE_IP_6, STORE_IP_6 = "fd00:ec2:0:1::2", "fd00:ec2:0:1::1"


def make_networks() -> None:
    """Make both, and the wire. Repeat: not safe; they are gone with our namespaces"""
    Path("/run/netns").mkdir(exist_ok=True)
    # our own: nothing of it is seen outside, or stays
    run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    for name in (NODE, AWS):
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
    run("ip", "-n", NODE, "link", "add", "ens5", "type", "veth", "peer", "name", "aws0", "netns", AWS)
    # no duplicate address detection: addresses are to work at once
    for name, link, four, six in ((NODE, "ens5", f"{NODE_IP}/24", f"{NODE_IP_6}/64"), (AWS, "aws0", f"{STORE_IP}/24", f"{STORE_IP_6}/64")):
        run("ip", "-n", name, "address", "add", four, "dev", link)
        run("ip", "-n", name, "-6", "address", "add", six, "dev", link, "nodad")
        run("ip", "-n", name, "link", "set", link, "up")
    run("ip", "-n", AWS, "address", "add", f"{METADATA}/32", "dev", "aws0")
    run("ip", "-n", AWS, "-6", "address", "add", f"{METADATA_6}/128", "dev", "aws0", "nodad")
    run("ip", "-n", NODE, "route", "add", "default", "via", STORE_IP)
    run("ip", "-n", NODE, "-6", "route", "add", "default", "via", STORE_IP_6)


def enter(name: str) -> None:
    """Let this thread, and what it starts from now on, be in a network. Errors: OSError"""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{name}").open() as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET) != 0:  # os.setns comes with Python 3.12
            raise OSError(ctypes.get_errno(), f"can't enter the network {name}")


@contextmanager
def metadata_service(*, instance: str, user_data: str | None) -> Iterator[MetadataServer]:
    """Serve the metadata of one instance, at its two addresses."""
    values = values_for(instance, user_data)
    servers = [MetadataServer((address, 80), values) for address in (METADATA, METADATA_6)]
    servers[1].tokens = servers[0].tokens
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield servers[0]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@contextmanager
def object_store(log: Path, *, address: str = STORE_IP, port: int = STORE_PORT) -> Iterator[str]:
    """Serve S3. Returns: its endpoint"""
    program = Path(sys.executable).with_name("moto_server")
    with running(program, "--host", address, "--port", str(port), log=log):
        wait_until(lambda: _listens(address, port), "the stand-in store listens", limit_s=60)
        yield f"http://{address}:{port}"


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False
