"""AWS within this process: what botocore is about to send is answered by moto in the very same thread, without a wire.

Where one process plays through thousands of lives, no socket is in the way, the order of calls is what the farm makes it, and a fork takes
the cloud with it. Everything on either side of the wire is as with `moto_server`: boto3's requests, moto's answers, mended.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any  # Any: botocore's requests and events have no types
from urllib.parse import unquote, urlsplit

import boto3
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from moto.core.botocore_stubber import MockRawResponse
from urllib3 import HTTPResponse

from . import quicker
from .moto_server import ENVIRONMENT, KEYS, Application, Moto, happen
from .repairs import repair_moto
from .world import REGION

#: Nobody listens there: a request that goes past us fails.
_NOWHERE = "http://127.0.0.1:9"


class MotoHere(Moto):
    """A hold on the AWS of this process."""

    def __init__(self) -> None:
        super().__init__(_NOWHERE)
        repair_moto()
        quicker.repair()
        self._application = Application()
        self._answers: dict[tuple[str, ...], _Answer] = {}  #: to what was asked since the last change
        self._lock = RLock()
        self.changes = 0  #: how often anything in the cloud has changed, or may have
        self.before: Callable[[str], None] = nothing  #: called with each operation, such as `ec2.RunInstances`, before it is answered
        self.after: Callable[[str], None] = nothing  #: the same, when it has taken effect
        self.reset()

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": _NOWHERE}

    def hear(self, session: Any) -> None:
        """Answer whatever the clients of a boto3 session ask, from now on. An `on_session` of AwsSession."""
        session.events.register("before-send", self._answer)

    def client(self, service: str) -> Any:
        if service not in self._clients:
            config = Config(retries={"mode": "standard", "total_max_attempts": 1}, s3={"addressing_style": "path"})
            self._clients[service] = self._session.client(service, region_name=REGION, endpoint_url=_NOWHERE, config=config)
        return self._clients[service]

    def tell(self, happening: str, **how: Any) -> Any:
        if happening not in _LOOKS:
            self.note_change()
        return happen(happening, how)

    def note_change(self) -> None:
        """Take in that something in the cloud is other than it was: whoever changes moto's things himself says so."""
        self.changes += 1
        self._answers.clear()

    def put(self, url: str, body: bytes) -> HTTPResponse:
        """Send an object, or a part of one, to a presigned URL."""
        answer = self._change(AWSRequest(method="PUT", url=url, data=body).prepare())
        return HTTPResponse(body=answer.body, status=answer.status, headers=dict(answer.headers))

    @cached_property
    def _session(self) -> Any:
        session = boto3.session.Session(**KEYS)
        self.hear(session)
        return session

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.removeprefix("before-send.")
        with self._lock:  # the farm reads with several threads; what happens between two calls needs the cloud to itself
            self.before(operation)
            answer = self._read(request) if is_read_only(operation) else self._change(request)
            self.after(operation)
        headers = HTTPHeaders()
        for name, value in answer.headers:
            headers[name] = value
        return AWSResponse(request.url, answer.status, headers, MockRawResponse(answer.body))

    def _read(self, request: Any) -> _Answer:
        """While nothing changes, the same question has the same answer."""
        asked = (request.method, request.url, repr(request.body), *(str(request.headers.get(name)) for name in _TELLING))
        if asked not in self._answers:
            self._answers[asked] = self._ask(request)
        return self._answers[asked]

    def _change(self, request: Any) -> _Answer:
        self.note_change()
        return self._ask(request)

    def _ask(self, request: Any) -> _Answer:
        told: list[Any] = []
        body = b"".join(self._application(_environ(request), lambda status, headers, *_: told.extend((status, headers))))
        status, headers = told
        return _Answer(status=int(status.split()[0]), headers=tuple(headers), body=body)


#: Headers that an answer hangs on.
_TELLING = ("If-None-Match", "Range", "X-Amz-Target")
#: Happenings that are none: they tell.
_LOOKS = frozenset({"tags", "template_data", "calls", "settings"})
#: Before this is answered, groups replace what ended.
_READS_LATE = frozenset({"auto-scaling.DescribeAutoScalingGroups"})
_READS = ("Describe", "Get", "List", "Head")


def is_read_only(operation: str) -> bool:
    """Say whether an operation such as `ec2.DescribeInstances` changes nothing."""
    return operation.partition(".")[2].startswith(_READS) and operation not in _READS_LATE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def nothing(operation: str) -> None:
    """Let nothing happen."""


def _environ(request: Any) -> dict[str, Any]:
    """A request of botocore's as WSGI has it."""
    url = urlsplit(request.url)
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    body = body.encode() if isinstance(body, str) else body
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(url.path, encoding="latin-1"),
        "RAW_URI": url.path + (f"?{url.query}" if url.query else ""),
        "QUERY_STRING": url.query,
        "SERVER_NAME": url.hostname or "",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value.decode() if isinstance(value, bytes) else value
    return {**environ, "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": url.netloc}
