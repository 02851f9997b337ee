"""AWS on this machine: moto as a server, mended, on a free port of this process or in a process of its own.

`with serve() as moto:` in tests (the fixture `moto` does it); `python -m tests.aws.moto_server --port N` where the farm is to die and the
cloud to live. Either way `Moto(url)` is the hold on it.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any  # Any: boto3's clients are made at run time; answers are JSON

import boto3
from botocore.config import Config
from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from urllib3 import PoolManager
from werkzeug.serving import make_server

from . import services
from .happenings import HAPPENINGS, seed
from .repairs import repair_moto
from .world import REGION

#: Any will do: moto checks no signature.
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
#: Environment of a process that is to have moto for AWS; `AWS_ENDPOINT_URL` comes to it.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    # whatever the tests run on is not where the farm is
    "AWS_EC2_METADATA_DISABLED": "true",
}
_HTTP = PoolManager()
_ATTEMPTS = 4

_StartResponse = Callable[..., Any]


class Moto:
    """A hold on moto: what AWS has no call for is told to it by `tell`. Works alike on a server of another process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[str, Any] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What botocore reads: a process that has it in its environment takes moto for AWS."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.url}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            config = Config(retries={"mode": "standard", "total_max_attempts": _ATTEMPTS}, s3={"addressing_style": "path"})
            self._clients[service] = boto3.session.Session(**KEYS).client(service, region_name=REGION, endpoint_url=self.url, config=config)
        return self._clients[service]

    def tell(self, happening: str, **how: Any) -> Any:
        """Let something of `happenings.py` happen."""
        said = _HTTP.request("POST", f"{self.url}/kiln/{happening}", body=json.dumps(how))
        answer = json.loads(said.data)
        assert said.status == 200, answer
        return answer

    def reset(self) -> None:
        """Make the account as it was at the start."""
        self.tell("reset")

    def change(self, **settings: Any) -> None:
        """Change what the cloud is like: see `World`."""
        self.tell("change", **settings)

    def calls(self, action: str = "") -> list[dict[str, Any]]:
        """Parameters of what was asked of EC2, as moto read them, oldest first; without `action`: each with the name of its action."""
        made: list[dict[str, Any]] = self.tell("calls", action=action)
        return [each["params"] for each in made] if action else made

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """Every instance, or those in these states, as described."""
        pages = self.client("ec2").get_paginator("describe_instances").paginate()
        found = [one for page in pages for group in page["Reservations"] for one in group["Instances"]]
        return [one for one in found if not states or one["State"]["Name"] in states]


class Application:
    """moto's own application, what it lacks, and the tests' way in."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        path, target = environ.get("PATH_INFO", ""), environ.get("HTTP_X_AMZ_TARGET", "")
        if path.startswith("/kiln/"):
            return _answer(start_response, lambda: happen(path.removeprefix("/kiln/"), _body(environ)))
        if target.startswith(("AWSPriceListService.", "ServiceQuotasV20190624.")):
            return _answer(start_response, lambda: services.answer(target, _body(environ)))
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
    return read


def _answer(start_response: _StartResponse, call: Callable[[], Any]) -> list[bytes]:
    status = "200 OK"
    try:
        answer = call()
    except services.Unknown as error:
        status, answer = "400 Bad Request", {"__type": error.args[0], "message": error.args[1]}
    except (KeyError, TypeError, AssertionError) as error:
        status, answer = "400 Bad Request", {"message": repr(error)}
    start_response(status, [("Content-Type", "application/x-amz-json-1.1")])
    return [json.dumps(answer, default=str).encode()]


def happen(name: str, how: dict[str, Any]) -> Any:
    """Let something of `happenings.py` happen to the cloud of this process. Returns: what it says of it"""
    if name == "reset":
        BackendDict.reset()
        return seed()
    return HAPPENINGS[name](**how)


@contextmanager
def serve(port: int = 0) -> Iterator[Moto]:
    """Run moto in a thread of this process, as the account is at the start."""
    server = _server(port)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Moto(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _server(port: int) -> Any:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    repair_moto()
    BackendDict.reset()
    seed()
    return make_server("127.0.0.1", port, Application(), threaded=True, request_handler=MotoRequestHandler)


def main() -> None:
    """Serve until the process is ended; the first line printed is the address."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    server = _server(parser.parse_args().port)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
