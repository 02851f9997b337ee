"""Addresses of clients, as a socket tells them: one for both families shows IPv4 ones wrapped in IPv6."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """Read an address; one of IPv4 that is written as IPv6 is the IPv4 one. Errors: ValueError"""
    ip = ip_address(text)
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def is_loopback(text: str) -> bool:
    """Say whether that is an address of this machine itself. Returns: False for what is no address"""
    try:
        return plain_address(text).is_loopback
    except ValueError:
        return False
