"""A farm behind its HTTP API, on fakes: what the tests of the API have in common."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from app import create_app
from nodeimage.protocol import Output, log_key, output_key, preview_key
from supervisor.cloud.ports import Cloud
from supervisor.commands import accounts
from supervisor.config import Config
from supervisor.farm import Farm
from supervisor.store import frames
from supervisor.store.database import Database
from supervisor.store.migrate import migrate
from tests.fakes import FakeCloud

PASSWORD = "a long enough one"
SAMPLE = Path(__file__).parents[2] / "samples" / "kiln.blend"
LINK_KEY = "link key of the tests"
LOCAL = {"REMOTE_ADDR": "127.0.0.1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The farm, its fakes, and how to ask it."""

    app: Flask
    farm: Farm
    cloud: FakeCloud
    user: accounts.User
    token: str

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> TestResponse:
        """Ask with the token; check the answer against the OpenAPI document."""
        asked = self.app.test_client().open(
            f"/api/v1{path}", method=method, headers={"Authorization": f"Bearer {self.token}", **(headers or {})}, **options
        )
        check_answer(self.app, asked, method)
        return asked

    def a_job(self, name: str = "shot") -> str:
        return str(self.ask("POST", "/jobs", json={"name": name}).json["id"])  # type: ignore[index]

    def a_blend(self, job: str, path: str = "kiln.blend") -> str:
        """Put the sample into a job. Returns: the file's id"""
        return str(self.ask("PUT", f"/jobs/{job}/files/{path}", data=SAMPLE.read_bytes()).json["id"])  # type: ignore[index]

    def a_submitted_job(self, spec: str = "1-3") -> str:
        job = self.a_job()
        self.a_blend(job)
        assert self.ask("POST", f"/jobs/{job}/submit", json={"frames": spec}).status_code == 202
        return job

    def receive(self, job: str, number: int, *, name: str = "kiln0001.png", body: bytes = b"picture", crc32: int = 1) -> None:
        """Let a node have delivered a frame."""
        self.cloud.objects.put(output_key(job, number, name), body)
        self.cloud.objects.put(preview_key(job, number), b"RIFFwebp")
        self.cloud.objects.put(log_key(job, number, 1), "Fra:1 Mem:2 häppy\n".encode())
        delivery = frames.Delivery(
            node="node_1",
            attempt=1,
            render_s=1.5,
            peak_memory_bytes=1,
            outputs=(Output(name=name, bytes=len(body), crc32=crc32),),
            has_preview=True,
        )
        with self.farm.db.write() as connection:
            frames.receive(connection, job, number, delivery, at=datetime.now(UTC))


@contextmanager
def a_site(folder: Path, *, config: Config | None = None, ports: Cloud | None = None) -> Iterator[Site]:
    """Shape:   ports: real ones in place of the fakes"""
    cloud = FakeCloud()
    db = Database.open(folder / "kiln.db")
    migrate(db, folder / "kiln.db")
    farm = Farm(config=config or Config(), data=folder, db=db, cloud=ports or cloud.ports, wake=lambda: None)
    user = accounts.add_user(farm, name="ada", password=PASSWORD, role="artist")
    token = accounts.create_token(farm, user_name="ada")
    app = create_app(farm, secret_key="secret of the tests", link_key=LINK_KEY)
    app.testing = False  # failures are answered, as they would be
    yield Site(app=app, farm=farm, cloud=cloud, user=user, token=token)
    db.close()


@contextmanager
def serving(app: Flask, *, port: int = 0) -> Iterator[str]:
    """Serve an application on this machine. Returns: its address"""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as by the real server

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


def check_answer(app: Flask, answer: TestResponse, method: str) -> None:
    """The document names the answer's status and media type, and its schema takes the body."""
    document = json.loads(app.test_client().get("/api/v1/openapi.json").data)
    path = _template(document, answer.request.path, method)
    if path is None:
        assert answer.status_code in {404, 405}, f"{method} {answer.request.path} is not documented"
        return
    documented = document["paths"][path][method.lower()]["responses"]
    assert str(answer.status_code) in documented, f"{method} {path} answers {answer.status_code}, which is not documented"
    content = documented[str(answer.status_code)].get("content", {})
    assert bool(content) == bool(answer.mimetype and answer.data) or "*/*" in content, f"{method} {path}: {answer.mimetype}"
    if schema := content.get(answer.mimetype, {}).get("schema"):
        jsonschema_rs.validate({**schema, "components": document["components"]}, answer.json)


def _template(document: Any, path: str, method: str) -> str | None:
    best = None
    for template, operations in document["paths"].items():
        if method.lower() in operations and _matches(template.split("/"), path.split("/")):
            best = template
    return best


def _matches(template: list[str], path: list[str]) -> bool:
    is_open = template[-1] in {"{path}", "{name}"}
    if not is_open and len(template) != len(path):
        return False
    return len(path) >= len(template) and all(a == b or a.startswith("{") for a, b in zip(template, path, strict=False))
