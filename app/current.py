"""The farm that the request is about: what `create_app` was given, for views and the API."""

from __future__ import annotations

from typing import cast

from flask import Flask, current_app, request

from ami.ports import FarmImages
from supervisor.domain.errors import NotFound
from supervisor.farm import Farm

_FARM, _LINK_KEY, _IMAGES = "farm", "link_key", "images"


def serve(app: Flask, farm: Farm, *, link_key: str, images: FarmImages | None) -> None:
    """Make the farm, its images, and the key that signs links, known to the application's requests."""
    app.extensions[_FARM] = farm
    app.extensions[_LINK_KEY] = link_key
    app.extensions[_IMAGES] = images


def current_farm() -> Farm:
    farm = current_app.extensions[_FARM]
    assert isinstance(farm, Farm), "create_app put it there"
    return farm


def has_images() -> bool:
    """Say whether this farm's instances start from images."""
    return current_app.extensions[_IMAGES] is not None


def current_images() -> FarmImages:
    """Errors: NotFound - the farm has none"""
    images = cast(FarmImages | None, current_app.extensions[_IMAGES])
    if images is None:
        raise NotFound('this farm renders on its own machine and has no images; [cloud] provider = "aws" makes it rent instances')
    return images


def current_link_key() -> str:
    return str(current_app.extensions[_LINK_KEY])


def base_url() -> str:
    """The farm's address as the client sees it, without a slash at the end."""
    return (current_farm().config.server.public_url or request.url_root).rstrip("/")
