"""Whether the client of this request reaches the object store itself."""

from __future__ import annotations

from flask import request

from app.addresses import is_loopback
from app.current import current_farm


def store_endpoint() -> str | None:
    """The object store's address as this request's client reaches it. Returns: None where it can't: parts go through the app.

    The farm's own SeaweedFS listens on loopback, so only a client that is certainly on this machine gets it. Through a tunnel
    the client may look local and not be: it can ask for `?through=app`.
    """
    farm = current_farm()
    if farm.config.store.public_endpoint:
        return farm.config.store.public_endpoint
    if farm.config.store.endpoint:
        return None  # a store of the studio's own: only the studio knows whether clients reach it
    if farm.config.cloud.provider == "aws" or _is_on_this_machine():
        return farm.cloud.internal_endpoint
    return None


def _is_on_this_machine() -> bool:
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    return is_loopback(request.remote_addr or "") and _is_loopback_name(request.host)


def _is_loopback_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)
