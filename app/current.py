"""The farm that the request is about: what `create_app` was given, for views and the API."""

from __future__ import annotations

from flask import Flask, current_app, request

from supervisor.farm import Farm

_FARM, _LINK_KEY = "farm", "link_key"


def serve(app: Flask, farm: Farm, *, link_key: str) -> None:
    """Make the farm, and the key that signs links, known to the application's requests."""
    app.extensions[_FARM] = farm
    app.extensions[_LINK_KEY] = link_key


def current_farm() -> Farm:
    farm = current_app.extensions[_FARM]
    assert isinstance(farm, Farm), "create_app put it there"
    return farm


def current_link_key() -> str:
    return str(current_app.extensions[_LINK_KEY])


def base_url() -> str:
    """The farm's address as the client sees it, without a slash at the end."""
    return (current_farm().config.server.public_url or request.url_root).rstrip("/")
