"""The HTTP API below /api/v1: a table of calls with typed models, and the OpenAPI document made from it."""

from __future__ import annotations

import json
from importlib.metadata import version

from flask import Blueprint, Response

from .endpoint import JSON, add_endpoint
from .openapi import openapi
from .problems import install_problems
from .routes import ENDPOINTS

PREFIX = "/api/v1"

blueprint = Blueprint("api", __name__, url_prefix=PREFIX)
install_problems(blueprint)
for _endpoint in ENDPOINTS:
    add_endpoint(blueprint, _endpoint)

_DOCUMENT = json.dumps(openapi(ENDPOINTS, prefix=PREFIX, version=version("kiln")), indent=1).encode()


@blueprint.get("/openapi.json")
def show_openapi() -> Response:
    """Needs no login: it tells nothing about this farm but its version, which /healthz tells too."""
    return Response(_DOCUMENT, content_type=JSON)
