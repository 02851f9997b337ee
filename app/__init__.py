"""The web face of the farm: one Flask application out of pages, partials, downloads and the JSON API."""

from __future__ import annotations

from importlib.metadata import version

from flask import Flask
from htmx_flask import Htmx
from jinja2 import StrictUndefined

from ami.ports import FarmImages
from app.api import blueprint as api
from app.assets import init_assets
from app.auth import init_auth
from app.current import serve as make_farm_known  # `app.serve` is a module
from app.errors import init_errors
from app.filters import init_filters
from app.security import init_security
from app.setup_run import init_setup_run
from app.transfers import init_transfers
from app.views.all import BLUEPRINTS
from app.views.farm import init_farm_head
from supervisor.farm import Farm

__all__ = ["create_app"]


def create_app(farm: Farm, *, secret_key: str, link_key: str, images: FarmImages | None = None) -> Flask:
    """Build the application that serves this farm; it holds no state of its own but the counts of its limiter.

    Shape:   images: what the farm's instances start from; None: it rents none
    """
    app = Flask("app")
    app.secret_key = secret_key
    app.config.update(TEMPLATES_AUTO_RELOAD=False, MAX_FORM_MEMORY_SIZE=1 << 20, MAX_CONTENT_LENGTH=2 << 20, KILN_VERSION=version("kiln"))
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    make_farm_known(app, farm, link_key=link_key, images=images)
    Htmx(app)
    init_security(app, farm)
    init_errors(app)
    init_auth(app, farm.config.server)
    init_filters(app)
    init_assets(app)
    init_setup_run(app)
    init_transfers(app, threads=farm.config.server.threads)
    init_farm_head(app)
    for blueprint in (*BLUEPRINTS, api):
        app.register_blueprint(blueprint)
    return app
