"""What every answer tells the browser to refuse: foreign scripts, frames, guessed types, leaking addresses."""

from __future__ import annotations

from functools import cache
from urllib.parse import urlsplit

from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix

from supervisor.cloud.ports import CloudError
from supervisor.farm import Farm


def init_security(app: Flask, farm: Farm) -> None:
    """Make every answer of `app` bear the headers, and believe as many proxies as the configuration says."""
    fixed = store_origins(farm)

    @cache
    def policy_for(direct: str) -> str:
        return content_policy([*fixed, *([direct] if direct and direct not in fixed else [])])

    proxies = farm.config.server.trusted_proxies
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_port=proxies)  # type: ignore[method-assign]

    @app.after_request
    def _add_headers(response: Response) -> Response:
        is_page = response.mimetype == "text/html"  # nothing else sends parts; to know where to, an address is signed
        response.headers.setdefault("Content-Security-Policy", policy_for(_direct_origin(farm) if is_page else ""))
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        if is_page:
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response


def content_policy(origins: list[str]) -> str:
    """Shape:   origins: where uploads go beside ourselves"""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            " ".join(("connect-src", "'self'", *origins)),
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _direct_origin(farm: Farm) -> str:
    """Where parts go that a browser sends to Amazon S3 itself: the origin of an address as it is signed for one.

    Returns: empty where the store's address is configured, or while nobody is signed in: nothing can be uploaded then
    """
    if farm.cloud.account is None or farm.cloud.internal_endpoint:
        return ""
    try:
        parts = urlsplit(farm.cloud.uploads.part_url("projects/any", "any", 1, endpoint=""))
    except CloudError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def store_origins(farm: Farm) -> list[str]:
    """Where a browser may PUT the parts of an upload: the object store by the addresses that are configured."""
    store = farm.config.store
    found: list[str] = []
    for endpoint in (store.public_endpoint, store.endpoint, farm.cloud.internal_endpoint):
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            continue
        port = f":{parts.port}" if parts.port else ""
        # S3 answers under the bucket's own name too, and that is what presigned URLs of amazonaws.com use
        found += [f"{parts.scheme}://{parts.hostname}{port}"]
        if parts.hostname.endswith("amazonaws.com"):
            found += [f"{parts.scheme}://{store.bucket}.{parts.hostname}{port}"]
    return list(dict.fromkeys(found))
